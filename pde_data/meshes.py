"""Triangle meshes: geometry, quality, quadrature and refinement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np


@final
@dataclass(frozen=True)
class TriangleMesh:
    """A conforming mesh of triangles in the plane.

    Args:
        points: positions of the nodes ``(n, 2)``, float64.
        triangles: nodes of each triangle ``(m, 3)``, anticlockwise.
        tags: part of the boundary that each node ``(n,)`` belongs to, from 1; 0 inside. Where two parts meet,
            the node belongs to the greater one; an edge is of the part of its lesser end.

    >>> points = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> mesh = TriangleMesh(points, np.array([[0, 1, 2], [0, 2, 3]]), np.array([1, 1, 2, 2]))
    >>> mesh.areas, mesh.refined().tags
    (array([0.5, 0.5]), array([1, 1, 2, 2, 1, 0, 1, 1, 2]))
    """

    points: np.ndarray
    triangles: np.ndarray
    tags: np.ndarray

    @property
    def areas(self) -> np.ndarray:
        """Area of each triangle ``(m,)``."""
        a, b, c = self.points[self.triangles.T]
        return cross(b - a, c - a) / 2

    @property
    def angles(self) -> np.ndarray:
        """Angles of each triangle ``(m, 3)`` in degrees."""
        corners = self.points[self.triangles]
        after, before = np.roll(corners, -1, axis=1) - corners, np.roll(corners, 1, axis=1) - corners
        return np.degrees(np.arctan2(cross(after, before), (after * before).sum(-1)))

    @property
    def weights(self) -> np.ndarray:
        """Quadrature weights of the nodes ``(n,)``: a third of the area around each (the lumped mass).

        They are positive, sum to the area, and integrate what is linear on each triangle exactly.
        """
        return np.bincount(self.triangles.ravel(), np.repeat(self.areas / 3, 3), len(self.points))

    @property
    def size(self) -> float:
        """Length of the longest edge."""
        a, b = self.points[self.edges.T]
        return float(np.linalg.norm(a - b, axis=1).max())

    @property
    def edges(self) -> np.ndarray:
        """Edges of the triangles as they are walked round, ``(3 * m, 2)``: those inside occur both ways."""
        return np.concatenate(
            [self.triangles[:, [0, 1]], self.triangles[:, [1, 2]], self.triangles[:, [2, 0]]]
        )

    @property
    def boundary(self) -> np.ndarray:
        """Edges of one triangle alone ``(b, 2)``, the mesh to their left."""
        code, back = self.edges @ [len(self.points), 1], self.edges @ [1, len(self.points)]
        return self.edges[~np.isin(code, back)]

    def boundary_distances(self, parts: int) -> np.ndarray:
        """Distance of each node to the parts 1, 2, ... of the boundary ``(n, parts)``.

        It is the diagonal of the box around the mesh where the mesh has no such part.

        >>> square = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 0.25]])
        >>> corners = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
        >>> TriangleMesh(square, corners, np.array([1, 1, 2, 2, 0])).boundary_distances(3)[4].round(3)
        array([0.25 , 0.75 , 1.414])
        """
        found = np.full((len(self.points), parts), np.linalg.norm(np.ptp(self.points, axis=0)))
        edges = self.boundary
        of = self.tags[edges].min(1)
        for part in range(1, parts + 1):
            a, b = self.points[edges[of == part]].transpose(1, 0, 2)
            if not len(a):
                continue
            along = b - a
            for rows in np.array_split(np.arange(len(self.points)), len(self.points) * len(a) // 2**22 + 1):
                apart = self.points[rows, None] - a
                share = np.clip((apart * along).sum(-1) / (along * along).sum(-1), 0, 1)[..., None]
                found[rows, part - 1] = np.linalg.norm(apart - share * along, axis=-1).min(1)
        return found

    def refined(self) -> TriangleMesh:
        """Each triangle cut into four similar ones.

        The nodes of this mesh come first, then the middles of its edges, in the order of the edges' nodes.
        The triangles at the first corners come first, then those at the second and third, then the middle
        ones.
        """
        n = len(self.points)
        edges, place = np.unique(np.sort(self.edges, axis=1), axis=0, return_inverse=True)
        ab, bc, ca = n + place.reshape(3, -1)
        a, b, c = self.triangles.T
        quarters = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
        outer = np.isin(edges @ [n, 1], np.sort(self.boundary, axis=1) @ [n, 1])
        return TriangleMesh(
            np.concatenate([self.points, self.points[edges].mean(1)]),
            np.concatenate([np.stack(quarter, axis=1) for quarter in quarters]),
            np.concatenate([self.tags, np.where(outer, self.tags[edges].min(1), 0)]),
        )

    def coarsened(self) -> TriangleMesh:
        """Undo :meth:`refined`; ``ValueError`` when this mesh does not come from there."""
        m = len(self.triangles) // 4
        first, second, third = self.triangles[:m], self.triangles[m : 2 * m], self.triangles[2 * m : 3 * m]
        triangles = np.stack([first[:, 0], second[:, 1], third[:, 2]], axis=1)
        n = triangles.max(initial=-1) + 1
        mesh = TriangleMesh(self.points[:n], triangles, self.tags[:n])
        if not n or not np.array_equal(mesh.refined().triangles, self.triangles):
            raise ValueError("this mesh is not a refined one, four triangles in the place of each")
        return mesh


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Third component of the vector product of plane vectors ``(..., 2)``."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
