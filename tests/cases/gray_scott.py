import numpy as np
from scipy.integrate import solve_ivp

from pde_data.equations import simulate
from pde_data.equations.gray_scott import GrayScott
from tests.cases import EquationCase, Exact, coordinates, temporal_order


def homogeneous(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Without gradients, two ordinary differential equations, solved by SciPy."""
    feed, kill, times = 0.04, 0.06, [5.0, 60.0]

    def rates(_: float, y: np.ndarray) -> list[float]:
        a, b = y
        return [-a * b**2 + feed * (1 - a), a * b**2 - (feed + kill) * b]

    run = solve_ivp(rates, (0, times[-1]), [0.6, 0.4], "DOP853", times, rtol=1e-13, atol=1e-14)
    first = {"a": np.full((1, 4, 5), 0.6, dtype), "b": np.full((1, 4, 5), 0.4, dtype)}
    computed = simulate("gray_scott", first, times, feed=feed, kill=kill, dt=0.1)
    values = np.stack([computed["a"], computed["b"]])
    return values, np.broadcast_to(run.y[:, None, :, None, None], values.shape)


def without_catalyst(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """With b = 0 a diffuses and is fed: 1 - a decays mode by mode."""
    x, y = coordinates(24, 20, length=1.0)
    wave = np.cos(2 * np.pi * x) * np.sin(4 * np.pi * y)
    times, feed, diffusivity = [10.0, 100.0], 0.03, 1e-4
    rate = feed + diffusivity * (2 * np.pi) ** 2 * 5
    first = {"a": (1 + 0.5 * wave)[None].astype(dtype), "b": np.zeros((1, *wave.shape), dtype)}
    computed = simulate("gray_scott", first, times, feed=feed, diffusivity_a=diffusivity, length=1.0)
    assert not computed["b"].any()
    return computed["a"] - 1, np.stack([0.5 * np.exp(-rate * t) * wave for t in times])[None]


RUN = GrayScott(resolution=24, length=0.5, t_end=20.0, records=4, diffusivity_a=4e-5, diffusivity_b=2e-5)
CASE = EquationCase(
    RUN,
    GrayScott(resolution=24, length=0.5, t_end=20.0, records=4),
    (
        Exact("homogeneous", homogeneous, {np.float64: 1e-8, np.float32: 1e-5}),
        Exact("without_catalyst", without_catalyst, {np.float64: 1e-14, np.float32: 5e-6}),
    ),
    (temporal_order(RUN),),
    symmetries=("translation x", "translation y", "reflection x", "reflection y", "rotation"),
)
