import numpy as np
from scipy.integrate import solve_ivp

from pde_data.equations import simulate
from pde_data.equations.kuramoto_sivashinsky import KuramotoSivashinsky
from tests.cases import EquationCase, Exact, coordinates, temporal_order


def growth(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Small waves grow or decay alone, as exp((k^2 - k^4) t)."""
    length, times = 30.0, [1.0, 8.0]
    (x,) = coordinates(64, length=length)
    k = 2 * np.pi / length * np.array([2, 4, 6])
    waves = 1e-13 * np.cos(np.outer(k, x) + np.arange(3)[:, None])
    exact = np.stack([np.exp((k**2 - k**4) * t) @ waves for t in times])[None]
    return simulate("kuramoto_sivashinsky", waves.sum(0)[None].astype(dtype), times, length=length), exact


def scipy_radau(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """The same Fourier-Galerkin equations, written with NumPy and solved by SciPy's Radau method."""
    n, length, times = 48, 22.0, [2.0, 5.0]
    (x,) = coordinates(n, length=length)
    first = np.cos(2 * np.pi * x / length) * (1 + np.sin(4 * np.pi * x / length))
    k = 2 * np.pi / length * np.arange(n // 3)

    def rates(_: float, packed: np.ndarray) -> np.ndarray:
        modes = packed[: len(k)] + 1j * packed[len(k) :]
        u = np.fft.irfft(np.pad(modes, (0, n // 2 + 1 - len(k))), n)
        tendency = (k**2 - k**4) * modes - 0.5j * k * np.fft.rfft(u**2)[: len(k)]
        return np.concatenate([tendency.real, tendency.imag])

    modes = np.fft.rfft(first)[: len(k)]
    packed = np.concatenate([modes.real, modes.imag])
    run = solve_ivp(rates, (0, times[-1]), packed, "Radau", times, rtol=1e-9, atol=1e-10)
    ends = (run.y[: len(k)] + 1j * run.y[len(k) :]).T
    exact = np.fft.irfft(np.pad(ends, ((0, 0), (0, n // 2 + 1 - len(k)))), n)[None]
    first = first[None].astype(dtype)
    return simulate("kuramoto_sivashinsky", first, times, length=length, dt=0.02), exact


RUN = KuramotoSivashinsky(resolution=48, length=22.0, burn_in=2.0, t_end=2.0, records=4)
CASE = EquationCase(
    RUN,
    KuramotoSivashinsky(resolution=48, length=25.0, burn_in=2.0, t_end=2.0, records=4),
    (
        Exact("linear_growth", growth, {np.float64: 2e-12, np.float32: 1e-6}),
        Exact("scipy_radau", scipy_radau, {np.float64: 1e-7, np.float32: 2e-4}),
    ),
    (temporal_order(KuramotoSivashinsky(resolution=48, length=22.0, t_end=1.0)),),
    drift={"mean": 1e-14},
    symmetries=("translation", "reflection"),
)
