import numpy as np

from pde_data.equations.polygon_darcy import PolygonDarcy, darcy
from pde_data.meshes import TriangleMesh
from pde_data.meshing import triangulate
from tests.cases import EquationCase, Exact
from tests.cases.meshes import l2_error, pierced, spatial_order


def manufactured(mesh: TriangleMesh) -> float:
    """Error for p = sin(2x) exp(y) with a = 1 + x y: f = -div(a grad p), p given on the whole boundary."""
    x, y = mesh.points.T
    pressure = np.sin(2 * x) * np.exp(y)
    source = 3 * (1 + x * y) * pressure - (2 * y * np.cos(2 * x) + x * np.sin(2 * x)) * np.exp(y)
    problem = darcy(mesh, 1 + x * y, source, mesh.tags > 0)
    return l2_error(mesh, problem.solve(pressure), lambda p: np.sin(2 * p[..., 0]) * np.exp(p[..., 1]))


def insulated(mesh: TriangleMesh) -> float:
    """Error for p = cos(pi x) cos(pi y), with no flux through the sides of the square; given at the hole."""
    x, y = mesh.points.T
    pressure = np.cos(np.pi * x) * np.cos(np.pi * y)
    problem = darcy(mesh, np.ones_like(x), 2 * np.pi**2 * pressure, mesh.tags == 2)
    return l2_error(mesh, problem.solve(pressure), lambda p: np.cos(np.pi * p).prod(-1))


def linear(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Patch test: a linear pressure without a source is found at every inner node."""
    mesh = triangulate(pierced(), 0.08)
    pressure = mesh.points @ [2.0, -3.0] + 1
    problem = darcy(mesh, np.full(len(pressure), 0.7), np.zeros(len(pressure)), mesh.tags > 0)
    return problem.solve(np.where(mesh.tags > 0, pressure, 0.0)), pressure


CASE = EquationCase(
    PolygonDarcy(size=0.05, holes=2),
    PolygonDarcy(size=0.05, holes=2, contrast=0.5),
    (Exact("linear pressure", linear, {np.float64: 1e-13}),),
    (spatial_order(manufactured), spatial_order(insulated, name="mesh size, no flux")),
    samples=4,
    needs="skfem",
)
