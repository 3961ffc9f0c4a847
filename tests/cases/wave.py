import numpy as np

from pde_data.equations import simulate
from pde_data.equations.wave import Wave
from tests.cases import EquationCase, Exact, coordinates


def dalembert(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Two profiles that run through each other on an interval."""
    (x,) = coordinates(45, length=3.0)
    k, c, times = 2 * np.pi / 3.0, 0.7, [0.4, 11.0]
    right = lambda s: np.sin(k * s) + 0.5 * np.cos(4 * k * s)  # noqa: E731
    left = lambda s: np.cos(3 * k * s)  # noqa: E731
    slope_right = lambda s: k * np.cos(k * s) - 2 * k * np.sin(4 * k * s)  # noqa: E731
    slope_left = lambda s: -3 * k * np.sin(3 * k * s)  # noqa: E731
    u = lambda t: 1.0 + right(x - c * t) + left(x + c * t)  # noqa: E731
    v = lambda t: c * (slope_left(x + c * t) - slope_right(x - c * t))  # noqa: E731
    first = {"u": u(0.0)[None].astype(dtype), "u_t": v(0.0)[None].astype(dtype)}
    run = simulate("wave", first, times, speed=c, length=3.0)
    return np.stack([run["u"], run["u_t"]]), np.array([[[f(t) for t in times]] for f in (u, v)])


def standing(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """A standing wave in three dimensions, on a grid of three sizes."""
    x, y, z = coordinates(12, 9, 16)
    shape, frequency, times = np.cos(x) * np.sin(2 * y) * np.cos(3 * z), 0.5 * np.sqrt(14), [0.3, 7.0]
    first = {"u": shape[None].astype(dtype), "u_t": np.zeros((1, *shape.shape), dtype)}
    run = simulate("wave", first, times, speed=0.5, length=2 * np.pi)
    u = [np.cos(frequency * t) * shape for t in times]
    v = [-frequency * np.sin(frequency * t) * shape for t in times]
    return np.stack([run["u"], run["u_t"]]), np.array([[u], [v]])


CASE = EquationCase(
    Wave(resolution=24, records=4),
    Wave(resolution=24, records=4, speed=2.0),
    (
        Exact("dalembert", dalembert, {np.float64: 5e-14, np.float32: 2e-6}),
        Exact("standing_3d", standing, {np.float64: 2e-14, np.float32: 1e-6}),
    ),
    drift={"mean": 1e-14, "energy": 1e-13},
    symmetries=("translation x", "translation y", "reflection x", "reflection y", "rotation"),
)
