import numpy as np
import pytest
import torch

from pde_data.equations import NavierStokes, simulate
from pde_data.equations.periodic import PeriodicSolver
from pde_data.grids import Grid, resample
from pde_data.integrate import COURANT, LIMIT, SolverError
from pde_data.random_fields import GaussianRandomField

PERIOD = 2 * np.pi


def random_vorticity(n, samples=1, length=1.0):
    grid = Grid((n, n), lengths=length)
    w0 = torch.from_numpy(GaussianRandomField(tau=7.0 / length).sample(5, range(samples), grid))
    solver = PeriodicSolver(NavierStokes(), grid, torch.float64)
    return solver.spectrum.to_values(solver.spectrum.project(w0)).numpy()


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def smooth_vorticity(n):
    x, y = np.meshgrid(*Grid((n, n), lengths=PERIOD).coordinates, indexing="ij")
    return (np.sin(x) * np.cos(2 * y) + 0.5 * np.cos(3 * x + y) + 0.3 * np.sin(y))[None]


@pytest.mark.parametrize("forcing", ["none", "kolmogorov"])
def test_temporal_order_is_four(forcing):
    w0 = smooth_vorticity(32)
    settings = {"viscosity": 0.01, "forcing": forcing, "length": PERIOD, "wavenumber": 2}
    ends = [simulate("navier_stokes", w0, [2.0], dt=2.0 / n, **settings) for n in (16, 32, 64, 512)]
    errors = [relative(end, ends[-1]) for end in ends[:-1]]
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders[-1] == pytest.approx(4, abs=0.2)


def energy_and_enstrophy(w, length):
    grid = Grid(w.shape[-2:], lengths=length)
    kx, ky = (grid.wavenumbers(a) for a in (0, 1))
    k2 = kx[:, None] ** 2 + ky**2
    power = np.abs(np.fft.fft2(w, norm="forward")) ** 2
    return (power / np.where(k2 > 0, k2, np.inf)).sum((-2, -1)) / 2, power.sum((-2, -1)) / 2


def test_inviscid_energy_and_enstrophy_drift_shrinks_at_order_four():
    w0 = random_vorticity(32)
    drift = []
    for dt in (0.1, 0.05, 0.025):
        w = simulate("navier_stokes", w0, [0.0, 5.0], viscosity=0.0, forcing="none", dt=dt)
        drift.append([abs(q[0, 1] / q[0, 0] - 1) for q in energy_and_enstrophy(w, 1.0)])
    orders = np.log2(np.array(drift[:-1]) / drift[1:])
    assert np.all(orders >= 4), (drift, orders)
    assert np.all(np.array(drift[-1]) < 1e-7)


def test_enstrophy_budget_holds_in_each_step():
    """dZ/dt = -2 viscosity P + <w f>, with the left side from five neighbouring steps."""
    n, viscosity, dt = 32, 1e-3, 2e-3
    times = dt * np.arange(13)
    w = simulate("navier_stokes", random_vorticity(n), times, viscosity=viscosity, forcing="fno", dt=dt)[0]
    x, y = np.meshgrid(*Grid((n, n)).coordinates, indexing="ij")
    f = 0.1 * (np.sin(PERIOD * (x + y)) + np.cos(PERIOD * (x + y)))
    k = Grid((n, n)).wavenumbers(0)
    palinstrophy = ((k[:, None] ** 2 + k**2) * np.abs(np.fft.fft2(w, norm="forward")) ** 2).sum((-2, -1)) / 2
    right = -2 * viscosity * palinstrophy + (w * f).mean((-2, -1))
    z = (w**2).mean((-2, -1)) / 2
    left = (z[:-4] - 8 * z[1:-3] + 8 * z[3:-1] - z[4:]) / (12 * dt)
    assert np.abs(left - right[2:-2]).max() <= 1e-8 * np.abs(right).max()


def test_advection_creates_no_enstrophy():
    assert (
        NavierStokes(dtype="float64", resolution=30, t_end=1.0, records=2)
        .generate(0, range(3))["diagnostics"]["enstrophy_transfer"]
        .max()
        <= 1e-13
    )


