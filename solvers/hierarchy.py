"""A ladder of grids for one stencil: conductances, interpolation and smoothing of each level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from solvers.cells import Cells, greatest
from solvers.lines import Lines, Matrix
from solvers.transfer import Transfer

if TYPE_CHECKING:
    from pde_data.equations.stencil import Stencil
    from solvers.weights import CycleWeights

COARSEST = 256  # cells that are solved directly


@dataclass(frozen=True, eq=False)
class Joint:
    """What two coarse cells on both sides of each face have to do with each other; arrays over the faces.

    Attributes:
        across: sum of the fine conductances through the face.
        series: sum over the columns of fine cells of what conducts from the middle of one cell to that of the
            other, half of each inside in series with the face, over that without the insides.
        inside: sums of the fine conductances inside of the two cells, along the same axis: below, above.
        fluid: shares of fluid of the two cells.
        wall: shares of the walls' conductance in the sum of all, of the two cells.
        part: shares of the conductance through the face in the sum of all, of the two cells.
    """

    across: np.ndarray
    series: np.ndarray
    inside: tuple[np.ndarray, np.ndarray]
    fluid: tuple[np.ndarray, np.ndarray]
    wall: tuple[np.ndarray, np.ndarray]
    part: tuple[np.ndarray, np.ndarray]


def coarsened(
    cells: Cells, factors: tuple[int, ...], weights: CycleWeights, level: int
) -> tuple[Cells, list]:
    """Cells of twice the width, and the shares that their children take from the lower and upper neighbours.

    Without learned weights a coarse conductance is half of the sum of the fine ones through the face, for the
    distance is twice as long, and interpolation is linear in proportion to how far the face is open.
    """
    ndim = len(factors)
    share = _blocks(cells.fluid, factors) / np.prod(factors)
    walls = [
        _blocks(wall, factors) * (0.5 if factors[axis] == 2 else 1.0) for axis, wall in enumerate(cells.walls)
    ]
    across, inside, series = [], [], []
    for axis, inner in enumerate(cells.inner):
        # Faces between coarse cells are every other one; those between them are inside.
        others = tuple(1 if k == axis else factor for k, factor in enumerate(factors))
        faces = np.moveaxis(inner, axis, 0)
        if factors[axis] == 2:
            outer, within = faces[::2], faces[1:-1:2]
            if len(faces) % 2 == 0:  # an odd number of cells: the last coarse one has one child
                outer = np.concatenate([outer, faces[-1:]])
                within = np.concatenate([within, np.zeros_like(faces[:1])])
        else:
            outer, within = faces, np.zeros_like(faces[1:])
        column = _series(outer, within) if factors[axis] == 2 else outer
        series.append(_blocks(np.moveaxis(column, 0, axis), others))
        across.append(_blocks(np.moveaxis(outer, 0, axis), others))
        inside.append(_blocks(np.moveaxis(within, 0, axis), others))
    halves = [0.5 * a if factors[axis] == 2 else a for axis, a in enumerate(across)]
    coarse = Cells(halves, walls, share.astype(cells.fluid.dtype), cells.periodic, cells.scale)
    total = coarse.diagonal()
    wall_share = np.divide(sum(walls), total, out=np.zeros_like(total), where=total > 0)
    interpolation = []
    for axis in range(ndim):
        base = halves[axis]
        two = [np.divide(base, t, out=np.zeros_like(base), where=t > 0) for t in _sides(total, axis)]
        joint = Joint(
            across[axis],
            np.divide(series[axis], base, out=np.zeros_like(base), where=base > 0),
            _sides(inside[axis], axis),
            _sides(share, axis),
            _sides(wall_share, axis),
            (two[0], two[1]),
        )
        factor, lower, upper = weights.at_faces(joint, level)
        # The ends are walls, or the seam of a periodic axis, of which each end sees one side only.
        np.moveaxis(factor, axis, 0)[[0, -1]] = 1
        coarse.inner[axis] = (base * factor).astype(cells.fluid.dtype)
        # `upper` is what the cell below a face takes from above it; at the ends there is nobody.
        own_lower = np.moveaxis(np.moveaxis(lower, axis, 0)[:-1].copy(), 0, axis)
        own_upper = np.moveaxis(np.moveaxis(upper, axis, 0)[1:].copy(), 0, axis)
        np.moveaxis(own_lower, axis, 0)[0] = 0
        np.moveaxis(own_upper, axis, 0)[-1] = 0
        interpolation.append((own_lower, own_upper))
    return coarse, interpolation


def _series(outer: np.ndarray, within: np.ndarray) -> np.ndarray:
    """Conductance from middle to middle, column by column; the first axis goes along the columns."""
    closed = np.zeros_like(within[:1])
    below, above = np.concatenate([closed, within]), np.concatenate([within, closed])
    # 1 / (1 / outer + 1 / (2 below) + 1 / (2 above)), and 0 where one of them is closed.
    rest = below + above
    rest *= outer
    rest *= 0.5
    below *= above
    rest += below
    below *= outer
    return np.divide(below, rest, out=np.zeros_like(below), where=rest > 0)


def _blocks(values: np.ndarray, factors: tuple[int, ...]) -> np.ndarray:
    """Sums over blocks of cells; the last ones may be cut short."""
    for axis, factor in enumerate(factors):
        if factor == 2:
            along = np.moveaxis(values, axis, 0)
            if len(along) % 2:
                along = np.concatenate([along, np.zeros_like(along[:1])])
            values = np.moveaxis(along[::2] + along[1::2], 0, axis)
    return values


def _sides(values: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Values of the cells below and above each face, zero where there is none."""
    pad = [(0, 0)] * values.ndim
    pad[axis] = (1, 1)
    padded = np.moveaxis(np.pad(values, pad), axis, 0)
    return np.moveaxis(padded[:-1], 0, axis), np.moveaxis(padded[1:], 0, axis)


