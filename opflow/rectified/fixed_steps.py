"""Euler, midpoint and Heun steps as a loop of their own, compiled on request."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from opflow.rectified.sampling import Flowed, require_finite, time_grid


def _euler(v: Callable, x: Tensor, t: Tensor, dt: Tensor, *args) -> Tensor:
    return x + dt * v(x, t, *args)


def _midpoint(v: Callable, x: Tensor, t: Tensor, dt: Tensor, *args) -> Tensor:
    half = x + dt / 2 * v(x, t, *args)
    return x + dt * v(half, t + dt / 2, *args)


def _heun(v: Callable, x: Tensor, t: Tensor, dt: Tensor, *args) -> Tensor:
    first = v(x, t, *args)
    return x + dt / 2 * (first + v(x + dt * first, t + dt, *args))


STEPS = {"euler": (_euler, 1), "midpoint": (_midpoint, 2), "heun2": (_heun, 2)}


class FixedSteps:
    """A sampler with a fixed number of steps, made once and called often.

    Args:
        velocity: a function of a state `(batch, ...)`, a time (no axes) and further tensors.
        method: "euler", "midpoint" or "heun2", as in torchdiffeq.
        n_steps: number of steps.
        span: first and last time.
        power: shorter steps at first, as for `integrate`.
        compile: compile a step with torch.compile, at its first call for each shape.

    Raises:
        ValueError: the method is unknown, or `n_steps` is not positive.

    Example:
        >>> sampler = FixedSteps(lambda x, t: x, "midpoint", n_steps=50)
        >>> flowed = sampler(torch.ones(1, 1))
        >>> round(float(flowed.samples), 3), flowed.nfe
        (2.718, 100)
    """

    def __init__(
        self,
        velocity: Callable[..., Tensor],
        method: str = "euler",
        n_steps: int = 25,
        span: tuple[float, float] = (0.0, 1.0),
        power: float = 1.0,
        compile: bool = False,
    ):
        if method not in STEPS:
            raise ValueError(f"no loop of fixed steps is called {method!r}; there are {', '.join(STEPS)}")
        self.times = time_grid(span, n_steps, power=power)
        step, self.evaluations = STEPS[method]

        def advance(x: Tensor, t: Tensor, dt: Tensor, *args: Any) -> Tensor:
            return step(velocity, x, t, dt, *args)

        self.step = torch.compile(advance) if compile else advance

    @torch.no_grad()
    def __call__(self, start: Tensor, *args: Tensor | None, keep: bool = False) -> Flowed:
        """Carry `start` `(batch, ...)` to the last time.

        Args:
            start: the states at the first time.
            args: further arguments of the velocity, such as a condition.
            keep: keep the trajectory.

        Raises:
            FloatingPointError: the velocity is not finite; says at which step and time.
        """
        times = self.times.to(start)
        x, kept = start, [start]
        for i, (t, dt) in enumerate(zip(times, times.diff())):
            x = self.step(x, t, dt, *args)
            require_finite(x, i, t)
            if keep:
                kept.append(x)
        nfe = self.evaluations * (len(times) - 1)
        return Flowed(x, nfe, times if keep else times[[0, -1]], torch.stack(kept) if keep else None)
