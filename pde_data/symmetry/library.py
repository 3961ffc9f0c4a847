"""Terms that a law of evolution may have: what a field, its derivatives and its position make together."""

from __future__ import annotations

import itertools
from typing import final

import numpy as np

from pde_data.grids import Grid

_MOST_FACTORS = 24  # of products: beyond, only fields and first derivatives are multiplied
_POSITION = {1: 4, 2: 4, 3: 2}  # highest mode of what depends on the place alone


@final
class Library:
    r"""Values of every term at some points, for fields on a grid.

    Linear terms are the fields, their derivatives up to the second, $\Delta^2$ (in one dimension also the
    third derivative) and on periodic boxes $\partial_a\Delta^{-1}$, which makes velocities of vorticity.
    Products of two are taken of fields, first derivatives and those integrals, products of three of fields.
    Terms of the place are low Fourier modes, alone and times fields and first derivatives.

    No direction, place or sign is preferred, and turning, mirroring or shifting the fields makes terms of the
    library from terms of the library.
    """

    def __init__(self, grid: Grid, fields: int):
        self.grid, self.fields = grid, fields
        self._periodic = all(grid.periodic)
        if self._periodic:
            self._filters = _filters(grid)
        local = 1 + grid.ndim
        nonlocal_ = grid.ndim if self._periodic else 0
        wide = fields * (local + nonlocal_) <= _MOST_FACTORS
        self._factors = local + (nonlocal_ if wide else 0)

    def terms(self, values: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, int]:
        """`(point, term)` for fields `(field, *space)`, the constant 1 first, and how many are of the place.

        Those of the place come last. `points` are numbers into the flattened grid.
        """
        filtered = self._filtered(values)[:, :, points]
        linear = filtered.reshape(-1, len(points))
        factors = filtered[: self._factors].reshape(-1, len(points))
        products = [a * b for a, b in itertools.combinations_with_replacement(factors, 2)]
        triples = [a * b * c for a, b, c in itertools.combinations_with_replacement(filtered[0], 3)]
        modes = self._modes(points)
        modulated = [
            m * f for m in self._slow(points) for f in filtered[: 1 + self.grid.ndim].reshape(-1, len(points))
        ]
        homogeneous = np.stack([np.ones(len(points)), *linear, *products, *triples], axis=1)
        place = np.stack([*modes, *modulated], axis=1)
        return np.concatenate([homogeneous, place], axis=1), place.shape[1]

    def _filtered(self, values: np.ndarray) -> np.ndarray:
        """`(filter, field, point)`: fields, first derivatives, integrals, second derivatives and more."""
        axes = tuple(range(1, 1 + self.grid.ndim))
        if self._periodic:
            modes = np.fft.rfftn(values, axes=axes)
            parts = [np.fft.irfftn(modes * f, s=self.grid.sizes, axes=axes) for f in self._filters]
        else:
            h = self.grid.spacing
            first = [np.gradient(values, h[a], axis=1 + a) for a in range(self.grid.ndim)]
            pairs = itertools.combinations_with_replacement(range(self.grid.ndim), 2)
            second = [np.gradient(first[a], h[b], axis=1 + b) for a, b in pairs]
            parts = [values, *first, *second]
        return np.stack(parts).reshape(len(parts), self.fields, -1)

    def _angles(self, points: np.ndarray) -> list[np.ndarray]:
        """Phase of the points on each axis, one turn for a period, half of one between bounds."""
        place = np.unravel_index(points, self.grid.sizes)
        return [
            (2 if p else 1) * np.pi * (x[i] - o) / length
            for x, i, o, length, p in zip(
                self.grid.coordinates, place, self.grid.origin, self.grid.lengths, self.grid.periodic
            )
        ]

    def _waves(self, angle: np.ndarray, periodic: bool, highest: int) -> list[np.ndarray]:
        waves = [np.ones_like(angle)]
        for k in range(1, highest + 1):
            waves += [np.cos(k * angle), *([np.sin(k * angle)] if periodic else [])]
        return waves

    def _modes(self, points: np.ndarray) -> list[np.ndarray]:
        highest = _POSITION[self.grid.ndim]
        axes = [self._waves(a, p, highest) for a, p in zip(self._angles(points), self.grid.periodic)]
        return [np.prod(factors, axis=0) for factors in itertools.product(*axes)][1:]

    def _slow(self, points: np.ndarray) -> list[np.ndarray]:
        return [
            wave
            for angle, periodic in zip(self._angles(points), self.grid.periodic)
            for wave in self._waves(angle, periodic, 1)[1:]
        ]


def _filters(grid: Grid) -> list[np.ndarray]:
    waves = [grid.wavenumbers(a) for a in range(grid.ndim)]
    waves[-1] = 2 * np.pi * np.fft.rfftfreq(grid.sizes[-1], d=grid.spacing[-1])
    for axis, n in enumerate(grid.sizes):
        if n % 2 == 0:
            waves[axis][n // 2] = 0.0  # odd derivatives of the Nyquist mode are not real
    k = np.meshgrid(*waves, indexing="ij", sparse=True)
    squared = np.asarray(sum(ka**2 for ka in k))
    inverse = np.where(squared > 0, -1 / np.where(squared > 0, squared, 1), 0)
    pairs = itertools.combinations_with_replacement(k, 2)
    more = [squared**2, *([-1j * k[0] ** 3] if grid.ndim == 1 else [])]
    shape = squared.shape
    found = [np.ones(shape), *(1j * ka for ka in k), *(1j * ka * inverse for ka in k)]
    return [np.broadcast_to(f, shape) for f in (*found, *(-a * b for a, b in pairs), *more)]
