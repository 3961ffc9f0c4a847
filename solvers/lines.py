"""Where the cells of a masked grid lie in memory: with a rim of one cell, in runs along the last axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Lines:
    """Where the fluid cells of a mask lie in a flat array with a rim of one cell on every side.

    Cells are visited run by run: a run is a stretch of fluid along the last axis, so the inner loops are
    contiguous in the grid and in the vector of unknowns, and solid cells are never touched.
    """

    sizes: tuple[int, ...]
    """Cells along each axis, without the rim."""
    strides: tuple[int, ...]
    """Distance of neighbours along each axis in the flat array."""
    runs: np.ndarray
    """Place in the flat array, place in the vector of unknowns, and length of each run, `(run, 3)`."""
    bounds: np.ndarray
    """First runs of parts of nearly equal length, and the number of runs, `(part + 1,)`."""

    @classmethod
    def of(cls, mask: np.ndarray, parts: int = 16) -> Lines:
        """Find the runs of a boolean mask."""
        sizes = mask.shape
        rimmed = tuple(n + 2 for n in sizes)
        strides = tuple(int(np.prod(rimmed[axis + 1 :])) for axis in range(len(sizes)))
        rows = np.pad(mask.reshape(-1, sizes[-1]), ((0, 0), (1, 1)))
        row, start = np.nonzero(rows[:, 1:] & ~rows[:, :-1])
        stop = np.nonzero(rows[:, :-1] & ~rows[:, 1:])[1]
        length = stop - start
        place = start + 1
        for axis in range(len(sizes) - 2, -1, -1):
            row, at = np.divmod(row, sizes[axis])
            place = place + (at + 1) * strides[axis]
        ends = np.cumsum(length)
        runs = np.stack([place, ends - length, length], 1).astype(np.int64)
        cuts = np.linspace(0, ends[-1] if len(ends) else 0, parts + 1)[1:-1]
        bounds = np.concatenate([[0], np.searchsorted(ends, cuts), [len(runs)]]).astype(np.int64)
        return cls(sizes, strides, runs, bounds)

    @property
    def cells(self) -> int:
        """Cells with the rim."""
        return int(np.prod([n + 2 for n in self.sizes]))

    @property
    def unknowns(self) -> int:
        """Number of fluid cells."""
        return int(self.runs[:, 2].sum())

    def zeros(self, dtype: Any, *columns: int) -> np.ndarray:
        """A flat array of zeros, with a margin: transfers look two cells beyond odd sizes."""
        return np.zeros((self.cells + self.strides[0] + 2, *columns), dtype)

    def rimmed(self, values: np.ndarray, dtype: Any) -> np.ndarray:
        """A flat array of values `(*sizes)`, with zeros around them."""
        flat = self.zeros(dtype)
        self.inner(flat)[...] = values
        return flat

    def faces(self, values: np.ndarray, axis: int) -> np.ndarray:
        """A flat array of values at faces along an axis, one more than cells: for each cell its upper face.

        The rim in front of the first cells holds their lower faces.
        """
        flat = self.zeros(values.dtype)
        inside = [slice(None, -1) if k == axis else slice(1, -1) for k in range(len(self.sizes))]
        self.grid(flat)[tuple(inside)] = values
        return flat

    def inner(self, flat: np.ndarray) -> np.ndarray:
        """View of a flat array `(*sizes)`, without the rim."""
        return self.grid(flat)[(slice(1, -1),) * len(self.sizes)]

    def grid(self, flat: np.ndarray) -> np.ndarray:
        """View of a flat array `(cell, ...)`, with the rim."""
        return flat[: self.cells].reshape([*(n + 2 for n in self.sizes), *flat.shape[1:]])


def fill_rim(flat: np.ndarray, lines: Lines, periodic: Sequence[bool]) -> None:
    """Copy the cells at the ends of periodic axes to the rim beyond the other end."""
    grid = lines.grid(flat)
    for axis in np.flatnonzero(periodic):
        along = np.moveaxis(grid, axis, 0)
        along[0], along[-1] = along[-2], along[1]


@dataclass(frozen=True, eq=False)
class Matrix:
    """The matrix of a stencil as the kernels take it: conductances and strides with the last axis first.

    Where there are fewer than three axes the last arrays stand in, unread.
    """

    diagonal: np.ndarray
    weights: tuple[np.ndarray, np.ndarray, np.ndarray]
    strides: tuple[int, int]

    @classmethod
    def of(cls, lines: Lines, weights: Sequence[np.ndarray], diagonal: np.ndarray) -> Matrix:
        """From conductances in the order of the axes."""
        last = [*reversed(weights), weights[0], weights[0]][:3]
        strides = [*reversed(lines.strides[:-1]), 0, 0][:2]
        return cls(diagonal, (last[0], last[1], last[2]), (strides[0], strides[1]))

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the kernels take."""
        return (self.diagonal, *self.weights, *self.strides)


def clear_rim(flat: np.ndarray, lines: Lines, periodic: Sequence[bool]) -> None:
    """Undo `fill_rim`."""
    grid = lines.grid(flat)
    for axis in np.flatnonzero(periodic):
        np.moveaxis(grid, axis, 0)[[0, -1]] = 0
