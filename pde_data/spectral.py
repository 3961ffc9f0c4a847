"""Batched pseudo-spectral time stepping: ETDRK4 with an adaptive, guarded step."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import count

import numpy as np
import torch

from pde_data.grids import Grid

_COEFFICIENT_SETS = 32  # step sizes whose coefficients are kept
_WINDOW = 16  # steps between two choices of the step size
_CHUNK_BYTES = {"cpu": 135_000, "cuda": 64_000_000}  # one work array: fits the cache, fills the GPU


class SolverError(RuntimeError):
    """The time step could not be made small enough for a stable solution."""


class Spectrum:
    """Real FFTs on a periodic grid with the 2/3 rule; modes are complex ``(batch, *half_sizes)``.

    Kept are the modes ``|k| < n/3`` of each axis, for which products of two fields are free of aliasing.

    >>> spectrum = Spectrum(Grid((9, 6)), torch.float64)
    >>> spectrum.half_sizes, int(spectrum.mask.sum())
    ((9, 4), 10)
    """

    def __init__(self, grid: Grid, dtype: torch.dtype, device: torch.device | str = "cpu"):
        if not all(grid.periodic):
            raise ValueError(f"a Fourier method needs a periodic grid, got periodic={grid.periodic}")
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
        self.grid, self.dtype, self.device = grid, dtype, torch.device(device)
        self.complex_dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
        self.dims = tuple(range(-grid.ndim, 0))
        self.half_sizes = (*grid.sizes[:-1], grid.sizes[-1] // 2 + 1)
        self.highest = tuple((n - 1) // 3 for n in grid.sizes)
        self.wavenumbers = []
        mask = torch.ones(self.half_sizes, dtype=torch.bool)
        for a, (length, m) in enumerate(zip(grid.lengths, self.half_sizes)):
            shape = [1] * grid.ndim
            shape[a] = m
            k = torch.from_numpy(grid.wavenumbers(a)[:m].copy()).reshape(shape)
            self.wavenumbers.append(k)
            mask &= k.abs() * length / (2 * np.pi) < self.highest[a] + 0.5
        self.mask = mask.to(self.device)

    @property
    def highest_wavenumbers(self) -> tuple[float, ...]:
        """Largest angular wavenumber kept on each axis."""
        return tuple(2 * np.pi * k / length for k, length in zip(self.highest, self.grid.lengths))

    def to_modes(self, values: torch.Tensor) -> torch.Tensor:
        """Dealiased modes of real values ``(batch, *sizes)``."""
        values = values.to(self.device, self.dtype)
        return torch.fft.rfftn(values, dim=self.dims) * self.mask

    def to_values(self, modes: torch.Tensor) -> torch.Tensor:
        """Real values ``(batch, *sizes)`` of modes."""
        return torch.fft.irfftn(modes, s=self.grid.sizes, dim=self.dims)


class Nonlinear(ABC):
    """The part of the equation that is not diagonal in Fourier space, with its work arrays."""

    @abstractmethod
    def __call__(self, modes: torch.Tensor, out: torch.Tensor) -> None:
        """Write the nonlinear term of ``modes`` (complex, ``(batch, *half_sizes)``) to ``out``."""

    @abstractmethod
    def rate(self) -> torch.Tensor:
        """``(batch,)``: the largest eigenvalue (1/time) of the term linearised about the last argument."""


def phi_functions(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    r"""$\varphi_1, \varphi_2, \varphi_3$ of exponential integrators, to rounding, for float64 or complex128.

    $\varphi_0 = e^z$ and $\varphi_{j+1}(z) = (\varphi_j(z) - 1/j!)/z$, by Taylor series where $|z| < 1$.

    >>> [float(p) for p in phi_functions(torch.zeros((), dtype=torch.float64))]
    [1.0, 0.5, 0.16666666666666666]
    """
    small = z.abs() < 1
    inner = torch.where(small, z, 0)
    outer = torch.where(small, 1, z)
    results, previous = [], torch.exp(outer)
    for j in (1, 2, 3):
        # expm1 spares the first difference its cancellation.
        previous = (torch.expm1(outer) if j == 1 else previous - 1 / math.factorial(j - 1)) / outer
        series, term = torch.zeros_like(z), torch.ones_like(z) / math.factorial(j)
        for m in range(1, 20):
            series = series + term
            term = term * inner / (j + m)
        results.append(torch.where(small, series, previous))
    return results[0], results[1], results[2]


class ETDRK4:
    r"""Fourth-order exponential Runge-Kutta steps for $\hat u_t = \lambda\hat u + N(\hat u)$, batched.

    Cox and Matthews (J. Comput. Phys. 176, 2002); the linear part is solved exactly. ``linear`` holds
    $\lambda$ in float64 or complex128 over the half spectrum. Work arrays are allocated once, for at most
    ``batch`` samples; coefficients are kept per step size.
    """

    def __init__(self, spectrum: Spectrum, linear: torch.Tensor, nonlinear: Nonlinear, batch: int):
        self.spectrum, self.linear, self.nonlinear, self.batch = spectrum, linear, nonlinear, batch
        shape = (batch, *spectrum.half_sizes)
        self._work = [
            torch.zeros(shape, dtype=spectrum.complex_dtype, device=spectrum.device) for _ in range(6)
        ]
        self._coefficients: dict[float, tuple[torch.Tensor, ...]] = {}

    def coefficients(self, dt: float) -> tuple[torch.Tensor, ...]:
        """Coefficients of a step ``dt``: whole and half propagator, stage weight, and the three final weights."""
        if dt not in self._coefficients:
            if len(self._coefficients) == _COEFFICIENT_SETS:
                del self._coefficients[next(iter(self._coefficients))]
            z = self.linear * dt
            p1, p2, p3 = phi_functions(z)
            half = dt / 2 * phi_functions(z / 2)[0]
            exact = (
                torch.exp(z),
                torch.exp(z / 2),
                half,
                dt * (p1 - 3 * p2 + 4 * p3),
                dt * (2 * p2 - 4 * p3),
                dt * (4 * p3 - p2),
            )
            dtype = self.spectrum.complex_dtype if z.is_complex() else self.spectrum.dtype
            self._coefficients[dt] = tuple(self._layout(c.to(self.spectrum.device, dtype)) for c in exact)
        return self._coefficients[dt]

    def _layout(self, coefficient: torch.Tensor) -> torch.Tensor:
        if coefficient.is_complex():
            return coefficient
        return torch.stack([coefficient, coefficient], dim=-1)

    def _arithmetic(self, modes: torch.Tensor) -> torch.Tensor:
        # Real coefficients act on real and imaginary parts: half the work of complex products.
        return modes if self.linear.is_complex() else torch.view_as_real(modes)

    def step(self, modes: torch.Tensor, dt: float) -> None:
        """Advance ``modes`` ``(batch, *half_sizes)`` by ``dt`` in place."""
        whole, half, q, f1, f2, f3 = self.coefficients(dt)
        work = [w[: len(modes)] for w in self._work]
        n0, na, nb, nc, stage, other = work
        u, v0, va, vb, vc, s, t = (self._arithmetic(x) for x in (modes, n0, na, nb, nc, stage, other))
        self.nonlinear(modes, n0)
        torch.mul(u, half, out=t)
        torch.addcmul(t, v0, q, out=s)
        self.nonlinear(stage, na)
        t.addcmul_(va, q)
        self.nonlinear(other, nb)
        s.mul_(half)
        torch.sub(vb, v0, alpha=0.5, out=t)
        s.addcmul_(t, q, value=2)
        self.nonlinear(stage, nc)
        va.add_(vb)
        u.mul_(whole).addcmul_(v0, f1).addcmul_(va, f2).addcmul_(vc, f3)


class Integrator:
    """Carries independent samples to requested times, each with its own sequence of stable steps.

    The step of a sample is the interval between two requested times divided by an integer, chosen every
    16 steps such that ``courant = dt * rate`` stays near the target; ``dt`` asks for a fixed step instead.
    A window of steps in which ``courant`` exceeds ``limit`` or a value is not finite is discarded and
    repeated with half the step. No decision depends on which samples are computed together.
    """

    def __init__(self, stepper: ETDRK4, courant: float, limit: float, dt: float | None = None):
        self.stepper, self.courant, self.limit, self.dt = stepper, courant, limit, dt

    def __call__(self, modes: torch.Tensor, times: Sequence[float]) -> Iterator[torch.Tensor]:
        """Yield the modes at each of the increasing ``times`` (from 0); valid until the next is asked for.

        ``steps`` and ``max_courant`` hold the number of steps and the largest Courant number of each sample
        so far. Raises :class:`SolverError` when halving the step does not help.
        """
        self.steps = np.zeros(len(modes), dtype=np.int64)
        self.max_courant = np.zeros(len(modes))
        self._rate = np.concatenate([self._initial_rate(modes[c]) for c in self._chunks(range(len(modes)))])
        now = 0.0
        for time in times:
            if time > now:
                # 13 digits: the same interval between any two equidistant times.
                self._advance(modes, float(f"{time - now:.13g}"), now)
            now = time
            yield modes

    def _chunks(self, members: Sequence[int]) -> Iterator[list[int]]:
        members = list(members)
        for i in range(0, len(members), self.stepper.batch):
            yield members[i : i + self.stepper.batch]

    def _initial_rate(self, modes: torch.Tensor) -> np.ndarray:
        self.stepper.nonlinear(modes, torch.empty_like(modes))
        return self.stepper.nonlinear.rate().double().cpu().numpy()

    def _divisions(self, interval: float) -> Iterator[int]:
        """Candidates for the number of steps per interval, increasing."""
        if self.dt is not None:
            yield from (int(np.ceil(interval / self.dt - 1e-9)) << j for j in count())
        yield from (1, 2, 3)
        for j in count():
            yield from (4 << j, 5 << j, 6 << j, 7 << j)

    def _advance(self, modes: torch.Tensor, interval: float, start: float) -> None:
        done = [Fraction(0)] * len(modes)
        least = [1.0] * len(modes)
        while pending := [i for i, fraction in enumerate(done) if fraction < 1]:
            groups: dict[tuple[int, int], list[int]] = defaultdict(list)
            for i in pending:
                wanted = least[i] if self.dt else max(least[i], interval * self._rate[i] / self.courant)
                n = next(
                    n for n in self._divisions(interval) if n >= wanted and (n * done[i]).denominator == 1
                )
                groups[n, min(_WINDOW, int(n * (1 - done[i])))].append(i)
            for (n, length), members in sorted(groups.items()):
                for chunk in self._chunks(members):
                    for i, accepted in zip(chunk, self._window(modes, chunk, interval / n, length)):
                        if accepted:
                            done[i] += Fraction(length, n)
                        elif interval / n * 2**40 < interval:
                            raise SolverError(
                                f"sample {i} blows up near t={start + float(done[i]) * interval:.6g} even with "
                                f"dt={interval / n:.3g}: is the initial condition finite and resolved?"
                            )
                        else:
                            least[i] = 2 * n

    def _window(self, modes: torch.Tensor, chunk: list[int], dt: float, length: int) -> np.ndarray:
        """Advance a chunk by ``length`` steps where that is stable; returns which samples it was."""
        state = modes[chunk]
        peak = torch.zeros(len(chunk), dtype=modes.real.dtype, device=modes.device)
        for _ in range(length):
            self.stepper.step(state, dt)
            # The last stage has seen the state at the end of the step.
            last = self.stepper.nonlinear.rate()
            peak = torch.maximum(peak, last)
        courant = dt * peak.double().cpu().numpy()
        finite = torch.isfinite(torch.view_as_real(state)).flatten(1).all(1).cpu().numpy()
        accepted = finite & (courant <= self.limit)
        kept = np.flatnonzero(accepted)
        index = np.asarray(chunk)[kept]
        modes[index] = state[kept]
        self.steps[index] += length
        self.max_courant[index] = np.maximum(self.max_courant[index], courant[kept])
        self._rate[index] = last.double().cpu().numpy()[kept]
        return accepted


def chunk_size(spectrum: Spectrum, fields: int = 1) -> int:
    """Number of samples whose work arrays of ``fields`` real fields suit the cache of the device."""
    element = torch.finfo(spectrum.dtype).bits // 8
    budget = _CHUNK_BYTES.get(spectrum.device.type, _CHUNK_BYTES["cuda"])
    return max(1, budget // (fields * element * int(np.prod(spectrum.grid.sizes))))


NonlinearFactory = Callable[[Spectrum, int], Nonlinear]
