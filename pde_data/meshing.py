"""Triangle meshes of polygons with holes.

Boundary points are fixed, the others are pushed apart like the joints of a truss whose bars want the wanted
length, with a new Delaunay triangulation whenever they have moved (P.-O. Persson and G. Strang, *A simple
mesh generator in MATLAB*, SIAM Review 46, 2004). A boundary segment is an edge of a Delaunay triangulation
where no other point lies in the circle over it, so points are kept away from the boundary by more than half
of its spacing; that every segment became an edge is checked in the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np
from scipy.spatial import Delaunay

from pde_data.domains import Domain
from pde_data.meshes import TriangleMesh, cross

Size = float | Callable[[np.ndarray], np.ndarray]

_ATTEMPTS = 8
_STEPS = 120
_PRESSURE = 1.2  # bars want to be longer than they can, so that they fill the domain
_STEP = 0.2
_MOVED = 0.1  # of the size: triangulate again
_STILL = 1e-2  # of the size: done
_DISTANCE = 0.6  # of the size, to the boundary
_NEAR = 2.0  # of the size, to the boundary: may come too near before the next triangulation


@final
class MeshingError(ValueError):
    """No mesh of the wanted quality was found; the message says what was reached and what to do."""


def triangulate(domain: Domain, size: Size, *, seed: int = 0, min_angle: float = 20.0) -> TriangleMesh:
    """Mesh a domain with edges of about ``size``: a number, or a function of points ``(n, 2)`` to ``(n,)``.

    The mesh covers the polygon exactly. The corners are nodes, and the boundary nodes do not depend on
    ``seed``. Raises ``ValueError`` for a size that is not positive, ``MeshingError`` where no mesh has all
    its angles above ``min_angle`` degrees: sharp corners, or gaps narrower than the size.

    >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> mesh = triangulate(Domain((square,), (np.ones(4, int),)), 0.1)
    >>> bool(abs(mesh.areas.sum() - 1) < 1e-14), bool(mesh.angles.min() > 30)
    (True, True)
    """
    sizes = size if callable(size) else lambda points: np.full(len(points), float(size))
    fixed, tags, segments = _boundary(domain, sizes)
    reached, best = -1.0, "none has the boundary of the domain"
    for attempt in range(_ATTEMPTS):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(attempt,)))
        points = _relaxed(domain, fixed, _seeds(domain, sizes, rng), sizes)
        inner = np.zeros(len(points) - len(fixed), np.int64)
        mesh = TriangleMesh(points, _inside(domain, points), np.concatenate([tags, inner]))
        if not _conforms(mesh, domain, segments):
            continue
        angle = float(mesh.angles.min())
        if angle >= min_angle:
            return mesh
        if angle > reached:
            reached, best = angle, f"the best has one of {angle:.1f}"
    raise MeshingError(
        f"no mesh with all angles above {min_angle} degrees in {_ATTEMPTS} attempts: {best}; choose a "
        "smaller size, or a domain without sharp corners and narrow gaps"
    )


def _boundary(domain: Domain, sizes: Callable) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes on the boundary, spaced as the size says, their tags, and the segments between them."""
    points, tags, segments, first = [], [], [], 0
    for loop, marks in zip(domain.loops, domain.tags):
        pieces = [_divided(a, b, sizes) for a, b in zip(loop, np.roll(loop, -1, axis=0))]
        of_edge = np.repeat(marks, [len(piece) for piece in pieces])
        here = first + np.arange(len(of_edge))
        points += pieces
        tags.append(np.maximum(of_edge, np.roll(of_edge, 1)))
        segments.append(np.stack([here, np.roll(here, -1)], axis=1))
        first += len(of_edge)
    return np.concatenate(points), np.concatenate(tags).astype(np.int64), np.concatenate(segments)


def _divided(start: np.ndarray, end: np.ndarray, sizes: Callable) -> np.ndarray:
    """Points on an edge, its end left out: equally many sizes apart."""
    fine = np.linspace(0.0, 1.0, 65)
    wanted = sizes(start + fine[:, None] * (end - start))
    if not (np.isfinite(wanted).all() and (wanted > 0).all()):
        raise ValueError(f"size={wanted.min()} on the boundary must be positive and finite")
    length = np.linalg.norm(end - start)
    passed = np.concatenate([[0.0], np.cumsum((1 / wanted[1:] + 1 / wanted[:-1]) / 2 * length / 64)])
    count = max(1, round(float(passed[-1])))
    place = np.interp(np.arange(count) * passed[-1] / count, passed, fine)
    return start + place[:, None] * (end - start)


