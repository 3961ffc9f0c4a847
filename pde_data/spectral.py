"""Batched pseudo-spectral time stepping: truncated Fourier space and ETDRK4 steps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import reduce
from typing import Protocol, final

import numpy as np
import torch

from pde_data.grids import Grid

_COEFFICIENT_SETS = 32  # step sizes whose coefficients are kept
_CHUNK_BYTES = {"cpu": 270_000, "cuda": 64_000_000}  # one work array: near the cache, fills the GPU


def highest_mode(n: int, degree: int = 2) -> int:
    """The highest mode below ``n / (degree + 1)``: of products of so many fields none folds back on these."""
    return (n - 1) // (degree + 1)


class Spectrum:
    """Fourier space of real fields on a periodic grid, cut so that products have no aliasing.

    Kept are the modes ``|k| < n / (degree + 1)`` of each axis, for which products of ``degree`` fields are
    free of aliasing: the 2/3 rule for two, the 1/2 rule for three.
    Modes are complex ``(batch, highest + 1, *sizes[:-1])``: the half axis of the real transform comes first
    and holds only what is kept, the other axes are in FFT order and masked. So both passes of a 2-D transform
    run along contiguous memory, the complex one over a third of the lines.

    >>> spectrum = Spectrum(Grid((9, 6)), torch.float64)
    >>> spectrum.shape, int(spectrum.mask.sum())
    ((2, 9), 10)

    Raises ``ValueError`` for a grid that is not periodic, ``TypeError`` for a dtype other
    than float32 and float64.
    """

    def __init__(self, grid: Grid, dtype: torch.dtype, device: torch.device | str = "cpu", degree: int = 2):
        if not all(grid.periodic):
            raise ValueError(f"a Fourier method needs a periodic grid, got periodic={grid.periodic}")
        if dtype not in (torch.float32, torch.float64):
            raise TypeError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
        self.grid, self.dtype, self.device = grid, dtype, torch.device(device)
        self.complex_dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
        self.highest = tuple(highest_mode(n, degree) for n in grid.sizes)
        self.shape = (self.highest[-1] + 1, *grid.sizes[:-1])
        self._other_axes = tuple(range(1 - grid.ndim, 0))
        mask = torch.ones(self.shape, dtype=torch.bool)
        wavenumbers = []
        for a, highest in enumerate(self.highest):
            position = (a + 1) % grid.ndim
            shape = [1] * grid.ndim
            shape[position] = self.shape[position]
            k = torch.from_numpy(grid.wavenumbers(a)[: self.shape[position]].copy()).reshape(shape)
            wavenumbers.append(k)
            mask &= k.abs() * grid.lengths[a] < 2 * np.pi * (highest + 0.5)
        self.wavenumbers: tuple[torch.Tensor, ...] = tuple(wavenumbers)
        """Angular wavenumbers of each axis of the grid, float64 on the CPU, to be broadcast against modes."""
        self.mask = mask
        self._padded = torch.empty(0)

    @property
    def squared(self) -> torch.Tensor:
        """Squared length of the wave vector, float64 on the CPU, of shape ``shape``."""
        return reduce(torch.add, [k**2 for k in self.wavenumbers])

    @property
    def multiplicity(self) -> torch.Tensor:
        """How many modes of the field each stored mode stands for: 0 for the mean and what is cut, 1 or 2."""
        half = torch.where(self.wavenumbers[-1] > 0, 2.0, 1.0) * self.mask
        return torch.where(self.squared > 0, half, 0).to(self.device)

    @property
    def outer(self) -> torch.Tensor:
        """Mask of the modes in the outer tenth of those kept, along any axis."""
        beyond = [k.abs() > 0.9 * top for k, top in zip(self.wavenumbers, self.highest_wavenumbers)]
        return reduce(torch.logical_or, beyond).logical_and(self.mask).to(self.device)

    @property
    def highest_wavenumbers(self) -> tuple[float, ...]:
        """Largest angular wavenumber kept on each axis."""
        return tuple(2 * np.pi * k / length for k, length in zip(self.highest, self.grid.lengths))

    # PyTorch's transforms are faster into fresh memory than with `out=`, hence no work arrays for results.

    def to_modes(self, values: torch.Tensor) -> torch.Tensor:
        """Modes of real values ``(..., *sizes)``; what the mask cuts is not zeroed, see :meth:`project`."""
        half = torch.fft.rfft(values, dim=-1)[..., : self.shape[0]]
        half = half.movedim(-1, -self.grid.ndim).contiguous()
        return torch.fft.fftn(half, dim=self._other_axes) if self._other_axes else half

    def to_values(self, modes: torch.Tensor) -> torch.Tensor:
        """Real values ``(..., *sizes)`` of modes."""
        if self._other_axes:
            modes = torch.fft.ifftn(modes, dim=self._other_axes)
        lead = modes.shape[: -self.grid.ndim]
        n = math.prod(lead)
        if len(self._padded) < n:
            self._padded = modes.new_zeros(n, *self.grid.sizes[:-1], self.grid.sizes[-1] // 2 + 1)
        padded = self._padded[:n].view(*lead, *self._padded.shape[1:])
        padded[..., : self.shape[0]].copy_(modes.movedim(-self.grid.ndim, -1))
        return torch.fft.irfft(padded, n=self.grid.sizes[-1], dim=-1)

    def project(self, values: torch.Tensor) -> torch.Tensor:
        """Modes of values of any device and floating point type, cut to those that are kept."""
        return self.to_modes(values.to(self.device, self.dtype)) * self.mask.to(self.device)

    def chunk_size(self) -> int:
        """Number of samples to compute together: as many as the cache of the device likes."""
        budget = _CHUNK_BYTES.get(self.device.type, _CHUNK_BYTES["cuda"])
        return max(1, budget // (self.dtype.itemsize * math.prod(self.grid.sizes)))


class Nonlinear(ABC):
    """The part of the equation that is not diagonal in Fourier space, with its work arrays."""

    @abstractmethod
    def __call__(self, modes: torch.Tensor, out: torch.Tensor) -> None:
        """Write the nonlinear term of ``modes`` (complex, ``(batch, *spectrum.shape)``) to ``out``."""

    @abstractmethod
    def rate(self) -> torch.Tensor:
        """``(batch,)``: the largest eigenvalue (1/time) of the term linearised about the last argument."""

    def diagnostics(self, modes: torch.Tensor) -> dict[str, torch.Tensor]:
        """Measures of discretisation error in a solution, ``(batch,)`` each, by name."""
        return {}


@final
class Zero(Nonlinear):
    """No such part: the equation is linear with constant coefficients, and one step is exact."""

    def __call__(self, modes: torch.Tensor, out: torch.Tensor) -> None:
        """See :class:`Nonlinear`."""
        self._rate = modes.real.new_zeros(len(modes))
        out.zero_()

    def rate(self) -> torch.Tensor:
        """See :class:`Nonlinear`."""
        return self._rate


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


class ModeSpace(Protocol):
    """What a time step asks of the space of modes."""

    dtype: torch.dtype
    complex_dtype: torch.dtype
    device: torch.device


class ETDRK4:
    r"""Fourth-order exponential Runge-Kutta steps for $\hat u_t = \lambda\hat u + N(\hat u)$, batched.

    Cox and Matthews (J. Comput. Phys. 176, 2002); the linear part is solved exactly. ``linear`` holds
    $\lambda$ in float64 or complex128, of shape ``spectrum.shape`` or ``(component, *spectrum.shape)``; modes
    have the same shape after the batch axis. Work arrays are allocated once, for at most
    ``batch`` samples; coefficients are kept per step size.
    """

    def __init__(self, spectrum: ModeSpace, linear: torch.Tensor, nonlinear: Nonlinear, batch: int):
        self.spectrum, self.linear, self.nonlinear, self.batch = spectrum, linear, nonlinear, batch
        shape = (batch, *linear.shape)
        self._work = [
            torch.zeros(shape, dtype=spectrum.complex_dtype, device=spectrum.device) for _ in range(6)
        ]
        self._coefficients: dict[float, tuple[torch.Tensor, ...]] = {}

    def coefficients(self, dt: float) -> tuple[torch.Tensor, ...]:
        """Coefficients of a step: whole and half propagator, stage weight, three final weights."""
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
        """Advance ``modes`` ``(batch, *linear.shape)`` by ``dt`` in place."""
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
        u.mul_(whole).addcmul_(v0, f1).addcmul_(va, f2).addcmul_(vb, f2).addcmul_(vc, f3)

    def error(self, modes: torch.Tensor, dt: float) -> torch.Tensor:
        """``(batch,)``: relative size ``dt |N_b - N_a| / |u|`` of a term of order 3 in the step just made.

        It needs no further evaluation; the error of the step itself is of order 5.
        """
        na, nb = self._work[1][: len(modes)], self._work[2][: len(modes)]
        difference = torch.linalg.vector_norm((nb - na).flatten(1), dim=1)
        return dt * difference / torch.linalg.vector_norm(modes.flatten(1), dim=1).clamp_min(1e-30)
