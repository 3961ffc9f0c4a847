import numpy as np
from scipy.integrate import solve_ivp
from scipy.linalg import expm

from pde_data.equations import simulate
from pde_data.equations.fitzhugh_nagumo import FitzHughNagumo
from tests.cases import EquationCase, Exact, coordinates, temporal_order


def homogeneous(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Without gradients, two ordinary differential equations, solved by SciPy."""
    k, times = 0.1, [0.5, 6.0]

    def rates(_: float, y: np.ndarray) -> list[float]:
        u, v = y
        return [u - u**3 - k - v, u - v]

    run = solve_ivp(rates, (0, times[-1]), [0.9, -0.3], "DOP853", times, rtol=1e-13, atol=1e-14)
    first = {"u": np.full((1, 4, 5), 0.9, dtype), "v": np.full((1, 4, 5), -0.3, dtype)}
    computed = simulate("fitzhugh_nagumo", first, times, k=k, dt=0.02)
    values = np.stack([computed["u"], computed["v"]])
    return values, np.broadcast_to(run.y[:, None, :, None, None], values.shape)


def linear_limit(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Small waves about rest follow the exponential of a 2 x 2 matrix each."""
    x, y = coordinates(24, 20)
    times, diffusivities = [0.5, 3.0], np.diag([0.02, 0.3])
    waves = [(1, np.cos(x)), (13, np.sin(2 * x + 3 * y))]
    start = 1e-9 * np.array([1.0, -0.5])
    exact = [
        sum(
            (expm((np.array([[1, -1], [1, -1]]) - k2 * diffusivities) * t) @ start)[:, None, None] * wave
            for k2, wave in waves
        )
        for t in [0.0, *times]
    ]
    first = {name: exact[0][i][None].astype(dtype) for i, name in enumerate("uv")}
    settings = {"diffusivity_u": 0.02, "diffusivity_v": 0.3, "k": 0.0, "length": 2 * np.pi, "dt": 0.02}
    computed = simulate("fitzhugh_nagumo", first, times, **settings)
    return np.stack([computed["u"], computed["v"]])[:, 0], np.stack(exact[1:], axis=1)


RUN = FitzHughNagumo(resolution=24, t_end=0.5, records=4, diffusivity_u=1e-2)
CASE = EquationCase(
    RUN,
    FitzHughNagumo(resolution=24, t_end=0.5, records=4, diffusivity_u=4e-3),
    (
        Exact("homogeneous", homogeneous, {np.float64: 5e-8, np.float32: 5e-6}),
        Exact("linear_waves", linear_limit, {np.float64: 1e-7, np.float32: 5e-5}),
    ),
    (temporal_order(RUN),),
    symmetries=("translation x", "translation y", "reflection x", "reflection y", "rotation"),
)
