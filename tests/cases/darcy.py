import numpy as np

from pde_data.equations import Darcy
from pde_data.equations.elliptic import FastPoisson, solve
from pde_data.equations.stencil import Stencil
from tests.cases import EquationCase, Exact, Order, relative


def layers(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Constant flux through 3 layers in a line, u' = 2 / a: exact at any contrast."""
    n, h = 24, 0.125
    a = np.repeat([12.0, 3e-3, 5.0], n // 3)
    stencil = Stencil.poisson(np.ones(n, bool), a, spacing=h)
    faces = np.concatenate([[0], np.cumsum(2 * h / a)])
    u, _ = solve(stencil, stencil.boundary_terms(values=[np.where(faces > 0, faces[-1], 0)]), fast=None)
    return u.astype(dtype), (faces[1:] + faces[:-1]) / 2


def smooth(n: int) -> float:
    """Relative error for u = sin(pi x) sin(2 pi y) e^x and a = exp(sin(3x + 2y)) on n x n cells."""
    x, y = np.meshgrid(*2 * [(np.arange(n) + 0.5) / n], indexing="ij")
    a = np.exp(np.sin(3 * x + 2 * y))
    slope = np.cos(3 * x + 2 * y)  # grad a = a (3, 2) slope
    s, c, sy, cy, e = (
        np.sin(np.pi * x),
        np.cos(np.pi * x),
        np.sin(2 * np.pi * y),
        np.cos(2 * np.pi * y),
        np.exp(x),
    )
    u = s * sy * e
    ux, uy = (np.pi * c + s) * sy * e, 2 * np.pi * s * cy * e
    laplacian = (2 * np.pi * c + (1 - np.pi**2) * s) * sy * e - 4 * np.pi**2 * u
    f = -a * (laplacian + slope * (3 * ux + 2 * uy))
    stencil = Stencil.poisson(np.ones((n, n), bool), a, spacing=1 / n)
    return relative(solve(stencil, f, FastPoisson.of(stencil))[0], u)


def spatial_order() -> tuple[list[float], list[float]]:
    """A smooth coefficient."""
    sizes = (16, 32, 64)
    return [1 / n for n in sizes], [smooth(n) for n in sizes]


CASE = EquationCase(
    Darcy(resolution=24),
    Darcy(resolution=24, coefficient="log_normal"),
    (Exact("layers", layers, {np.float64: 1e-9, np.float32: 1e-6}),),
    (Order("grid spacing", spatial_order, 2.0),),
)
