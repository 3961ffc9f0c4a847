import numpy as np

from pde_data.equations import Stokes
from pde_data.equations.staggered import StaggeredStokes
from tests.cases import EquationCase, Exact, Order, relative


def poiseuille(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """The parabola between two walls: up to a constant h^2/8 the discrete solution, in both settings."""
    n, viscosity = 20, 0.3
    y = (np.arange(n) + 0.5) / n
    profile = y * (1 - y) / 2 + 1 / (8 * n**2)
    channel = Stokes(resolution=n, obstacles=0, viscosity=viscosity, force=2.0)
    inflow = Stokes(resolution=n, obstacles=0, viscosity=viscosity, setting="inflow", speed=2.0)
    columns = []
    for equation in (channel, inflow):
        flow = equation.discretised(np.ones((n, n), bool), equation.grid)
        (u, v), p, _ = flow.solve(*equation._drive(equation.grid))
        columns += [flow.centred((u, v))[0][n // 2], p[:, 3]]
    slope = -2.0 * viscosity / profile.mean()
    expected = [2 * profile / viscosity, np.zeros(n), 2 * profile / profile.mean(), slope * (y - 1)]
    return np.stack(columns).astype(dtype), np.stack(expected)


def vortices(n: int) -> float:
    """Relative error of the velocities with stream function sin(2 pi x) sin(pi y)^2 and a pressure."""
    faces, centres = np.arange(n) / n, (np.arange(n) + 0.5) / n
    pi, viscosity = np.pi, 0.7

    def u(x, y):
        return pi * np.sin(2 * pi * x) * np.sin(2 * pi * y)

    def v(x, y):
        return -2 * pi * np.cos(2 * pi * x) * np.sin(pi * y) ** 2

    def force_x(x, y):
        pressure_x = -2 * pi * np.sin(2 * pi * x) * y**2
        return viscosity * 8 * pi**2 * u(x, y) + pressure_x

    def force_y(x, y):
        laplacian = -2 * pi * np.cos(2 * pi * x) * (2 * pi**2 * np.cos(2 * pi * y)) - 4 * pi**2 * v(x, y)
        return -viscosity * laplacian + np.cos(2 * pi * x) * 2 * y

    at_u = np.meshgrid(faces, centres, indexing="ij")
    at_v = np.meshgrid(centres, np.append(faces, 1.0), indexing="ij")
    walls = (("periodic", "periodic"), ("wall", "wall"))
    flow = StaggeredStokes(np.ones((n, n), bool), (1 / n, 1 / n), walls, viscosity)
    (cu, cv), _, _ = flow.solve((force_x(*at_u), force_y(*at_v)))
    return relative(np.append(cu, cv), np.append(u(*at_u), v(*at_v)))


def spatial_order() -> tuple[list[float], list[float]]:
    """Vortices between walls."""
    sizes = (12, 24, 48)
    return [1 / n for n in sizes], [vortices(n) for n in sizes]


CASE = EquationCase(
    Stokes(resolution=24, obstacles=2),
    Stokes(resolution=24, obstacles=2, permeability=1e-3),
    (Exact("poiseuille", poiseuille, {np.float64: 1e-10, np.float32: 1e-6}),),
    (Order("grid spacing", spatial_order, 2.0),),
)
