import numpy as np

from pde_data.equations import simulate
from pde_data.equations.advection import Advection
from tests.cases import EquationCase, Exact


def translation(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Two Fourier modes, moved."""
    x = np.arange(45) / 45 * 3.0
    wave = lambda t: (  # noqa: E731
        np.sin(2 * np.pi * (x + 0.7 * t) / 3.0) + np.cos(2 * np.pi * 5 * (x + 0.7 * t) / 3.0)
    )
    times = [0.3, 11.0]
    u = simulate("advection", wave(0.0)[None].astype(dtype), times, speed=-0.7, length=3.0)
    return u, np.stack([wave(t) for t in times])[None]


CASE = EquationCase(
    Advection(resolution=32, records=4, t_end=0.3),
    Advection(resolution=32, records=4, t_end=0.3, speed=2.0),
    (Exact("translation", translation, {np.float64: 1e-13, np.float32: 1e-6}),),
    drift={"mean": 1e-14, "mean_square": 1e-12},
    symmetries=("translation",),
)
