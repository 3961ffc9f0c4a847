import numpy as np

from pde_data.equations import simulate
from pde_data.equations.boussinesq import Boussinesq
from tests.cases import EquationCase, Exact, coordinates, temporal_order

BOX = {"length": 2 * np.pi}


def run(first: list[np.ndarray], times: list[float], dtype: type, **settings: float) -> np.ndarray:
    """Vorticity and scalar `(variable, sample, time, x, y)` from one initial field each."""
    names = ("vorticity", "scalar")
    initial = {name: values[None].astype(dtype) for name, values in zip(names, first)}
    computed = simulate("boussinesq", initial, times, **BOX, **settings)
    return np.stack([computed[name] for name in names])


def passive_taylor_green(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """A scalar that is constant on the streamlines of decaying vortices only diffuses."""
    x, y = coordinates(48, 40)
    cells, times, viscosity, diffusivity = np.cos(x) * np.cos(y), np.array([0.3, 3.0]), 0.02, 0.05
    settings = {"viscosity": viscosity, "diffusivity": diffusivity, "buoyancy": 0.0}
    computed = run([2 * cells, 1 + cells], times.tolist(), dtype, **settings)
    decay = [np.exp(-2 * rate * times)[:, None, None] for rate in (viscosity, diffusivity)]
    return computed, np.stack([2 * decay[0] * cells, 1 + decay[1] * cells])[:, None]


def shear(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Without friction, the flow sin(y) along x carries cos(x) to cos(x - t sin(y))."""
    x, y = coordinates(48, 64)
    times = [0.5, 2.0]
    settings = {"viscosity": 0.0, "diffusivity": 0.0, "buoyancy": 0.0, "dt": 0.01}
    computed = run([-np.cos(y), np.cos(x)], times, dtype, **settings)
    scalar = [np.cos(x - t * np.sin(y)) for t in times]
    return computed, np.stack([[-np.cos(y)] * 2, scalar])[:, None]


def rising_sheets(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """The scalar cos(k x) lifts vertical sheets of fluid, which carry nothing along themselves."""
    x, _ = coordinates(32, 12)
    k, nu, kappa, lift, times = 3, 0.05, 0.02, 0.7, [0.5, 4.0]
    exact = [
        [
            -lift
            * k
            * np.sin(k * x)
            * (np.exp(-kappa * k**2 * t) - np.exp(-nu * k**2 * t))
            / ((nu - kappa) * k**2)
            for t in times
        ],
        [np.exp(-kappa * k**2 * t) * np.cos(k * x) for t in times],
    ]
    first = [np.zeros_like(x), np.cos(k * x)]
    settings = {"viscosity": nu, "diffusivity": kappa, "buoyancy": lift, "dt": 0.02}
    return run(first, times, dtype, **settings), np.array(exact)[:, None]


def hydrostatic_rest(dtype: type) -> tuple[np.ndarray, np.ndarray]:
    """Layers, heavy or light, drive no flow; they diffuse."""
    _, y = coordinates(12, 32)
    times, kappa = [0.5, 4.0], 0.02
    computed = run([np.zeros_like(y), np.cos(3 * y)], times, dtype, diffusivity=kappa, buoyancy=2.0)
    assert not computed[0].any()
    return computed[1], np.stack([np.exp(-9 * kappa * t) * np.cos(3 * y) for t in times])[None]


RUN = Boussinesq(resolution=20, t_end=1.0, records=4)
CASE = EquationCase(
    RUN,
    Boussinesq(resolution=20, t_end=1.0, records=4, buoyancy=1.0),
    (
        Exact("passive_taylor_green", passive_taylor_green, {np.float64: 1e-14, np.float32: 5e-6}),
        Exact("passive_shear", shear, {np.float64: 2e-10, np.float32: 5e-6}),
        Exact("rising_sheets", rising_sheets, {np.float64: 5e-12, np.float32: 1e-5}),
        Exact("hydrostatic_rest", hydrostatic_rest, {np.float64: 1e-14, np.float32: 1e-6}),
    ),
    (temporal_order(RUN),),
    drift={"vorticity": 1e-14, "scalar": 1e-14},
    symmetries=("translation x", "translation y", "reflection x"),
)
