import numpy as np

from pde_data.domains import Domain
from pde_data.equations.elasticity import Elasticity, plane_strain
from pde_data.meshes import TriangleMesh
from pde_data.meshing import triangulate
from tests.cases import EquationCase, Exact
from tests.cases.meshes import l2_error, pierced, spatial_order

RATIO = 0.3
MU, LAMBDA = 1 / (2 + 2 * RATIO), RATIO / ((1 + RATIO) * (1 - 2 * RATIO))


def displacement(points: np.ndarray) -> np.ndarray:
    x, y = points[..., 0], points[..., 1]
    return np.stack([np.sin(x) * np.cos(y), x * y**2], axis=-1)


def manufactured(mesh: TriangleMesh) -> float:
    """Error for u = (sin x cos y, x y^2) with E = 1 + x, given on the whole boundary."""
    x, y = mesh.points.T
    modulus = 1 + x
    # Derivatives of u and v, the components of the displacement.
    ux, uy = np.cos(x) * np.cos(y), -np.sin(x) * np.sin(y)
    vx, vy = y**2, 2 * x * y
    uxx = uyy = -np.sin(x) * np.cos(y)
    uxy, vxx, vxy, vyy = -np.cos(x) * np.sin(y), 0.0, 2 * y, 2 * x
    # sigma / E, and its divergence by the product rule with E_x = 1.
    s11, s12 = LAMBDA * (ux + vy) + 2 * MU * ux, MU * (uy + vx)
    force = -np.stack(
        [
            s11 + modulus * (LAMBDA * (uxx + vxy) + 2 * MU * uxx + MU * (uyy + vxy)),
            s12 + modulus * (MU * (uxy + vxx) + LAMBDA * (uxy + vyy) + 2 * MU * vyy),
        ],
        axis=1,
    )
    problem = plane_strain(mesh, modulus, RATIO, force, mesh.tags > 0)
    return l2_error(mesh, problem.solve(displacement(mesh.points).ravel()).reshape(-1, 2), displacement)


def linear(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Patch test: a linear displacement of a homogeneous body without load is found at every inner node."""
    mesh = triangulate(pierced(), 0.08)
    u = mesh.points @ np.array([[0.3, -0.2], [0.5, 0.1]]) + [1.0, 2.0]
    problem = plane_strain(mesh, np.full(len(u), 2.0), RATIO, np.zeros_like(u), mesh.tags > 0)
    given = np.where(mesh.tags[:, None] > 0, u, 0.0)
    return problem.solve(given.ravel()).reshape(-1, 2), u


def stretched(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """A square with free sides pulled apart: stress along x alone, so u_y = -nu/(1-nu) u_x' y."""
    square = pierced()
    mesh = triangulate(Domain(square.loops[:1], square.tags[:1]), 0.08)
    x, y = mesh.points.T
    u = np.stack([x, -RATIO / (1 - RATIO) * y], axis=1)
    fixed = (x == 0) | (x == 1)
    problem = plane_strain(mesh, np.ones_like(x), RATIO, np.zeros_like(u), fixed)
    return problem.solve(np.where(fixed[:, None], u, 0.0).ravel()).reshape(-1, 2), u


CASE = EquationCase(
    Elasticity(size=0.05, holes=2),
    Elasticity(size=0.05, holes=2, poisson_ratio=0.2),
    (
        Exact("linear displacement", linear, {np.float64: 1e-13}),
        Exact("uniaxial stress", stretched, {np.float64: 1e-12}),
    ),
    (spatial_order(manufactured),),
    samples=4,
    needs="skfem",
)
