"""Gaussian random fields that are functions first and grid values second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce

import numpy as np

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
        if not self.tau >= 0:
            raise ValueError(f"tau={self.tau} must not be negative")
        if self.sigma is not None and not self.sigma > 0:
            raise ValueError(f"sigma={self.sigma} must be positive")

    def variance(self, grid: Grid) -> np.ndarray:
        r"""Expected $|\hat u_k|^2$ for each mode of ``grid`` in FFT order, zero for the mean; float64."""
        k2 = reduce(np.add.outer, [grid.wavenumbers(a) ** 2 for a in range(grid.ndim)])
        return self._variance(k2, grid)

    def _variance(self, k2: np.ndarray, grid: Grid) -> np.ndarray:
        sigma = self.tau ** ((2 * self.alpha - grid.ndim) / 2) if self.sigma is None else self.sigma
        shifted = np.where(k2 > 0, k2 + self.tau**2, np.inf)
        return 2 * sigma**2 / np.prod(grid.lengths) * shifted**-self.alpha

    def sample(self, seed: int, indices: Sequence[int], grid: Grid) -> np.ndarray:
        """Samples of the given indices as a float64 array of shape ``(len(indices), *grid.sizes)``.

        The grid carries all modes below its Nyquist frequency. Raises ``ValueError`` where the grid is not
        periodic or an index is negative.
        """
        if not all(grid.periodic):
            raise ValueError(f"the field lives on a periodic box, got a grid with periodic={grid.periodic}")
        highest = tuple((n - 1) // 2 for n in grid.sizes)
        modes = _half_modes(max(highest), grid.ndim)
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
            if index < 0:
                raise ValueError(f"sample indices count from 0, got {index}")
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(index),)))
            normal = rng.standard_normal((len(modes), 2))[resolved]
            coefficients = amplitude * (normal[:, 0] + 1j * normal[:, 1])
            spectrum = np.zeros((*grid.sizes[:-1], half), dtype=complex)
            spectrum[place] = coefficients
            spectrum[mirror] = coefficients[flat].conj()
            field[:] = np.fft.irfftn(spectrum, s=grid.sizes, axes=range(grid.ndim), norm="forward")
        return fields


@lru_cache(maxsize=8)
def _half_modes(highest: int, ndim: int) -> np.ndarray:
    """One mode of each pair ``+-k`` with ``0 < max|k| <= highest``, in shells of ``max|k|``; (m, d)."""
    axis = np.arange(-highest, highest + 1)
    modes = np.stack(np.meshgrid(*([axis] * ndim), indexing="ij"), axis=-1).reshape(-1, ndim)
    # The last component counts first, as the real FFT keeps its non-negative half.
    order = modes @ (2 * highest + 1) ** np.arange(ndim)
    modes, order = modes[order > 0], order[order > 0]
    shells = np.abs(modes).max(axis=1)
    # Within a shell the order must not depend on `highest`: sort by components.
    return modes[np.lexsort((*modes.T, shells))]