SYMMETRIES = {
    "translation": (lambda w: np.roll(w, (5, -3), axis=(-2, -1)), ("none",)),
    "rotation": (lambda w: rotate(w), ("none", "sym")),
    "reflection": (lambda w: -np.roll(np.flip(w, -2), 1, -2), ("none",)),
}


def rotate(w):
    """By 90 degrees about the first grid point."""
    return np.roll(np.flip(np.swapaxes(w, -2, -1), -2), 1, -2)


@pytest.mark.parametrize("n", [32, 33])
@pytest.mark.parametrize(
    ("name", "forcing"), [(name, f) for name, (_, forcings) in SYMMETRIES.items() for f in forcings]
)
def test_solving_commutes_with_symmetries(name, forcing, n):
    move = SYMMETRIES[name][0]
    w0 = random_vorticity(n)
    solve = lambda w: simulate("navier_stokes", w, [1.0], viscosity=1e-3, forcing=forcing)  # noqa: E731
    assert relative(move(w0), w0) > 0.1
    assert relative(solve(move(w0)), move(solve(w0))) <= 1e-12


def test_fno_forcing_breaks_the_rotation_symmetry():
    w0 = random_vorticity(32)
    solve = lambda w: simulate("navier_stokes", w, [1.0], viscosity=1e-3, forcing="fno")  # noqa: E731
    assert relative(solve(rotate(w0)), rotate(solve(w0))) > 1e-3


def test_a_step_that_blows_up_is_refined():
    grid = Grid((64, 64))
    w0 = torch.from_numpy(GaussianRandomField().sample(0, range(2), grid)).float()
    solver = PeriodicSolver(NavierStokes(viscosity=1e-4, dt=0.0625), grid, torch.float32)
    frames = [frame["vorticity"] for frame, _ in solver({"vorticity": w0}, np.arange(1.0, 21.0))]
    assert all(torch.isfinite(w).all() for w in frames)
    assert float(frames[-1].abs().max()) < 10
    assert np.all(solver.integrator.steps > 20 / 0.0625)
    assert np.all(solver.integrator.max_courant <= LIMIT)


def test_chosen_steps_are_stable_accurate_and_the_same_in_any_company():
    w0 = random_vorticity(32, samples=11)
    settings = {"viscosity": 1e-3, "forcing": "fno"}
    together = simulate("navier_stokes", w0, [0.7, 3.0], **settings)
    alone = simulate("navier_stokes", w0[7:8], [0.7, 3.0], **settings)
    fine = simulate("navier_stokes", w0, [0.7, 3.0], dt=0.005, **settings)
    assert relative(together[7], alone[0]) <= 1e-13
    assert relative(together, fine) <= 2e-6
    diagnostics = NavierStokes(resolution=32, t_end=5.0, records=5).generate(0, range(6))["diagnostics"]
    assert np.all(diagnostics["max_courant"] <= LIMIT) and np.any(diagnostics["max_courant"] > 0.5 * COURANT)


def test_requested_times_do_not_depend_on_one_another():
    w0 = random_vorticity(32)
    both = simulate("navier_stokes", w0, [0.31, 1.7], forcing="none", dt=0.01)
    one = simulate("navier_stokes", w0, [1.7], forcing="none", dt=0.01)
    assert relative(both[:, 1], one[:, 0]) <= 1e-8


def test_a_finer_solve_is_restricted_to_the_stored_grid():
    settings = {"t_end": 1.0, "records": 1, "dtype": "float64"}
    coarse = NavierStokes(resolution=32, solve_resolution=64, **settings).generate(2, [0])["vorticity"]
    fine = NavierStokes(resolution=64, **settings).generate(2, [0])["vorticity"]
    assert relative(coarse, resample(fine, Grid((64, 64)), Grid((32, 32)))) <= 1e-6


