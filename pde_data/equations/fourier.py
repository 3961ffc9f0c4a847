"""Integrals of fields on periodic grids, exact for the modes that the grid resolves."""

from __future__ import annotations

from functools import reduce

import numpy as np

from pde_data.grids import Grid


def mean(values: np.ndarray, grid: Grid) -> np.ndarray:
    """Mean over space of values ``(..., *sizes)``, in float64."""
    return values.mean(tuple(range(-grid.ndim, 0)), dtype=np.float64)


def seminorm(values: np.ndarray, grid: Grid, order: int) -> np.ndarray:
    r"""$\sum_{k\ne 0} |k|^{2s} |\hat u_k|^2$ for values ``(..., *sizes)`` and ``order`` $s$.

    For $s=1$ that is the mean of $|\nabla u|^2$, for $s=-1$ and a vorticity that of the squared velocity.

    >>> grid = Grid((8,), lengths=2 * np.pi)
    >>> float(seminorm(np.sin(3 * grid.coordinates[0]), grid, order=1).round(12))
    4.5
    """
    k2 = reduce(np.add.outer, [grid.wavenumbers(a) ** 2 for a in range(grid.ndim)])
    axes = tuple(range(-grid.ndim, 0))
    power = np.abs(np.fft.fftn(values.astype(np.float64), axes=axes, norm="forward")) ** 2
    return (power * np.where(k2 > 0, k2, np.inf if order < 0 else 1.0) ** order * (k2 > 0)).sum(axes)
