"""The multigrid cycle in torch on dense arrays: on any device, differentiable, several vectors at a time.

The same cycle as that of the compiled kernels; tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad


@dataclass(eq=False)
class Grid:
    """One level, arrays `(batch, *sizes)` or `(1, *sizes)`.

    Attributes:
        inner: conductances per axis, one more than cells along it; the ends are zero, or the seam of a
            periodic axis.
        diagonal: of the matrix; zero in solid cells.
        inverse: of the diagonal, zero in solid cells; on the coarsest level of the matrix on its `places`,
            `(batch, place, place)`.
        steps: factors of the smoothing steps.
        factors: 2 along the axes that are coarsened on the way to the next level, 1 along the others.
        shares: per axis what the children of the cells of the next level take from its lower and upper
            neighbour.
        places: cells of the coarsest level that are solved for, in C order; all when None.
    """

    inner: list[Tensor]
    diagonal: Tensor
    inverse: Tensor
    steps: Sequence[Any] = ()
    factors: tuple[int, ...] = ()
    shares: Sequence[tuple[Tensor, Tensor]] = ()
    places: Tensor | None = None


def cycle(grids: Sequence[Grid], b: Tensor, level: int = 0) -> Tensor:
    """Apply the cycle from a level on to right-hand sides `(batch, *sizes)`."""
    grid = grids[level]
    if level == len(grids) - 1:
        flat = b.flatten(1)
        places = slice(None) if grid.places is None else grid.places
        x = torch.zeros_like(flat)
        x[:, places] = (grid.inverse @ flat[:, places, None])[..., 0]
        return x.view_as(b)
    first, *others = grid.steps
    u = first * grid.inverse * b
    for step in others:
        u = u + step * grid.inverse * (b - apply(grid, u))
    there = grid.diagonal > 0
    rest = torch.where(there, b - apply(grid, u), 0.0)
    u = u + torch.where(there, prolong(grid, cycle(grids, restrict(grid, rest), level + 1)), 0.0)
    for step in reversed(grid.steps):
        u = u + step * grid.inverse * (b - apply(grid, u))
    return u


def apply(grid: Grid, u: Tensor) -> Tensor:
    """Apply the matrix of a level."""
    total = grid.diagonal * u
    for axis, w in enumerate(grid.inner, start=1):
        n = u.shape[axis]
        # What comes round the end of an axis that is not periodic meets a conductance of zero.
        total = total - w.narrow(axis, 1, n) * u.roll(-1, axis) - w.narrow(axis, 0, n) * u.roll(1, axis)
    return total


def prolong(grid: Grid, e: Tensor) -> Tensor:
    """Interpolate from the next level to this one."""
    sizes = grid.diagonal.shape[1:]
    total = _spread(grid, e)
    for axis, (lower, upper) in enumerate(grid.shares, start=1):
        if grid.factors[axis - 1] == 2:
            down, up = lower * (e.roll(1, axis) - e), upper * (e.roll(-1, axis) - e)
            move = torch.stack([down, up], axis + 1).flatten(axis, axis + 1)
            total = total + _spread(grid, move.narrow(axis, 0, sizes[axis - 1]), but=axis)
    return total


def restrict(grid: Grid, r: Tensor) -> Tensor:
    """Apply the transpose of `prolong`."""
    total = _gather(grid, r)
    for axis, (lower, upper) in enumerate(grid.shares, start=1):
        if grid.factors[axis - 1] == 2:
            rows = _even(_gather(grid, r, but=axis), axis).unflatten(axis, (-1, 2))
            down, up = lower * rows.select(axis + 1, 0), upper * rows.select(axis + 1, 1)
            total = total - down - up + up.roll(1, axis) + down.roll(-1, axis)
    return total


def _spread(grid: Grid, e: Tensor, but: int = 0) -> Tensor:
    """Give each child the value of its cell, along all axes but one."""
    for axis, (factor, n) in enumerate(zip(grid.factors, grid.diagonal.shape[1:]), start=1):
        if factor == 2 and axis != but:
            e = e.repeat_interleave(2, axis).narrow(axis, 0, n)
    return e


def _gather(grid: Grid, r: Tensor, but: int = 0) -> Tensor:
    """Add up the children of each cell, along all axes but one."""
    for axis, factor in enumerate(grid.factors, start=1):
        if factor == 2 and axis != but:
            r = pair_sums(_even(r, axis), axis)
    return r


def pair_sums(u: Tensor, axis: int) -> Tensor:
    """Sums of two neighbours each along an axis."""
    return u.unflatten(axis, (-1, 2)).sum(axis + 1)


def _even(u: Tensor, axis: int) -> Tensor:
    """Append zeros to an axis of odd length."""
    return pad(u, [0, 0] * (u.ndim - 1 - axis) + [0, 1]) if u.shape[axis] % 2 else u
