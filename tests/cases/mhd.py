import numpy as np

from pde_data.equations import simulate
from pde_data.equations.mhd import MHD
from tests.cases import EquationCase, Exact, coordinates, temporal_order


def alfven_wave(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """With u = -b a wave of any shape runs along the mean field at its speed and diffuses."""
    x, y = coordinates(48, 40)
    strength, nu, times = 0.7, 0.02, [0.4, 3.0]
    # Shapes of the potential with the square of their wave vectors; the vorticity is laplace(a).
    waves = [(5, lambda s: np.cos(s + 2 * y)), (10, lambda s: 0.7 * np.sin(3 * s - y)), (1, np.cos)]

    def exact(t: float) -> tuple[np.ndarray, np.ndarray]:
        parts = [(k2, np.exp(-nu * k2 * t) * wave(x - strength * t)) for k2, wave in waves]
        return sum(-k2 * p for k2, p in parts), sum(p for _, p in parts)

    first = dict(zip(("vorticity", "potential"), (part[None].astype(dtype) for part in exact(0.0))))
    settings = {"viscosity": nu, "resistivity": nu, "mean_field": strength, "length": 2 * np.pi, "dt": 0.01}
    computed = simulate("mhd", first, times, **settings)
    stacked = np.stack([computed["vorticity"], computed["potential"]])[:, 0]
    return stacked, np.stack([exact(t) for t in times], axis=1)


def current_sheets(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Without flow, the parallel field lines of a(y) only diffuse."""
    _, y = coordinates(12, 32)
    times, eta = [0.5, 4.0], 0.02
    first = {"vorticity": np.zeros((1, *y.shape), dtype), "potential": np.cos(3 * y)[None].astype(dtype)}
    computed = simulate("mhd", first, times, resistivity=eta, length=2 * np.pi)
    return computed["potential"], np.stack([np.exp(-9 * eta * t) * np.cos(3 * y) for t in times])[None]


RUN = MHD(resolution=24, t_end=0.25, records=4, viscosity=0.0, resistivity=0.0)
CASE = EquationCase(
    RUN,
    MHD(resolution=24, t_end=0.25, records=4),
    (
        Exact("alfven_wave", alfven_wave, {np.float64: 2e-8, np.float32: 1e-5}),
        Exact("current_sheets", current_sheets, {np.float64: 1e-14, np.float32: 2e-6}),
    ),
    (temporal_order(MHD(resolution=24, t_end=0.5)),),
    drift={
        "vorticity": 1e-13,
        "potential": 1e-13,
        "energy": 5e-9,
        "cross_helicity": 1e-8,
        "square_potential": 1e-10,
    },
    symmetries=("translation x", "translation y", "reflection x", "reflection y", "rotation"),
)
