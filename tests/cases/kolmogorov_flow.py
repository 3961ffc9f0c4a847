import numpy as np

from pde_data.equations import simulate
from pde_data.equations.kolmogorov_flow import KolmogorovFlow
from tests.cases import EquationCase, Exact, coordinates, temporal_order


def laminar(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """From rest, the laminar flow -n cos(n y) (1 - exp(-r t)) / r with r = n^2 / reynolds + drag."""
    _, y = coordinates(24, 32)
    n, reynolds, drag, times = 3, 2.0, 0.3, [0.1, 5.0]
    rate = n**2 / reynolds + drag
    growth = (1 - np.exp(-rate * np.array(times))) / rate
    first = np.zeros((1, *y.shape), dtype)
    computed = simulate("kolmogorov_flow", first, times, reynolds=reynolds, wavenumber=n, drag=drag)
    return computed, growth[None, :, None, None] * -n * np.cos(n * y)


SMALL = {"resolution": 16, "solve_resolution": 16, "burn_in": 0.2, "t_end": 0.2, "records": 4}
RUN = KolmogorovFlow(reynolds=40.0, **SMALL)
CASE = EquationCase(
    RUN,
    KolmogorovFlow(reynolds=50.0, **SMALL),
    (Exact("laminar", laminar, {np.float64: 5e-14, np.float32: 2e-6}),),
    (temporal_order(KolmogorovFlow(resolution=16, reynolds=40.0, t_end=0.5)),),
    drift={"mean": 1e-13},
    symmetries=("translation x",),
)