class Level:
    """One grid of the ladder: its matrix, its fields, the way down from it."""

    def __init__(self, cells: Cells, mask: np.ndarray, steps: tuple[float, ...]):
        self.lines = Lines.of(mask)
        weights, diagonal = cells.flat(self.lines)
        diagonal[diagonal == 0] = 1  # solid cells, and fluid that nothing joins to anything
        self.matrix = Matrix.of(self.lines, weights, diagonal)
        self.periodic = cells.periodic
        self.dtype = cells.fluid.dtype
        self.steps = [self.dtype.type(step) for step in steps]
        self.u, self.v, self.right = (self.lines.zeros(self.dtype) for _ in range(3))
        self.down: Transfer | None = None


def ladder(
    stencil: Stencil, weights: CycleWeights, dtype: Any
) -> tuple[list[Level], np.ndarray, float, bool]:
    """Build all levels.

    Returns:
        the levels, the pseudo-inverse of the coarsest matrix, what conductances were divided by, and whether
        some part of the fluid has no Dirichlet wall.
    """
    cells = Cells.of(stencil, dtype, greatest(stencil))
    mask = stencil.mask
    closed = _has_closed_part(cells, mask)
    levels: list[Level] = []
    above: tuple[Any, ...] | None = None  # factors and interpolation to the level that comes next
    while True:
        coarsest = np.count_nonzero(mask) <= COARSEST or max(cells.factors()) == 1
        # The arrays of a level are made when those for the next one are no longer needed: less at a time.
        next_cells, interpolation = (
            (cells, []) if coarsest else coarsened(cells, cells.factors(), weights, len(levels) + 1)
        )
        level = Level(cells, mask, weights.steps(len(levels)))
        if above is not None:
            factors, pairs = above
            flat = tuple((level.lines.rimmed(a, dtype), level.lines.rimmed(b, dtype)) for a, b in pairs)
            levels[-1].down = Transfer(level.lines, levels[-1].lines, factors, flat)
        levels.append(level)
        if coarsest:
            break
        above = cells.factors(), interpolation
        cells, mask = next_cells, next_cells.fluid > 0
    return levels, _inverse(cells, mask), cells.scale, closed


def _has_closed_part(cells: Cells, mask: np.ndarray) -> bool:
    """Whether a connected part of the fluid has no wall; parts that a seam joins may be counted apart."""
    from scipy.ndimage import label

    found: Any = label(mask)
    labels, count = found
    grounded = np.zeros(count + 1, bool)
    grounded[0] = True
    for wall in cells.walls:
        grounded[labels[wall > 0]] = True
    return not grounded.all()


def _inverse(cells: Cells, mask: np.ndarray) -> np.ndarray:
    number = np.full(mask.shape, -1)
    number[mask] = np.arange(np.count_nonzero(mask))
    matrix = np.diag(cells.diagonal()[mask].astype(np.float64))
    for axis, inner in enumerate(cells.inner):
        ends = np.moveaxis(inner, axis, 0)
        at = np.moveaxis(number, axis, 0)
        for low, high, w in ((at[:-1], at[1:], ends[1:-1]), (at[-1:], at[:1], ends[:1])):
            there = (low >= 0) & (high >= 0) & (w > 0)
            i, j, w = low[there], high[there], w[there]
            np.add.at(matrix, (i, j), -w)
            np.add.at(matrix, (j, i), -w)
    return np.linalg.pinv(matrix, rcond=1e-6 if cells.fluid.dtype == np.float32 else 1e-12, hermitian=True)