def test_coordinates_scale_with_the_box():
    """w(t, x) on a box of side L is w'(t, x/L) of the unit box with viscosity / L^2."""
    w0 = random_vorticity(32)
    unit = simulate("navier_stokes", w0, [1.0], viscosity=1e-3, forcing="sym")
    large = simulate("navier_stokes", w0, [1.0], viscosity=9e-3, forcing="sym", length=3.0)
    assert relative(large, unit) <= 1e-10


def test_tensors_come_back_as_tensors():
    w0 = random_vorticity(16)
    w = simulate("navier_stokes", torch.from_numpy(w0).float(), [0.5], forcing="none")
    assert isinstance(w, torch.Tensor) and w.dtype == torch.float32
    assert relative(w.numpy(), simulate("navier_stokes", w0, [0.5], forcing="none")) <= 1e-5


def test_rectangular_arrays_live_on_the_square_box():
    x, y = np.meshgrid(np.arange(20) / 20, np.arange(33) / 33, indexing="ij")
    w0 = (np.cos(PERIOD * x) * np.cos(PERIOD * y))[None]
    w = simulate("navier_stokes", w0, [2.0], viscosity=0.01, forcing="none")[:, 0]
    assert relative(w, np.exp(-2 * 0.01 * PERIOD**2 * 2.0) * w0) <= 1e-12


# Each lies in one eigenspace of the Laplacian, in which the flow from rest stays: mode and (kx, ky).
FORCINGS = {"fno": (1, (1, 1)), "sym": (2, (2, 0)), "kolmogorov": (5, (0, 5))}


@pytest.mark.parametrize(("forcing", "mode", "vector"), [(f, m, v) for f, (m, v) in FORCINGS.items()])
def test_a_forcing_drives_the_flow_from_the_smallest_grid_that_resolves_it(forcing, mode, vector):
    n = 3 * mode + 1
    x, y = PERIOD * np.array(np.meshgrid(np.arange(n) / n, np.arange(n) / n, indexing="ij"))
    f = {
        "fno": 0.1 * (np.sin(x + y) + np.cos(x + y)),
        "sym": 0.1 * (np.cos(2 * x) + np.cos(2 * y)),
        "kolmogorov": -0.3 * PERIOD * 5 * np.cos(5 * y),
    }[forcing]
    settings = {"forcing": forcing, "amplitude": 0.3, "wavenumber": 5, "viscosity": 0.01}
    w = simulate("navier_stokes", np.zeros((1, n, n)), [0.7], **settings)[0, 0]
    decay = 0.01 * PERIOD**2 * np.sum(np.square(vector))
    assert relative(w, f * (1 - np.exp(-decay * 0.7)) / decay) <= 1e-11
    with pytest.raises(ValueError, match=f"acts on mode {mode}, but {n - 1} points"):
        PeriodicSolver(NavierStokes(forcing=forcing, wavenumber=5), Grid((n - 1, n - 1)), torch.float64)


@pytest.mark.parametrize(
    ("forcing", "wavenumber", "n", "highest", "smallest"),
    [
        ("kolmogorov", 14, 16, 5, 43),
        ("kolmogorov", 7, 16, 5, 22),
        ("kolmogorov", 4, 8, 2, 13),
        ("sym", 4, 4, 1, 7),
    ],
)
def test_a_forcing_beyond_the_grid_is_refused(forcing, wavenumber, n, highest, smallest):
    words = rf"{n} points resolve modes up to {highest} .*smallest resolution .* is {smallest}$"
    with pytest.raises(ValueError, match=words):
        NavierStokes(resolution=n, forcing=forcing, wavenumber=wavenumber)
    with pytest.raises(ValueError, match=words):
        simulate("navier_stokes", np.zeros((1, n, n)), [1.0], forcing=forcing, wavenumber=wavenumber)
    NavierStokes(resolution=n, solve_resolution=smallest, forcing=forcing, wavenumber=wavenumber)


def test_the_axis_of_the_forcing_is_the_one_that_must_resolve_it():
    settings = {"times": [0.1], "forcing": "kolmogorov", "wavenumber": 8}
    assert np.abs(simulate("navier_stokes", np.zeros((1, 8, 25)), **settings)).max() > 1
    with pytest.raises(ValueError, match="acts on mode 8, but 8 points"):
        simulate("navier_stokes", np.zeros((1, 25, 8)), **settings)


