"""Conductances over the cells and faces of one grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pde_data.equations.stencil import Stencil
    from solvers.lines import Lines

_STRONG = 0.3  # axes with weaker conductances, over the strongest ones, are not coarsened yet


def greatest(stencil: Stencil) -> float:
    """The greatest conductance of a stencil; 1 if there is none."""
    return max(float(w.max(initial=0.0)) for w in stencil.weights) or 1.0


def between(w: np.ndarray, mask: np.ndarray, periodic: bool) -> np.ndarray:
    """Conductances of the faces between two cells of fluid along the first axis, zero at all others.

    Both ends hold that of the seam of a periodic axis.
    """
    found = np.zeros_like(w)
    np.multiply(w[1:-1], mask[1:] & mask[:-1], out=found[1:-1])
    if periodic:
        found[0] = found[-1] = w[0] * (mask[0] & mask[-1])
    return found


@dataclass(eq=False)
class Cells:
    """Conductances on one grid, as arrays over its cells and faces.

    Attributes:
        inner: between cells, per axis, one more than cells along it; the ends of a periodic one are its seam.
        walls: to Dirichlet faces, per axis, of each cell.
        fluid: share of each cell that is fluid.
        periodic: whether each axis is.
        scale: what the conductances were divided by.
    """

    inner: list[np.ndarray]
    walls: list[np.ndarray]
    fluid: np.ndarray
    periodic: tuple[bool, ...]
    scale: float = 1.0

    @classmethod
    def of(cls, stencil: Stencil, dtype: Any, scale: float = 1.0) -> Cells:
        """Those of a stencil, divided by a number."""
        inner, walls = [], []
        for axis, w in enumerate(stencil.weights):
            w = (np.moveaxis(w, axis, 0) / scale).astype(dtype)
            mask = np.moveaxis(stencil.mask, axis, 0)
            joined = between(w, mask, stencil.periodic[axis])
            wall = np.where(mask, (w[:-1] - joined[:-1]) + (w[1:] - joined[1:]), 0).astype(dtype)
            inner.append(np.moveaxis(joined, 0, axis))
            walls.append(np.moveaxis(wall, 0, axis))
        return cls(inner, walls, stencil.mask.astype(dtype), stencil.periodic, scale)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Cells along each axis."""
        return self.fluid.shape

    def diagonal(self) -> np.ndarray:
        """Sum of all conductances of each cell."""
        total = np.zeros(self.sizes, self.fluid.dtype)
        for axis, (inner, wall) in enumerate(zip(self.inner, self.walls)):
            ends = np.moveaxis(inner, axis, 0)
            total += wall
            np.moveaxis(total, axis, 0)[...] += ends[:-1] + ends[1:]
        return total

    def factors(self) -> tuple[int, ...]:
        """2 along the axes to be coarsened: those that are longer than one cell and not weakly coupled."""
        strength = [
            float(inner.max(initial=0.0)) if n > 1 else 0.0 for inner, n in zip(self.inner, self.sizes)
        ]
        strongest = max(strength)
        return tuple(2 if s > 0 and s >= _STRONG * strongest else 1 for s in strength)

    def flat(self, lines: Lines) -> tuple[list[np.ndarray], np.ndarray]:
        """Conductances to upper neighbours, and the diagonal, as flat arrays with a rim."""
        weights = [lines.faces(inner, axis) for axis, inner in enumerate(self.inner)]
        return weights, lines.rimmed(self.diagonal(), self.fluid.dtype)