def _seeds(domain: Domain, sizes: Callable, rng: np.random.Generator) -> np.ndarray:
    """Inner points to begin with: a hexagonal lattice of the least size, thinned out where it is larger."""
    low, high = domain.loops[0].min(0), domain.loops[0].max(0)
    coarse = np.stack(np.meshgrid(*np.linspace(low, high, 100).T), axis=-1).reshape(-1, 2)
    h = float(sizes(coarse).min())
    x = np.arange(low[0], high[0] + h, h)
    y = np.arange(low[1], high[1] + h, h * np.sqrt(3) / 2)
    lattice = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1)
    lattice[:, 1::2, 0] += h / 2
    points = lattice.reshape(-1, 2) + h * rng.uniform(-0.5, 0.5, 2)
    points = points[rng.random(len(points)) < (h / sizes(points)) ** 2]
    points = points[domain.contains(points)]
    foot, _ = domain.nearest(points)
    return points[np.linalg.norm(points - foot, axis=1) > _DISTANCE * sizes(points)]


def _relaxed(domain: Domain, fixed: np.ndarray, inner: np.ndarray, sizes: Callable) -> np.ndarray:
    """All nodes, the inner ones in equilibrium."""
    points, count = np.concatenate([fixed, inner]), len(fixed)
    seen, bars, near = np.full_like(points, np.inf), np.empty((2, 0), int), np.empty(0, int)
    for _ in range(_STEPS if len(inner) else 0):
        if np.linalg.norm(points - seen, axis=1).max() > _MOVED * sizes(points).min():
            seen = points.copy()
            triangles = _inside(domain, points)
            pairs = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
            bars = np.stack(divmod(np.unique(pairs.min(1) * len(points) + pairs.max(1)), len(points)))
            distance = np.linalg.norm(points[count:] - domain.nearest(points[count:])[0], axis=1)
            near = count + np.flatnonzero(distance < _NEAR * sizes(points[count:]))
        a, b = bars
        vector = points[a] - points[b]
        length = np.linalg.norm(vector, axis=1)
        wanted = sizes((points[a] + points[b]) / 2)
        wanted = wanted * _PRESSURE * np.sqrt((length**2).sum() / (wanted**2).sum())
        force = (np.maximum(wanted - length, 0.0) / length)[:, None] * vector
        total = np.stack(
            [
                np.bincount(a, force[:, axis], len(points)) - np.bincount(b, force[:, axis], len(points))
                for axis in (0, 1)
            ],
            axis=1,
        )
        move = _STEP * total[count:]
        points[count:] += move
        points[near] = _kept_inside(domain, points[near], sizes)
        if (np.linalg.norm(move, axis=1) < _STILL * sizes(points[count:])).all():
            break
    return points


def _kept_inside(domain: Domain, points: np.ndarray, sizes: Callable) -> np.ndarray:
    """Points moved inwards where they are too near to the boundary, or beyond it."""
    start, end, _ = domain.edges
    foot, edge = domain.nearest(points)
    along = (end - start)[edge]
    normal = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1)[:, None]
    away = points - foot
    distance = np.linalg.norm(away, axis=1)
    inside = domain.contains(points)
    least = _DISTANCE * sizes(points)
    wrong = ~inside | (distance < least)
    direct = inside & (distance > 1e-3 * least)
    direction = np.where(direct[:, None], away / np.where(direct, distance, 1.0)[:, None], normal)
    return np.where(wrong[:, None], foot + least[:, None] * direction, points)


def _inside(domain: Domain, points: np.ndarray) -> np.ndarray:
    """Delaunay triangles inside the domain, anticlockwise."""
    triangles = Delaunay(points).simplices.astype(np.int64)
    a, b, c = points[triangles.T]
    double = cross(b - a, c - a)
    triangles[double < 0] = triangles[double < 0][:, [0, 2, 1]]
    longest = np.maximum.reduce([((p - q) ** 2).sum(1) for p, q in ((a, b), (b, c), (c, a))])
    # Rounding makes flat triangles of points that should be in line.
    triangles = triangles[np.abs(double) > 1e-9 * longest]
    return triangles[domain.contains(points[triangles].mean(1))]


def _conforms(mesh: TriangleMesh, domain: Domain, segments: np.ndarray) -> bool:
    """Whether all nodes are used, the triangles cover the domain, and their outline is its boundary."""
    used = len(np.unique(mesh.triangles)) == len(mesh.points)
    covered = abs(mesh.areas.sum() - domain.area) <= 1e-10 * domain.area
    return used and covered and set(map(tuple, mesh.boundary.tolist())) == set(map(tuple, segments.tolist()))
