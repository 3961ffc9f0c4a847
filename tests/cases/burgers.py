import numpy as np

from pde_data.equations import simulate
from pde_data.equations.burgers import Burgers
from tests.cases import EquationCase, Exact, SpectralRate, relative, temporal_order


def cole_hopf(
    dtype: type, n: int = 128, times: tuple[float, ...] = (0.5, 2.0)
) -> tuple[np.ndarray, np.ndarray]:
    """u = -2 viscosity (log phi)_x with phi = 2 + exp(-viscosity t) cos(x) from the heat equation."""
    x, viscosity = np.arange(n) / n * 2 * np.pi, 0.2

    def u(t: float) -> np.ndarray:
        decay = np.exp(-viscosity * t)
        return 2 * viscosity * decay * np.sin(x) / (2 + decay * np.cos(x))

    first = u(0.0)[None].astype(dtype)
    computed = simulate("burgers", first, times, viscosity=viscosity, length=2 * np.pi, dt=0.01)
    return computed, np.stack([u(t) for t in times])[None]


def over_grids() -> tuple[list[int], list[float]]:
    sizes = [24, 33, 42]
    return sizes, [relative(*cole_hopf(np.float64, n, (0.5,))) for n in sizes]


CASE = EquationCase(
    Burgers(resolution=64, t_end=0.5, records=4, viscosity=0.02),
    Burgers(resolution=64, t_end=0.5, records=4, viscosity=0.05),
    (Exact("cole_hopf", cole_hopf, {np.float64: 1e-9, np.float32: 1e-5}),),
    (temporal_order(Burgers(resolution=64, t_end=0.5, viscosity=0.02)),),
    rates=(SpectralRate("cole_hopf", over_grids, np.arccosh(2 * np.exp(0.2 * 0.5)) / 3),),
    drift={"mean": 1e-14},
    decreasing={"energy": lambda fields: (fields["u"] ** 2).mean(-1)},
    symmetries=("translation", "reflection"),
)
