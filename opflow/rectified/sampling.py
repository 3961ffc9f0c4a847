"""From a velocity to samples: integrate the ordinary differential equation of a flow."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

FIXED = ("euler", "midpoint", "heun2", "heun3", "rk4", "explicit_adams", "implicit_adams")
"""Solvers of torchdiffeq that take the steps they are told."""
ADAPTIVE = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")
"""Solvers of torchdiffeq that choose their steps by the error."""

Velocity = Callable[[Tensor, Tensor], Tensor]
"""A function of a state `(batch, ...)` and a time (no axes)."""


@dataclass(frozen=True)
class Flowed:
    """Where an ODE has carried a batch, and what that cost."""

    samples: Tensor
    """The states at the end, `(batch, ...)`."""
    nfe: int
    """Evaluations of the velocity, each for a whole batch (or chunk of it)."""
    times: Tensor
    """Times of the trajectory `(time,)`."""
    trajectory: Tensor | None
    """States at those times `(time, batch, ...)`, or None where it was not kept."""


@torch.no_grad()
def integrate(
    velocity: Velocity,
    start: Tensor,
    *,
    method: str = "euler",
    n_steps: int | None = None,
    step_size: float | None = None,
    tolerance: float = 1e-5,
    span: tuple[float, float] = (0.0, 1.0),
    power: float = 1.0,
    keep: bool = False,
) -> Flowed:
    r"""Solve :math:`\dot x = v(x, t)` from one time to another with a solver of torchdiffeq.

    Args:
        velocity: a function of a state and a time.
        start: `(batch, ...)`.
        method: one of `FIXED` or `ADAPTIVE`.
        n_steps: steps of a fixed solver (25 when neither this nor `step_size` is given); times of the kept
            trajectory of an adaptive one.
        step_size: the largest step, in place of `n_steps`.
        tolerance: relative and absolute, for adaptive solvers.
        span: first and last time, either may be the greater.
        power: steps of a fixed solver end at the shares :math:`(i / n)^p` of the way: for p > 1 they are
            shorter at first, where white noise decides what becomes of it.
        keep: keep the trajectory.

    Raises:
        ValueError: the solver is unknown, or the number or size of steps is not positive.
        FloatingPointError: the velocity is not finite; says at which evaluation and time.

    Example:
        >>> flowed = integrate(lambda x, t: x, torch.ones(1, 1), method="rk4", n_steps=8)
        >>> round(float(flowed.samples), 4), flowed.nfe
        (2.7183, 32)
    """
    from torchdiffeq import odeint

    watched = Watched(velocity)
    times = time_grid(span, n_steps, step_size, power).to(start)
    options = {} if check_solver(method) else {"rtol": tolerance, "atol": tolerance}
    kept = times if keep or not options else times[[0, -1]]
    path = odeint(watched, start, kept, method=method, **options)
    assert isinstance(path, Tensor)
    return Flowed(path[-1], watched.count, kept if keep else kept[[0, -1]], path if keep else None)


class Watched:
    """A velocity that counts its evaluations and refuses values that are not finite."""

    def __init__(self, velocity: Velocity):
        self.velocity, self.count = velocity, 0

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        """Evaluate the velocity, time first, as torchdiffeq wants it."""
        v = self.velocity(x, t)
        require_finite(v, self.count, t)
        self.count += 1
        return v


def require_finite(v: Tensor, step: int, t: Tensor | float) -> None:
    """Refuse a velocity that is not finite.

    Raises:
        FloatingPointError: names step and time.
    """
    if not torch.isfinite(v).all():
        raise FloatingPointError(
            f"the velocity is not finite at step {step}, time {float(t):.4g}: the network has diverged, or "
            "the state has left what it was trained on; take smaller steps, or a smaller learning rate"
        )


def check_solver(method: str) -> bool:
    """Return whether a solver takes fixed steps.

    Raises:
        ValueError: there is no such solver.
    """
    if method not in (*FIXED, *ADAPTIVE):
        raise ValueError(
            f"no solver is called {method!r}; with fixed steps there are {', '.join(FIXED)}, with tolerances "
            f"{', '.join(ADAPTIVE)}"
        )
    return method in FIXED


def time_grid(
    span: tuple[float, float], n_steps: int | None, step_size: float | None = None, power: float = 1.0
) -> Tensor:
    """Return the times of steps between two times, float64; arguments as for `integrate`.

    Raises:
        ValueError: the number or size of steps, or the power, is not positive, or both of the former are
            given.

    Example:
        >>> time_grid((1.0, 0.0), 2)
        tensor([1.0000, 0.5000, 0.0000], dtype=torch.float64)
    """
    if step_size is not None:
        if n_steps is not None:
            raise ValueError(f"give n_steps={n_steps} or step_size={step_size}, not both")
        if not step_size > 0:
            raise ValueError(f"step_size={step_size} must be positive")
        n_steps = math.ceil(abs(span[1] - span[0]) / step_size - 1e-9)
    n_steps = 25 if n_steps is None else n_steps
    if n_steps < 1:
        raise ValueError(f"n_steps={n_steps} must be at least 1")
    if not power > 0:
        raise ValueError(f"power={power} must be positive")
    first, last = span
    return first + (last - first) * torch.linspace(0, 1, n_steps + 1, dtype=torch.float64) ** power


def in_chunks(solve: Callable[..., Flowed], chunk: int | None, *tensors: Tensor | None) -> Flowed:
    """Apply `solve` to a batch in pieces of at most `chunk` samples, and put the results together.

    Args:
        solve: a function of the pieces of `tensors`.
        chunk: samples per piece; all when None.
        tensors: `(batch, ...)` each, or None, which is passed on.

    Raises:
        ValueError: `chunk` is not positive.

    Example:
        >>> step = lambda x: Flowed(x + 1, 1, torch.tensor([0.0, 1.0]), None)
        >>> in_chunks(step, 2, torch.zeros(5)).samples
        tensor([1., 1., 1., 1., 1.])
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk={chunk} must be at least 1")
    n = next(len(x) for x in tensors if x is not None)
    size = n if chunk is None else chunk
    pieces = [
        solve(*(None if x is None else x[i : i + size] for x in tensors))
        for i in range(0, max(n, 1), max(size, 1))
    ]
    if len(pieces) == 1:
        return pieces[0]
    paths: Sequence[Tensor] = [p.trajectory for p in pieces if p.trajectory is not None]
    return Flowed(
        torch.cat([p.samples for p in pieces]),
        sum(p.nfe for p in pieces),
        pieces[0].times,
        torch.cat(list(paths), 1) if paths else None,
    )
