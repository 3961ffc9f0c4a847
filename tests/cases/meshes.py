"""Nested meshes, and domains to solve on."""

from collections.abc import Callable

import numpy as np

from pde_data.domains import Domain
from pde_data.meshes import TriangleMesh
from pde_data.meshing import triangulate
from tests.cases import Order, relative


def pierced(length: float = 1.0) -> Domain:
    """A rectangle with a triangular hole, of tag 2."""
    outer = np.array([[0.0, 0.0], [length, 0.0], [length, 1.0], [0.0, 1.0]])
    hole = np.array([[0.35, 0.3], [0.45, 0.7], [0.7, 0.4]])
    return Domain((outer, hole), (np.full(4, 1), np.full(3, 2)))


def nested(count: int = 3, size: float = 0.15) -> list[TriangleMesh]:
    """Meshes of the pierced square, each the one before with its triangles cut into four."""
    meshes = [triangulate(pierced(), size)]
    for _ in range(count - 1):
        meshes.append(meshes[-1].refined())
    return meshes


def l2_error(
    mesh: TriangleMesh,
    values: np.ndarray,
    exact: Callable[[np.ndarray], np.ndarray],
    order: int = 1,
) -> float:
    """Relative L2 error of nodal values `(node, ...)`, linear or quadratic on each triangle, by quadrature.

    Quadratic functions have their values at the nodes of `mesh.refined()`. `exact` takes points `(..., 2)`.
    """
    from skfem.quadrature import get_quadrature
    from skfem.refdom import RefTri

    (x, y), weights = get_quadrature(RefTri, 8)
    a, b, c = 1 - x - y, x, y
    corners, nodes, shapes = mesh.points[mesh.triangles], mesh.triangles, np.stack([a, b, c])
    if order == 2:
        first, second = np.split(mesh.refined().triangles, 4)[:2]
        nodes = np.column_stack([nodes, first[:, 1], second[:, 2], first[:, 2]])
        shapes = np.stack(
            [a * (2 * a - 1), b * (2 * b - 1), c * (2 * c - 1), 4 * a * b, 4 * b * c, 4 * c * a]
        )
    points = np.einsum("mcd,cq->mqd", corners, np.stack([a, b, c]))
    found = np.einsum("mk...,kq->mq...", values[nodes], shapes)
    expected = exact(points)
    root = np.sqrt(2 * mesh.areas[:, None] * weights).reshape(expected.shape[:2] + (1,) * (expected.ndim - 2))
    return relative(root * found, root * expected)


def spatial_order(solve, expected: float = 2.0, size: float = 0.15, name: str = "mesh size") -> Order:
    """Order of the error `solve(mesh)` on three nested meshes."""

    def errors() -> tuple[list[float], list[float]]:
        meshes = nested(3, size)
        return [mesh.size for mesh in meshes], [solve(mesh) for mesh in meshes]

    return Order(name, errors, expected)
