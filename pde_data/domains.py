"""Plane polygons with holes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

_TRIES = 1000


@final
@dataclass(frozen=True)
class Domain:
    """A polygon with polygonal holes, whose edges carry tags.

    Args:
        loops: corners ``(k, 2)`` of each closed boundary curve, float64; the first is the outer one, counted
            anticlockwise, the others are holes, counted clockwise: the inside is to the left.
        tags: a number of at least 1 for each edge of each loop; edge ``i`` starts at corner ``i``.

    Raises ``ValueError`` for loops that are too short, turn the wrong way, or do not fit their tags.

    >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> hole = 0.25 + 0.5 * square[::-1]
    >>> Domain((square, hole), (np.full(4, 1), np.full(4, 2))).area
    0.75
    """

    loops: tuple[np.ndarray, ...]
    tags: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        if len(self.tags) != len(self.loops):
            raise ValueError(f"{len(self.loops)} loops have tags for {len(self.tags)}")
        for number, (loop, tags) in enumerate(zip(self.loops, self.tags)):
            if loop.ndim != 2 or loop.shape[1] != 2 or len(loop) < 3:
                raise ValueError(f"loop {number} has shape {loop.shape}, expected (corners, 2), 3 or more")
            if len(tags) != len(loop) or np.min(tags) < 1:
                raise ValueError(f"loop {number} has {len(loop)} edges and the tags {tags}, each at least 1")
            if (_area(loop) > 0) != (number == 0):
                raise ValueError(f"loop {number} turns the wrong way round; reverse its corners and tags")

    @property
    def area(self) -> float:
        """Area, holes left out."""
        return sum(_area(loop) for loop in self.loops)

    @property
    def edges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First and second corner ``(e, 2)`` and tag ``(e,)`` of every edge, loop by loop."""
        ends = [np.roll(loop, -1, axis=0) for loop in self.loops]
        return np.concatenate(self.loops), np.concatenate(ends), np.concatenate(self.tags)

    def nearest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For points ``(n, 2)``: the nearest points of the boundary ``(n, 2)``, and their edges' numbers."""
        start, end, _ = self.edges
        along = end - start
        place = points @ along.T - (start * along).sum(1)
        place = np.clip(place / (along**2).sum(1), 0.0, 1.0)
        x, y = (start[:, axis] + place * along[:, axis] - points[:, axis, None] for axis in (0, 1))
        edge = (x**2 + y**2).argmin(1)
        return start[edge] + place[np.arange(len(points)), edge, None] * along[edge], edge

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Whether points ``(n, 2)`` are inside: a ray to the right crosses an odd number of edges."""
        start, end, _ = self.edges
        x, y = points[:, :1], points[:, 1:]
        straddles = (start[:, 1] > y) != (end[:, 1] > y)
        slope = (end[:, 0] - start[:, 0]) / np.where(
            end[:, 1] == start[:, 1], np.inf, end[:, 1] - start[:, 1]
        )
        return (straddles & (x < start[:, 0] + (y - start[:, 1]) * slope)).sum(1) % 2 == 1


def _area(loop: np.ndarray) -> float:
    x, y = (loop - loop[0]).T  # relative to a corner, so that a displaced domain loses no digits
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def circle(centre: tuple[float, float], radius: float, corners: int, turn: float = 0.0) -> np.ndarray:
    """Corners ``(k, 2)`` of a regular polygon inscribed in a circle, anticlockwise."""
    angle = turn + 2 * np.pi * np.arange(corners) / corners
    return np.array(centre) + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def random_domain(
    rng: np.random.Generator, holes: int, clearance: float, outer_tag: int = 1, hole_tag: int = 2
) -> Domain:
    """A random polygon in the unit square, with up to ``holes`` random holes.

    The outer curve has 5 to 9 corners seen from the centre at jittered angles, at distances of 0.3 to 0.5,
    and no angle below 50 degrees. Holes are regular polygons of 3 to 8 corners and radii of 0.04 to 0.1, with
    at least ``clearance`` to everything else; one that finds no place is left out.
    """
    outer = _random_outer(rng)
    found: list[np.ndarray] = []
    bare = Domain((outer,), (np.full(len(outer), outer_tag),))
    places: list[tuple[np.ndarray, float]] = []
    for _ in range(int(rng.integers(holes + 1))):
        for _ in range(_TRIES):
            radius, centre = rng.uniform(0.04, 0.1), rng.uniform(0.0, 1.0, 2)
            corners, turn = int(rng.integers(3, 9)), rng.uniform(0.0, 2 * np.pi)
            foot = bare.nearest(centre[None])[0][0]
            clear = bool(bare.contains(centre[None])[0]) and np.hypot(*(centre - foot)) > radius + clearance
            if clear and all(np.hypot(*(centre - c)) > radius + r + clearance for c, r in places):
                places.append((centre, radius))
                found.append(circle(tuple(centre), radius, corners, turn)[::-1])
                break
    tags = (np.full(len(outer), outer_tag), *(np.full(len(hole), hole_tag) for hole in found))
    return Domain((outer, *found), tags)


def _random_outer(rng: np.random.Generator) -> np.ndarray:
    for _ in range(_TRIES):
        corners = int(rng.integers(5, 10))
        angle = 2 * np.pi * (np.arange(corners) + rng.uniform(-0.3, 0.3, corners)) / corners
        loop = 0.5 + rng.uniform(0.3, 0.5, corners)[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
        before, after = np.roll(loop, 1, axis=0) - loop, np.roll(loop, -1, axis=0) - loop
        cosine = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
        if cosine.max() < np.cos(np.deg2rad(50.0)):
            return loop
    raise RuntimeError("no polygon found")
