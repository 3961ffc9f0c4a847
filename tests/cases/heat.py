import numpy as np

from pde_data.equations import simulate
from pde_data.equations.heat import Heat
from tests.cases import EquationCase, Exact, coordinates


def decay(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Three modes in three dimensions, each with its own rate."""
    x, y, z = coordinates(12, 9, 16)
    modes = [(0, np.ones_like(x)), (5, np.cos(x) * np.sin(2 * y)), (14, np.sin(x + 2 * y - 3 * z))]
    times, diffusivity = [0.1, 2.0], 0.1
    u = lambda t: sum(np.exp(-diffusivity * rate * t) * mode for rate, mode in modes)  # noqa: E731
    computed = simulate("heat", u(0.0)[None].astype(dtype), times, diffusivity=diffusivity, length=2 * np.pi)
    return computed, np.stack([u(t) for t in times])[None]


CASE = EquationCase(
    Heat(resolution=24, records=4),
    Heat(resolution=24, records=4, diffusivity=0.02),
    (Exact("decay_3d", decay, {np.float64: 1e-14, np.float32: 5e-7}),),
    drift={"mean": 1e-14},
    symmetries=("translation x", "translation y", "reflection x", "reflection y", "rotation"),
    decreasing={"mean square": lambda fields: (fields["u"] ** 2).mean((-2, -1))},
)