def test_initial_values_may_lie_in_memory_in_any_way():
    w0 = random_vorticity(16)
    expected = simulate("navier_stokes", w0, [0.5])
    frozen = w0.copy()
    frozen.setflags(write=False)
    for other in (w0[:, ::-1].copy()[:, ::-1], np.asfortranarray(w0), w0.astype(">f8"), frozen):
        np.testing.assert_array_equal(simulate("navier_stokes", other, [0.5]), expected)


GOOD = np.zeros((1, 16, 16))
BAD_CALLS = {
    "unknown equation": (ValueError, "choose one of .*navier_stokes", ("euler", GOOD, [1.0]), {}),
    "integers": (
        TypeError,
        "float32 or float64, got ndarray of int64",
        ("navier_stokes", GOOD.astype(int), [1.0]),
        {},
    ),
    "rank": (
        ValueError,
        r"shape \(16, 16\): expected 2 axes of space after the samples",
        ("navier_stokes", GOOD[0], [1.0]),
        {},
    ),
    "nan": (ValueError, "NaN or infinity", ("navier_stokes", GOOD + np.nan, [1.0]), {}),
    "mean": (ValueError, "subtract the mean", ("navier_stokes", GOOD + 1, [1.0]), {}),
    "times": (ValueError, "must increase strictly", ("navier_stokes", GOOD, [1.0, 1.0]), {}),
    "negative time": (ValueError, "not be negative", ("navier_stokes", GOOD, [-1.0]), {}),
    "forcing": (
        ValueError,
        "choose one of fno, sym, kolmogorov, none",
        ("navier_stokes", GOOD, [1.0]),
        {"forcing": "x"},
    ),
    "viscosity": (ValueError, "viscosity=-1 must be", ("navier_stokes", GOOD, [1.0]), {"viscosity": -1}),
    "dt": (ValueError, "dt=0 must be positive", ("navier_stokes", GOOD, [1.0]), {"dt": 0}),
    "list": (TypeError, "must be a NumPy array or tensor.*got list", ("navier_stokes", [[[0.0]]], [1.0]), {}),
    "unknown parameter": (
        ValueError,
        "navier_stokes has no parameter 'viscocity'; its parameters are .*viscosity, forcing",
        ("navier_stokes", GOOD, [1.0]),
        {"viscocity": 1e-3},
    ),
    "decided parameter": (
        ValueError,
        "resolution=16: simulate takes the grid and the dtype from the initial values",
        ("navier_stokes", GOOD, [1.0]),
        {"resolution": 16},
    ),
    "text": (TypeError, "dt='x', expected a number", ("navier_stokes", GOOD, [1.0]), {"dt": "x"}),
    "fraction": (
        TypeError,
        "wavenumber=2.5, expected a whole number",
        ("navier_stokes", GOOD, [1.0]),
        {"wavenumber": 2.5},
    ),
}


@pytest.mark.parametrize(("error", "words", "args", "settings"), BAD_CALLS.values(), ids=BAD_CALLS.keys())
def test_bad_calls_are_explained(error, words, args, settings):
    with pytest.raises(error, match=words):
        simulate(*args, **settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resolution": 3}, "at least 4"),
        ({"records": 0}, "at least 1"),
        ({"wavenumber": 0}, "wavenumber=0 must be at least 1"),
        ({"dtype": "float16"}, "choose float32 or float64"),
        ({"resolution": 64, "solve_resolution": 32}, "must not be below resolution=64"),
        ({"t_end": float("inf")}, "positive and finite"),
    ],
)
def test_bad_parameters_are_explained(settings, words):
    with pytest.raises(ValueError, match=words):
        NavierStokes(**settings)


def test_hopeless_values_raise_instead_of_writing_nan():
    w0 = 1e30 * random_vorticity(16).astype(np.float32)
    with pytest.raises(SolverError, match="blows up near t=0"):
        simulate("navier_stokes", w0, [1.0], forcing="none")
