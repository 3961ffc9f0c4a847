from collections.abc import Mapping

import numpy as np
from scipy.special import ellipj, ellipk

from pde_data.equations import simulate
from pde_data.equations.allen_cahn import AllenCahn
from pde_data.equations.fourier import seminorm
from tests.cases import EquationCase, Exact, coordinates, temporal_order

RUN = AllenCahn(resolution=32, t_end=2.0, records=8, epsilon=0.05)


def front(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Fronts 1/(1 + exp(z)), z = (|x| - 3 epsilon t / sqrt(2) - a) / (sqrt(2) epsilon), that invade 0.

    The two of the periodic box feel each other by exp(-a / (sqrt(2) epsilon)), which is below 1e-13.
    """
    (x,) = coordinates(1024, length=2.0)
    epsilon, times = 0.01, [1.0, 4.0]
    width = np.sqrt(2) * epsilon

    def u(t: float) -> np.ndarray:
        return 1 / (1 + np.exp((np.abs(x - 1) - 3 * epsilon * t / np.sqrt(2) - 0.45) / width))

    first = u(0.0)[None].astype(dtype)
    computed = simulate("allen_cahn", first, times, epsilon=epsilon, length=2.0, dt=0.01)
    return computed, np.stack([u(t) for t in times])[None]


def stationary(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """The periodic profile sqrt(2 m / (1 + m)) sn(x / (epsilon sqrt(1 + m)) | m) stays, along either axis."""
    m, epsilon = 0.9, 0.1
    scale = epsilon * np.sqrt(1 + m)
    length = 4 * ellipk(m) * scale
    x, y = coordinates(128, 112, length=length)
    u = np.sqrt(2 * m / (1 + m)) * np.stack([ellipj(s / scale, m)[0] for s in (x, y)])
    times = [0.5, 3.0]
    computed = simulate("allen_cahn", u.astype(dtype), times, epsilon=epsilon, length=length, dt=0.02)
    return computed, np.stack([u] * 2, axis=1)


def homogeneous(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Without gradients u = u0 / sqrt(u0^2 + (1 - u0^2) exp(-2 t)), in three dimensions."""
    times, u0 = np.array([0.5, 3.0]), 0.1
    u = u0 / np.sqrt(u0**2 + (1 - u0**2) * np.exp(-2 * times))
    computed = simulate("allen_cahn", np.full((1, 6, 4, 5), u0, dtype), times, dt=0.02)
    return computed, np.broadcast_to(u[None, :, None, None, None], computed.shape)


def energy(fields: Mapping[str, np.ndarray]) -> np.ndarray:
    """Free energy, the mean of epsilon^2 |grad u|^2 / 2 + (1 - u^2)^2 / 4."""
    u = fields["u"]
    well = ((1 - u**2) ** 2).mean((-2, -1)) / 4
    return RUN.epsilon**2 * seminorm(u, RUN.grid, 1) / 2 + well


CASE = EquationCase(
    RUN,
    AllenCahn(resolution=32, t_end=2.0, records=8, epsilon=0.06),
    (
        Exact("travelling_fronts", front, {np.float64: 5e-10, np.float32: 5e-4}),
        Exact("stationary_sn", stationary, {np.float64: 5e-12, np.float32: 1e-5}),
        Exact("homogeneous_3d", homogeneous, {np.float64: 2e-8, np.float32: 5e-6}),
    ),
    (temporal_order(RUN),),
    symmetries=("translation x", "translation y", "reflection x", "reflection y", "rotation"),
    decreasing={"free energy": energy},
)
