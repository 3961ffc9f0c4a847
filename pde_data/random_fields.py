"""Gaussian random fields that are functions first and grid values second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np
import scipy.fft

from pde_data.grids import Grid


@dataclass(frozen=True)
class GaussianRandomField:
    r"""Centred Gaussian field with covariance $2\sigma^2(-\Delta+\tau^2)^{-\alpha}$ on a periodic box.

    $$u(x) = \sum_{k \ne 0} \hat u_k e^{2\pi i k\cdot x/L}, \qquad
    \mathbb{E}|\hat u_k|^2 = \frac{2\sigma^2}{|\Omega|}\,(|2\pi k/L|^2+\tau^2)^{-\alpha}$$

    is the law of the initial vorticity of Li et al., *Fourier Neural Operator* (ICLR 2021), as sampled by
    their code; ``sigma=None`` stands for its $\tau^{(2\alpha-d)/2}$ in $d$ dimensions.

    Random numbers belong to modes, not to grid points: they are drawn shell by shell of $\max_a|k_a|$, so
    that a finer grid appends modes to the same function. Sample ``i`` depends on ``seed`` and ``i`` alone.

    >>> field = GaussianRandomField()
    >>> a = field.sample(0, range(100), Grid((32, 32)))
    >>> b = field.sample(0, [42], Grid((32, 32)))
    >>> bool((a[42] == b[0]).all())
    True
    """

    tau: float = 7.0
    alpha: float = 2.5
    sigma: float | None = None

    def __post_init__(self) -> None:
        _check_law(self.tau, self.sigma)

    def variance(self, grid: Grid) -> np.ndarray:
        r"""Expected $|\hat u_k|^2$ for each mode of ``grid`` in FFT order, zero for the mean; float64."""
        k2 = reduce(np.add.outer, [grid.wavenumbers(a) ** 2 for a in range(grid.ndim)])
        return self._variance(k2, grid)

    def _variance(self, k2: np.ndarray, grid: Grid) -> np.ndarray:
        sigma = self.tau ** ((2 * self.alpha - grid.ndim) / 2) if self.sigma is None else self.sigma
        shifted = np.where(k2 > 0, k2 + self.tau**2, np.inf)
        return 2 * sigma**2 / np.prod(grid.lengths) * shifted**-self.alpha

    def __str__(self) -> str:
        sigma = "" if self.sigma is None else f", sigma={self.sigma:g}"
        return f"Gaussian random field, tau={self.tau:g}, alpha={self.alpha:g}{sigma}, mean 0"

    def sample(self, seed: int, indices: Sequence[int], grid: Grid, component: int = 0) -> np.ndarray:
        """Samples of the given indices as a float64 array of shape ``(len(indices), *grid.sizes)``.

        Samples that differ in ``component`` are independent. The grid carries all modes below its Nyquist
        frequency. Raises ``ValueError`` where the grid is not periodic or an index is negative.
        """
        if not all(grid.periodic):
            raise ValueError(f"the field lives on a periodic box, got a grid with periodic={grid.periodic}")
        highest = tuple((n - 1) // 2 for n in grid.sizes)
        modes = half_modes(max(highest), grid.ndim)
        resolved = np.all(np.abs(modes) <= highest, axis=1)
        kept = modes[resolved]
        wave = 2 * np.pi * kept / np.array(grid.lengths)
        amplitude = np.sqrt(self._variance((wave**2).sum(axis=1), grid) / 2)
        # Cell centres and a displaced origin evaluate the same function elsewhere.
        amplitude = amplitude * np.exp(1j * wave @ np.array([x - o for x, o in zip(grid.first, grid.origin)]))

        half = grid.sizes[-1] // 2 + 1
        place = tuple(kept.T % np.array(grid.sizes)[:, None])
        flat = kept[:, -1] == 0
        mirror = tuple(-kept[flat].T % np.array(grid.sizes)[:, None])
        fields = np.empty((len(indices), *grid.sizes))
        for field, index in zip(fields, indices):
            normal = generator(seed, index, component).standard_normal((len(modes), 2))[resolved]
            coefficients = amplitude * (normal[:, 0] + 1j * normal[:, 1])
            spectrum = np.zeros((*grid.sizes[:-1], half), dtype=complex)
            spectrum[place] = coefficients
            spectrum[mirror] = coefficients[flat].conj()
            field[:] = np.fft.irfftn(spectrum, s=grid.sizes, axes=range(grid.ndim), norm="forward")
        return fields

    def at(
        self, points: np.ndarray, rng: np.random.Generator, highest: int, length: float = 1.0
    ) -> np.ndarray:
        """One sample at any points ``(n, d)``, with modes up to ``highest`` per axis; float64 ``(n,)``.

        The same random numbers give the same function as in :meth:`sample`, on a box of sides ``length`` and
        a grid of ``2 * highest + 1`` points per axis.
        """
        modes, amplitude = self._drawn(highest, points.shape[1], length)
        normal = amplitude[:, None] * rng.standard_normal((len(modes), 2))
        phase = points @ (2 * np.pi * modes / length).T
        return 2 * (np.cos(phase) @ normal[:, 0] - np.sin(phase) @ normal[:, 1])

    def deviation(self, highest: int, ndim: int, length: float = 1.0) -> float:
        """Standard deviation of :meth:`at`, the same everywhere."""
        return float(2 * np.sqrt((self._drawn(highest, ndim, length)[1] ** 2).sum()))

    def _drawn(self, highest: int, ndim: int, length: float) -> tuple[np.ndarray, np.ndarray]:
        """One mode of each pair, and the deviation of either part of its coefficient."""
        modes = half_modes(highest, ndim)
        squares = ((2 * np.pi * modes / length) ** 2).sum(axis=1)
        return modes, np.sqrt(self._variance(squares, Grid((4,) * ndim, lengths=length)) / 2)


@dataclass(frozen=True)
class NeumannRandomField:
    r"""Centred Gaussian field with covariance $\sigma^2(-\Delta+\tau^2)^{-\alpha}$, no flux at the boundary.

    $$u(x) = \sum_{k \ne 0} \xi_k\,\sigma\,(|\pi k/L|^2+\tau^2)^{-\alpha/2}\,\phi_k(x), \qquad
    \phi_k(x) \propto \prod_a \cos(\pi k_a x_a/L_a), \quad \|\phi_k\|_{L^2} = 1, \quad k \in \mathbb{N}^d$$

    is the field behind the Darcy coefficients of Li et al., *Fourier Neural Operator* (ICLR 2021);
    ``sigma=None`` stands for the $\tau^{(2\alpha-d)/2}$ of their code. Random numbers belong to modes, as in
    :class:`GaussianRandomField`: a finer grid appends modes to the same function.

    >>> coarse, fine = Grid(5, periodic=False), Grid(257, periodic=False)
    >>> a, b = (NeumannRandomField(alpha=8.0).sample(0, [3], grid)[0] for grid in (coarse, fine))
    >>> bool(np.allclose(a, b[::64], atol=1e-3 * a.std()))
    True
    """

    tau: float = 3.0
    alpha: float = 2.0
    sigma: float | None = None

    def __post_init__(self) -> None:
        _check_law(self.tau, self.sigma)

    def sample(self, seed: int, indices: Sequence[int], grid: Grid) -> np.ndarray:
        """Samples of the given indices as a float64 array of shape ``(len(indices), *grid.sizes)``.

        The grid, of nodes or of cells, carries as many modes as it has points. Raises ``ValueError`` where
        the grid is periodic or an index is negative.
        """
        if any(grid.periodic):
            raise ValueError(f"the field lives on a bounded box, got a grid with periodic={grid.periodic}")
        modes = _cosine_modes(max(grid.sizes) - 1, grid.ndim)
        resolved = np.all(modes < grid.sizes, axis=1)
        kept = modes[resolved]
        k2 = ((np.pi * kept / np.array(grid.lengths)) ** 2).sum(axis=1)
        sigma = self.tau ** ((2 * self.alpha - grid.ndim) / 2) if self.sigma is None else self.sigma
        norm = np.sqrt(2.0 ** np.count_nonzero(kept, axis=1) / np.prod(grid.lengths))
        amplitude = sigma * (k2 + self.tau**2) ** (-self.alpha / 2) * norm
        # The transforms count each cosine twice but for those that are 1 or alternate in sign on the grid.
        closed = grid.location == "node"
        twice = (kept > 0) & ~(closed & (kept == np.array(grid.sizes) - 1))
        amplitude *= 0.5 ** twice.sum(axis=1)
        fields = np.empty((len(indices), *grid.sizes))
        for field, index in zip(fields, indices):
            spectrum = np.zeros(grid.sizes)
            spectrum[tuple(kept.T)] = amplitude * generator(seed, index).standard_normal(len(modes))[resolved]
            field[:] = scipy.fft.dctn(spectrum, type=1 if closed else 3)
        return fields


def _check_law(tau: float, sigma: float | None) -> None:
    if not tau >= 0:
        raise ValueError(f"tau={tau} must not be negative")
    if sigma is not None and not sigma > 0:
        raise ValueError(f"sigma={sigma} must be positive")


def generator(seed: int, index: int, component: int = 0) -> np.random.Generator:
    """Random numbers for one field of one sample; ``ValueError`` for a negative index."""
    if index < 0:
        raise ValueError(f"sample indices count from 0, got {index}")
    key = (int(index), component) if component else (int(index),)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@lru_cache(maxsize=8)
def _cosine_modes(highest: int, ndim: int) -> np.ndarray:
    """Modes with ``0 < max k <= highest``, in shells of ``max k``; (m, d)."""
    modes = np.indices((highest + 1,) * ndim).reshape(ndim, -1).T[1:]
    return modes[np.lexsort((*modes.T, modes.max(axis=1)))]


@lru_cache(maxsize=8)
def half_modes(highest: int, ndim: int) -> np.ndarray:
    """One mode of each pair ``+-k`` with ``0 < max|k| <= highest``, in shells of ``max|k|``; (m, d)."""
    axis = np.arange(-highest, highest + 1)
    modes = np.stack(np.meshgrid(*([axis] * ndim), indexing="ij"), axis=-1).reshape(-1, ndim)
    # The last component counts first, as the real FFT keeps its non-negative half.
    order = modes @ (2 * highest + 1) ** np.arange(ndim)
    modes, order = modes[order > 0], order[order > 0]
    shells = np.abs(modes).max(axis=1)
    # Within a shell the order must not depend on `highest`: sort by components.
    return modes[np.lexsort((*modes.T, shells))]
