import numpy as np
from scipy.special import ellipj, ellipk

from pde_data.equations import simulate
from pde_data.equations.kdv import KdV
from tests.cases import EquationCase, Exact, SpectralRate, relative, temporal_order

LENGTH, A = 40.0, 1.0  # a soliton of height 2 A^2 and speed 4 A^2, e^-80 at the far side


def soliton(dtype: type, n: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """u = 2 A^2 / cosh(A (x - 4 A^2 t))^2, moved by a twentieth of the box."""
    x, times = np.arange(n) / n * LENGTH, [0.25, 0.5]

    def u(t: float) -> np.ndarray:
        return 2 * A**2 / np.cosh(A * ((x - 4 * A**2 * t) % LENGTH - LENGTH / 2)) ** 2

    computed = simulate("kdv", u(0.0)[None].astype(dtype), times, length=LENGTH, dt=0.0025)
    return computed, np.stack([u(t) for t in times])[None]


def cnoidal(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """The periodic wave u = 2 m A^2 cn(A (x - V t) | m)^2, V = 4 A^2 (2 m - 1), exact on one period."""
    m, a = 0.9, 0.8
    length, speed = 2 * ellipk(m) / a, 4 * a**2 * (2 * m - 1)
    x, times = np.arange(96) / 96 * length, [0.3, 1.0]
    u = lambda t: 2 * m * a**2 * ellipj(a * (x - speed * t), m)[1] ** 2  # noqa: E731
    computed = simulate("kdv", u(0.0)[None].astype(dtype), times, length=length, dt=0.0025)
    return computed, np.stack([u(t) for t in times])[None]


def over_grids() -> tuple[list[int], list[float]]:
    sizes = [90, 110, 130, 150, 170]
    return sizes, [relative(*soliton(np.float64, n)) for n in sizes]


CASE = EquationCase(
    KdV(resolution=64, length=32.0, t_end=1.0, records=4),
    KdV(resolution=64, length=40.0, t_end=1.0, records=4),
    (
        Exact("soliton", soliton, {np.float64: 5e-7, np.float32: 2e-5}),
        Exact("cnoidal_wave", cnoidal, {np.float64: 2e-8, np.float32: 1e-5}),
    ),
    (temporal_order(KdV(resolution=64, length=32.0, t_end=0.5)),),
    # Modes of the soliton fall as exp(-pi k / (2 A)), and n points keep k < 2 pi n / (3 LENGTH).
    (SpectralRate("soliton", over_grids, np.pi**2 / (3 * A * LENGTH)),),
    drift={"mass": 1e-14, "momentum": 1e-7, "energy": 1e-7},
    symmetries=("translation",),
)
