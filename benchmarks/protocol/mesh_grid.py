"""Fields on a mesh brought to a regular grid and back, linearly both ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

if TYPE_CHECKING:
    from pde_data.meshes import TriangleMesh


@dataclass(frozen=True)
class Box:
    """A regular grid over the box around several meshes, its outer points on the sides of the box.

    >>> Box.around([np.array([[0.0, 0.0], [2.0, 1.0]])], cells=32).sizes
    (32, 17)
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    sizes: tuple[int, ...]

    @classmethod
    def around(cls, clouds: Sequence[np.ndarray], cells: int) -> Box:
        """The box of all points `(n, 2)` with `cells` points along its longer side, nearly square cells.

        One box for all meshes, so that lengths mean the same in every sample.
        """
        low = np.min([cloud.min(0) for cloud in clouds], axis=0)
        high = np.max([cloud.max(0) for cloud in clouds], axis=0)
        spacing = (high - low).max() / (cells - 1)
        sizes = np.maximum(np.ceil((high - low) / spacing - 1e-9).astype(int) + 1, 2)
        return cls(tuple(low.tolist()), tuple(high.tolist()), tuple(sizes.tolist()))

    @property
    def points(self) -> np.ndarray:
        """Positions of the grid points `(n, 2)`, row by row."""
        axes = [np.linspace(a, b, n) for a, b, n in zip(self.low, self.high, self.sizes)]
        return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def nodes_to_grid(mesh: TriangleMesh, box: Box) -> csr_array:
    """Return the matrix `(grid point, node)` of linear interpolation inside of each triangle.

    Rows of grid points outside of the mesh are empty, the others sum to one: what is linear on the mesh is
    reproduced exactly.
    """
    from matplotlib.tri import Triangulation

    points = box.points
    finder = Triangulation(*mesh.points.T, mesh.triangles).get_trifinder()
    triangle = finder(*points.T)
    inside = np.flatnonzero(triangle >= 0)
    corners = mesh.triangles[triangle[inside]]
    a, b, c = mesh.points[corners].transpose(1, 2, 0)
    d, e, p = b - a, c - a, points[inside].T - a
    area = d[0] * e[1] - d[1] * e[0]
    second = (p[0] * e[1] - p[1] * e[0]) / area
    third = (d[0] * p[1] - d[1] * p[0]) / area
    weights = np.stack([1 - second - third, second, third], axis=1)
    rows = np.repeat(inside, 3)
    return csr_array((weights.ravel(), (rows, corners.ravel())), shape=(len(points), len(mesh.points)))


def grid_to_nodes(coords: np.ndarray, box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Return the four grid points round `coords` `(n, 2)` and their bilinear weights, `(n, 4)` each."""
    low, high, sizes = (np.asarray(v) for v in (box.low, box.high, box.sizes))
    place = np.clip((coords - low) / (high - low), 0, 1) * (sizes - 1)
    cell = np.minimum(place.astype(int), sizes - 2)
    part = place - cell
    corners = [(0, 0), (0, 1), (1, 0), (1, 1)]
    columns = [(cell[:, 0] + i) * sizes[1] + cell[:, 1] + j for i, j in corners]
    weights = [np.abs(1 - i - part[:, 0]) * np.abs(1 - j - part[:, 1]) for i, j in corners]
    return np.stack(columns, axis=1), np.stack(weights, axis=1)
