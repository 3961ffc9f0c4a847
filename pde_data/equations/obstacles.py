"""Random irregular obstacles that do not touch."""

from __future__ import annotations

import math

import numpy as np

from pde_data.grids import Grid

_LARGEST = 0.28  # mean radius of a single obstacle, in units of the shortest side
_ROUGHNESS = 0.25  # largest deviation from a ball, relative to its radius
_GAP = 0.3  # distance that is kept free, in units of the largest mean radius


def check_gaps(count: int, grid: Grid) -> None:
    """Raise ``ValueError`` where the cells are too wide for the gaps between so many obstacles.

    A gap of at least the diagonal of a cell leaves a path of cells open between any two obstacles, so that
    the fluid is connected and no channel is blocked.
    """
    gap = _GAP * _largest_radius(count, grid) if count else math.inf
    diagonal = math.hypot(*grid.spacing)
    if diagonal > gap:
        need = math.ceil(max(grid.sizes) * diagonal / gap)
        raise ValueError(
            f"obstacles={count} leave gaps of {gap:.3g}, less than the diagonal {diagonal:.3g} of a cell: "
            f"the smallest resolution that would do is {need}"
        )


def random_mask(seed: int, index: int, count: int, grid: Grid) -> np.ndarray:
    r"""``(*grid.sizes)``, bool: True outside ``count`` obstacles, whose shapes do not depend on the grid.

    The radius of an obstacle in direction $d$ is $r\,(1 + \frac14\overline{\cos(w_m\cdot d+\varphi_m)})$, a
    mean over three random waves. Obstacles are placed one after another at random, smaller where they would
    come closer than the gap to another or to a wall; together they cover about a tenth of a square.
    """
    # A stream of its own beside that of the sample's random field.
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(index), 1)))
    lengths = np.array(grid.lengths)
    fluid = np.ones(grid.sizes, dtype=bool)
    placed: list[tuple[np.ndarray, float]] = []
    for _ in range(count):
        radius = rng.uniform(0.5, 1.0) * _largest_radius(count, grid)
        waves, phases = rng.normal(0.0, 3.0, (3, grid.ndim)), rng.uniform(0, 2 * np.pi, 3)
        while True:
            centre = rng.uniform(0, 1, grid.ndim) * lengths
            reach = (1 + _ROUGHNESS) * radius
            if _distance(centre, placed, grid) - reach >= _GAP * _largest_radius(count, grid):
                break
            radius *= 0.95
        placed.append((centre, reach))
        offsets = [
            _nearest(x - o - c, grid, a)
            for a, (x, o, c) in enumerate(zip(grid.coordinates, grid.origin, centre))
        ]
        near = [np.flatnonzero(np.abs(d) < reach) for d in offsets]
        d = np.stack(np.meshgrid(*(d[i] for d, i in zip(offsets, near)), indexing="ij"), axis=-1)
        distance = np.linalg.norm(d, axis=-1)
        direction = d / np.maximum(distance, 1e-300)[..., None]
        surface = radius * (1 + _ROUGHNESS * np.cos(direction @ waves.T + phases).mean(axis=-1))
        fluid[np.ix_(*near)] &= distance >= surface
    return fluid


def _largest_radius(count: int, grid: Grid) -> float:
    """Obstacles of this size cover the same part of the box however many they are."""
    return _LARGEST * min(grid.lengths) * count ** (-1 / grid.ndim)


def _nearest(offset: np.ndarray, grid: Grid, axis: int) -> np.ndarray:
    """Offsets along an axis to the nearest periodic image."""
    length = grid.lengths[axis]
    return offset - length * np.round(offset / length) if grid.periodic[axis] else offset


def _distance(centre: np.ndarray, placed: list[tuple[np.ndarray, float]], grid: Grid) -> float:
    """Distance from a point to the walls and to the balls that are placed already."""
    walls = [min(c, n - c) for c, n, p in zip(centre, grid.lengths, grid.periodic) if not p]
    balls = [
        np.linalg.norm([_nearest(d, grid, axis) for axis, d in enumerate(centre - other)]) - reach
        for other, reach in placed
    ]
    return float(min([*walls, *balls], default=math.inf))
