import numpy as np

from pde_data.equations import simulate
from pde_data.equations.burgers import Burgers
from tests.cases import EquationCase, Exact, temporal_order


def cole_hopf(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """u = -2 viscosity (log phi)_x with phi = 2 + exp(-viscosity t) cos(x) from the heat equation."""
    x, viscosity, times = np.arange(128) / 128 * 2 * np.pi, 0.2, [0.5, 2.0]

    def u(t: float) -> np.ndarray:
        decay = np.exp(-viscosity * t)
        return 2 * viscosity * decay * np.sin(x) / (2 + decay * np.cos(x))

    first = u(0.0)[None].astype(dtype)
    computed = simulate("burgers", first, times, viscosity=viscosity, length=2 * np.pi, dt=0.01)
    return computed, np.stack([u(t) for t in times])[None]


CASE = EquationCase(
    Burgers(resolution=64, t_end=0.5, records=4, viscosity=0.02),
    Burgers(resolution=64, t_end=0.5, records=4, viscosity=0.05),
    (Exact("cole_hopf", cole_hopf, {np.float64: 1e-9, np.float32: 1e-5}),),
    (temporal_order(Burgers(resolution=64, t_end=0.5, viscosity=0.02)),),
    drift={"mean": 1e-14},
)
