import numpy as np

from pde_data.equations import simulate
from pde_data.equations.navier_stokes import NavierStokes
from tests.cases import EquationCase, Exact, temporal_order


def periodic(n: int, length: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of n x n periodic nodes, as two arrays."""
    x = np.arange(n) / n * length
    return np.meshgrid(x, x, indexing="ij")


def taylor_green(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Decay of 2 cos(x) cos(y) at rate 2 viscosity: advection vanishes, and the vortices are unstable."""
    x, y = periodic(64, 2 * np.pi)
    w0 = (2 * np.cos(x) * np.cos(y))[None].astype(dtype)
    times, viscosity = [0.3, 5.0], 0.01
    w = simulate("navier_stokes", w0, times, viscosity=viscosity, forcing="none", length=2 * np.pi)
    return w, np.exp(-2 * viscosity * np.array(times))[:, None, None] * w0[:, None]


def kolmogorov_laminar(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """From rest, the laminar flow w = f / (viscosity k^2) (1 - exp(-viscosity k^2 t))."""
    _, y = periodic(48, 1.0)
    n, amplitude, viscosity, times = 2, 0.3, 0.05, [0.25, 40.0]
    k = 2 * np.pi * n
    growth = 1 - np.exp(-viscosity * k**2 * np.array(times))
    w = simulate(
        "navier_stokes",
        np.zeros((1, 48, 48), dtype),
        times,
        viscosity=viscosity,
        forcing="kolmogorov",
        amplitude=amplitude,
        wavenumber=n,
    )
    return w, growth[None, :, None, None] * -amplitude / (viscosity * k) * np.cos(k * y)


CASE = EquationCase(
    NavierStokes(resolution=24, t_end=1.0, records=4, forcing="none"),
    NavierStokes(resolution=24, t_end=1.0, records=4, forcing="none", viscosity=1e-2),
    (
        Exact("taylor_green", taylor_green, {np.float64: 1e-12, np.float32: 1e-4}),
        Exact("kolmogorov_laminar", kolmogorov_laminar, {np.float64: 1e-11, np.float32: 1e-5}),
    ),
    (temporal_order(NavierStokes(resolution=24, t_end=2.0)),),
    drift={"mean": 1e-14},
    symmetries=("translation x", "translation y", "reflection x", "reflection y", "rotation"),
    decreasing={"enstrophy": lambda fields: (fields["vorticity"] ** 2).mean((-2, -1))},
)
