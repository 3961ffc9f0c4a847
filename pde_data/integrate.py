"""Carrying samples to requested times with steps that are stable and accurate."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import count

import numpy as np
import torch

from pde_data.spectral import ETDRK4

COURANT = 2.2
"""Target of the Courant number: advective frequency times step."""
LIMIT = 2.8
"""Steps above this Courant number are repeated: the end of ETDRK4's stability on the imaginary axis."""
TOLERANCE = 5e-5
"""Target of :meth:`ETDRK4.error`; chosen by measurement, see ``benchmarks/generate_navier_stokes.py``."""
_WINDOW = 16  # steps between two choices of the step size
_EXCESS = 1.5  # a step this many times too long is repeated
_MOST_STEPS = 1 << 30  # per interval


class SolverError(RuntimeError):
    """The time step could not be made small enough for a stable solution."""


class Integrator:
    """Carries independent samples to requested times, each with its own sequence of steps.

    The step of a sample is the interval between two requested times divided by an integer, chosen every
    16 steps for the Courant number and the error estimate to meet their targets; ``dt`` asks for a fixed step
    instead. A window of steps that turns out unstable, not finite or (with steps of our choice) too
    inaccurate is discarded and repeated with half the step. No decision depends on which samples are
    computed together.
    """

    def __init__(self, stepper: ETDRK4, dt: float | None = None, tolerance: float = TOLERANCE):
        self.stepper, self.dt, self.tolerance = stepper, dt, tolerance

    def __call__(self, modes: torch.Tensor, times: Sequence[float] | np.ndarray) -> Iterator[torch.Tensor]:
        """Advance ``modes`` in place from time 0 and yield them at each of the increasing ``times``.

        ``steps``, ``shortest`` and ``max_courant`` hold the number of steps, the shortest step and the
        largest Courant number of each sample so far. Raises :class:`SolverError` when halving the step
        does not help.
        """
        self.steps = np.zeros(len(modes), dtype=np.int64)
        self.max_courant = np.zeros(len(modes))
        self.shortest = np.full(len(modes), np.inf)
        self._demand = np.concatenate(
            [self._initial_demand(modes[c]) for c in self._chunks(range(len(modes)))]
        )
        now = 0.0
        for time in times:
            if time > now:
                # 13 digits: the same interval between any two equidistant times.
                self._advance(modes, float(f"{time - now:.13g}"), now)
            now = time
            yield modes

    def _chunks(self, members: Sequence[int]) -> Iterator[list[int]]:
        for i in range(0, len(members), self.stepper.batch):
            yield list(members[i : i + self.stepper.batch])

    def _initial_demand(self, modes: torch.Tensor) -> np.ndarray:
        """Steps per unit of time that the Courant number asks for."""
        self.stepper.nonlinear(modes, torch.empty_like(modes))
        return _numpy(self.stepper.nonlinear.rate()) / COURANT

    def _divisions(self, interval: float) -> Iterator[int]:
        """Candidates for the number of steps per interval, increasing."""
        if self.dt is not None:
            yield from (math.ceil(interval / self.dt - 1e-9) << j for j in count())
        yield from (1, 2, 3)
        yield from (m << j for j in count() for m in (4, 5, 6, 7))

    def _advance(self, modes: torch.Tensor, interval: float, start: float) -> None:
        done = [Fraction(0)] * len(modes)
        least = [1] * len(modes)
        while pending := [i for i, fraction in enumerate(done) if fraction < 1]:
            groups: dict[tuple[int, int], list[int]] = defaultdict(list)
            for i in pending:
                wanted = least[i] if self.dt else max(least[i], interval * self._demand[i])
                n = next(
                    n for n in self._divisions(interval) if n >= wanted and (n * done[i]).denominator == 1
                )
                # The first step is a trial: only its error estimate tells the demand.
                window = _WINDOW if self.steps[i] else 1
                groups[n, min(window, int(n * (1 - done[i])))].append(i)
            for (n, length), members in sorted(groups.items()):
                for chunk in self._chunks(members):
                    for i, accepted in zip(chunk, self._window(modes, chunk, interval / n, length)):
                        if accepted:
                            done[i] += Fraction(length, n)
                        elif n > _MOST_STEPS:
                            raise SolverError(
                                f"sample {i} blows up near t={start + float(done[i]) * interval:.6g} even "
                                f"with dt={interval / n:.3g}: are the initial values of sensible size?"
                            )
                        else:
                            least[i] = 2 * n

    def _window(self, modes: torch.Tensor, chunk: list[int], dt: float, length: int) -> np.ndarray:
        """Advance a chunk by ``length`` steps; returns for which samples that was good enough to keep."""
        stepper, state = self.stepper, modes[chunk]
        peak = torch.zeros(len(chunk), dtype=state.real.dtype, device=state.device)
        for _ in range(length):
            stepper.step(state, dt)
            # The last stage has seen the state at the end of the step.
            last = stepper.nonlinear.rate()
            peak = torch.maximum(peak, last)
        courant = dt * _numpy(peak)
        finite = _numpy(torch.isfinite(torch.view_as_real(state)).flatten(1).all(1)) > 0
        excess = np.cbrt(_numpy(stepper.error(state, dt)) / self.tolerance)
        accepted = finite & (courant <= LIMIT)
        if self.dt is None:
            accepted &= excess <= _EXCESS
        kept = np.flatnonzero(accepted)
        index = np.asarray(chunk)[kept]
        modes[index] = state[kept]
        self.steps[index] += length
        self.shortest[index] = np.minimum(self.shortest[index], dt)
        self.max_courant[index] = np.maximum(self.max_courant[index], courant[kept])
        self._demand[index] = np.maximum(_numpy(last) / COURANT, excess / dt)[kept]
        return accepted


def _numpy(x: torch.Tensor) -> np.ndarray:
    return x.double().cpu().numpy()
