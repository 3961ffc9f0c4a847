import numpy as np

from pde_data.domains import Domain
from pde_data.equations.cylinder_flow import HEIGHT, LENGTH, CylinderFlow
from pde_data.equations.taylor_hood import TaylorHood
from pde_data.meshes import TriangleMesh
from pde_data.meshing import triangulate
from tests.cases import EquationCase, Exact
from tests.cases.meshes import l2_error, spatial_order

DENSITY, VISCOSITY = 3.0, 0.2


def force(points: np.ndarray) -> np.ndarray:
    """rho u.grad(u) - mu laplace(u) + grad(p) for the manufactured flow."""
    x, y = points
    u, v = np.cos(x) * np.sin(y), -np.sin(x) * np.cos(y)
    ux, uy, vx, vy = (
        -np.sin(x) * np.sin(y),
        np.cos(x) * np.cos(y),
        -np.cos(x) * np.cos(y),
        np.sin(x) * np.sin(y),
    )
    return np.stack(
        [
            DENSITY * (u * ux + v * uy) + 2 * VISCOSITY * u + y,
            DENSITY * (u * vx + v * vy) + 2 * VISCOSITY * v + x,
        ]
    )


def velocity(points: np.ndarray) -> np.ndarray:
    x, y = points[..., 0], points[..., 1]
    return np.stack([np.cos(x) * np.sin(y), -np.sin(x) * np.cos(y)], axis=-1)


def _errors(mesh: TriangleMesh) -> tuple[float, float]:
    """Errors of velocity and pressure for u = (cos x sin y, -sin x cos y), p = x y; u is given outside."""
    flow = TaylorHood(mesh, DENSITY, VISCOSITY, force)
    given = np.where(flow.refined.tags[:, None] > 0, velocity(flow.refined.points), np.nan)
    u, p = flow.solve(given)
    p = p[: len(mesh.points)]
    p = p - np.average(p - mesh.points.prod(-1), weights=mesh.weights)  # it is known up to a constant
    return l2_error(mesh, u, velocity, order=2), l2_error(mesh, p, lambda points: points.prod(-1))


def poiseuille(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """A channel without a cylinder: the velocity is a parabola, and the pressure falls evenly."""
    channel = np.array([[0.0, 0.0], [LENGTH, 0.0], [LENGTH, HEIGHT], [0.0, HEIGHT]])
    mesh = triangulate(Domain((channel,), (np.array([3, 2, 3, 1]),)), 0.1)
    flow = TaylorHood(mesh, 1.0, 1e-2)
    x, y = flow.refined.points.T
    u = np.stack([y * (HEIGHT - y), np.zeros_like(y)], axis=1)
    given = np.isin(flow.refined.tags, (1, 3))
    found, pressure = flow.solve(np.where(given[:, None], u, np.nan))
    return np.column_stack([found, pressure]), np.column_stack([u, 2e-2 * (LENGTH - x)])


CASE = EquationCase(
    CylinderFlow(size=0.04),
    CylinderFlow(size=0.04, reynolds=5.0),
    (Exact("Poiseuille flow", poiseuille, {np.float64: 1e-11}),),
    (
        spatial_order(lambda mesh: _errors(mesh)[0], 3.0, 0.3, "mesh size, velocity"),
        spatial_order(lambda mesh: _errors(mesh)[1], 2.0, 0.3, "mesh size, pressure"),
    ),
    samples=4,
    needs="skfem",
)
