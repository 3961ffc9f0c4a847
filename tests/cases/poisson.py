import numpy as np

from pde_data.equations import Poisson
from pde_data.equations.elliptic import FastPoisson, solve
from pde_data.equations.stencil import Stencil
from tests.cases import EquationCase, Exact, Order, relative


def discrete_modes(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """A product of cosine, sine and quarter-wave sine through the cell centres: an exact eigenvector."""
    n, h = (12, 9, 10), (0.1, 0.3, 0.2)
    angles = [3 * np.pi / n[0], 2 * np.pi / n[1], 1.5 * np.pi / n[2]]
    waves = [f(a * (np.arange(m) + 0.5)) for f, a, m in zip((np.cos, np.sin, np.sin), angles, n)]
    u = np.einsum("i,j,k->ijk", *waves)
    eigenvalue = sum((2 * np.sin(a / 2) / d) ** 2 for a, d in zip(angles, h))
    bc = {"x": "neumann", "y": "dirichlet", "z": ("dirichlet", "neumann")}
    stencil = Stencil.poisson(np.ones(n, bool), spacing=h, bc=bc)
    return solve(stencil, eigenvalue * u, FastPoisson.of(stencil))[0].astype(dtype), u


def spatial_order() -> tuple[list[float], list[float]]:
    """u = x^2 (3 - 2 x) cos(pi y) is 0 at x = 0 and has no flux at the other faces."""
    sizes, errors = (16, 32, 64), []
    for n in sizes:
        x, y = np.meshgrid(*2 * [(np.arange(n) + 0.5) / n], indexing="ij")
        u = x**2 * (3 - 2 * x) * np.cos(np.pi * y)
        f = (-6 + 12 * x) * np.cos(np.pi * y) + np.pi**2 * u
        bc = {"x": ("dirichlet", "neumann"), "y": "neumann"}
        stencil = Stencil.poisson(np.ones((n, n), bool), spacing=1 / n, bc=bc)
        errors.append(relative(solve(stencil, f, FastPoisson.of(stencil))[0], u))
    return [1 / n for n in sizes], errors


CASE = EquationCase(
    Poisson(resolution=32, obstacles=3, boundary="mixed"),
    Poisson(resolution=12, dimensions=3, boundary="neumann"),
    (Exact("discrete_modes", discrete_modes, {np.float64: 1e-12, np.float32: 1e-6}),),
    (Order("grid spacing", spatial_order, 2.0),),
)
