"""Shallow water on the rotating sphere: transforms, exact flows, an independent solver, files."""

import dataclasses
import sys

import numpy as np
import pytest
import torch

import pde_data
from pde_data.sphere import WEIGHTS, SphereGrid
from tests.cases import relative, trajectory

pytest.importorskip("torch_harmonics")

from pde_data.equations import simulate
from pde_data.equations.shallow_water import ShallowWater, ShallowWaterSolver
from pde_data.equations.shallow_water_dynamics import Advection, Frames, join, split
from pde_data.equations.shallow_water_states import (
    balanced_jet,
    jet,
    random_harmonics,
    turbulence,
)
from pde_data.harmonics import Harmonics
from tests.cases.shallow_water import DAY, galewsky, points, williamson2

GRIDS = [
    (SphereGrid.gauss(16, 32), 15),
    (SphereGrid.gauss(15, 26), 12),
    (SphereGrid.equiangular(17, 32), 8),
    (SphereGrid.equiangular(16, 28), 7),
]
NAMES = ("gauss", "gauss-odd", "equiangular", "equiangular-even")
WIND = ("height", "u", "v")


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.complex128, generator=torch.Generator().manual_seed(seed))


def modes_of(harmonics: Harmonics, *lead: int, lowest: int = 0) -> torch.Tensor:
    """Random coefficients of real fields."""
    x = noise((*lead, *harmonics.shape)) * torch.from_numpy(harmonics.mask & (harmonics.degree >= lowest))
    x[..., 0, :] = x[..., 0, :].real.to(x.dtype)
    return x


# Grids


@pytest.mark.parametrize("grid", [g for g, _ in GRIDS], ids=NAMES)
def test_quadrature_is_exact_to_its_degree(grid):
    sine = np.sin(np.deg2rad(grid.coordinates[0]))
    exact_to = 2 * grid.sizes[0] - 1 if grid.location == "cell" else grid.sizes[0] - 1
    for degree in range(exact_to + 1):
        assert grid.weights[0] @ sine**degree == pytest.approx((1 + (-1) ** degree) / (degree + 1), abs=1e-14)
    assert grid.quadrature().sum() == pytest.approx(4 * np.pi, rel=1e-14)


def test_a_grid_comes_back_from_its_coordinates_and_without_weights_from_areas():
    grid = SphereGrid.gauss(10, 20)
    assert SphereGrid.from_coordinates(*grid.coordinates, grid.weights[0]) == grid
    areas = SphereGrid.from_coordinates(*grid.coordinates)
    assert sum(areas.bands) == pytest.approx(2, rel=1e-14)
    np.testing.assert_allclose(areas.bands, grid.bands, rtol=0.06)


@pytest.mark.parametrize(
    ("latitudes", "longitudes", "words"),
    [
        ([45.0, 0.0, -45.0], np.arange(4) * 90.0, "latitudes must increase within -90 to 90"),
        ([0.0, 91.0], np.arange(4) * 90.0, "latitudes must increase within -90 to 90"),
        ([-45.0, 45.0], [0.0, 90.0, 180.0], "longitudes must go once round in equal steps, of 120 degrees"),
    ],
)
def test_coordinates_that_are_no_sphere_are_refused(latitudes, longitudes, words):
    with pytest.raises(ValueError, match=words):
        SphereGrid.from_coordinates(np.array(latitudes), np.array(longitudes))


# Transforms


@pytest.mark.parametrize(("grid", "truncation"), GRIDS, ids=NAMES)
def test_synthesis_and_analysis_are_inverse_and_keep_the_norm(grid, truncation):
    harmonics = Harmonics(grid, truncation, torch.float64)
    x = modes_of(harmonics, 3)
    values = harmonics.to_values(x)
    torch.testing.assert_close(harmonics.to_modes(values), x, rtol=0, atol=1e-13)
    field = harmonics.unfold(values)
    torch.testing.assert_close(harmonics.fold(field), values, rtol=0, atol=1e-13)
    square = (field.numpy() ** 2 * grid.quadrature()).sum((1, 2))
    np.testing.assert_allclose(
        square, 2 * (x.abs() ** 2).sum((1, 2)) - (x[:, 0].abs() ** 2).sum(1), rtol=1e-13
    )


def test_values_are_those_of_torch_harmonics():
    from torch_harmonics import InverseRealSHT

    harmonics = Harmonics(SphereGrid.gauss(16, 32), 10, torch.float64)
    x = modes_of(harmonics)
    l, m = np.tril_indices(11)
    theirs = torch.zeros(11, 11, dtype=torch.complex128)
    theirs[l, m] = x[m, l - m]
    transform = InverseRealSHT(16, 32, lmax=11, mmax=11, grid="legendre-gauss", csphase=False)
    torch.testing.assert_close(
        harmonics.unfold(harmonics.to_values(x)), transform(theirs).flip(0), rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize(("grid", "truncation"), GRIDS, ids=NAMES)
def test_potentials_of_a_wind_are_those_it_was_made_of(grid, truncation):
    vector = Harmonics(grid, truncation, torch.float64, powers=(-1, -1))
    s, d = modes_of(vector, 2, lowest=1)
    u, v = vector.to_values(torch.stack(vector.helmholtz.components(s, d))).unbind(2)
    square = (vector.unfold(torch.stack([u, v], 2)).numpy() ** 2 * grid.quadrature()).sum()
    total = sum(2 * (x.abs() ** 2).sum() - (x[0].abs() ** 2).sum() for x in (s, d))
    if (
        vector.truncation * 2 + 2 < grid.sizes[0]
        or grid.location == "cell"
        and truncation < grid.sizes[0] - 1
    ):
        assert square == pytest.approx(float(total), rel=1e-13)
    a, b = vector.to_modes(u), vector.to_modes(v)
    torch.testing.assert_close(vector.helmholtz.rotation(a, b), s, rtol=0, atol=1e-13)
    torch.testing.assert_close(-vector.helmholtz.inflow(a, b), d, rtol=0, atol=1e-13)


def test_the_wind_of_solid_rotation_is_right_also_at_the_poles():
    """About an axis in the equator: the wind blows across the poles."""
    grid = SphereGrid.equiangular(17, 32)
    theta, lam = points(grid)
    fields = williamson2(grid, 90.0)
    planet = ShallowWater().planet
    frames = Frames(grid, 8, planet, torch.float64)
    back = frames.to_fields(frames.to_state({k: torch.from_numpy(v) for k, v in fields.items()}))
    for name in WIND:
        np.testing.assert_allclose(back[name].numpy(), fields[name], rtol=1e-12, atol=1e-12)
    vorticity = -2 * fields["u"].max() / planet.radius * np.cos(lam) * np.cos(theta)
    np.testing.assert_allclose(back["vorticity"][0].numpy(), vorticity, atol=1e-18)


def test_a_grid_too_coarse_for_the_truncation_is_refused():
    with pytest.raises(ValueError, match="8 x 16 points does not resolve degree 8: it takes at least 9 x 17"):
        Harmonics(SphereGrid.gauss(8, 16), 8, torch.float64)


# Equations


def test_tendencies_are_those_of_the_solver_of_torch_harmonics():
    """An independent discretisation: vector harmonics in place of recurrences."""
    from torch_harmonics.examples.shallow_water_equations import ShallowWaterSolver as Peer

    planet = ShallowWater().planet
    n = 10
    peer = Peer(
        32, 64, 1.0, lmax=n + 1, mmax=n + 1, grid="legendre-gauss", radius=planet.radius,
        omega=planet.rotation_rate, gravity=planet.gravity, havg=planet.mean_depth,
    )  # fmt: skip
    harmonics = Harmonics(SphereGrid.gauss(16, 32), n, torch.float64, powers=(0, -2))
    s, d, g = modes_of(harmonics, 3, lowest=1) * 10
    k, c = torch.from_numpy(planet.wavenumbers(harmonics)), planet.wave_speed
    rates = Advection(harmonics, planet).tendencies(s[None], d[None], g[None])
    ours = rates[2][0] * c - c**2 * k * d, rates[0][0] * k, rates[1][0] * k + k**2 * c * g
    l, m = np.tril_indices(n + 1)
    state = torch.zeros(3, n + 1, n + 1, dtype=torch.complex128)
    for i, field in enumerate((g * c, s * k, d * k)):
        state[i, l, m] = field[m, l - m]
    state[0, 0, 0] += c**2 * np.sqrt(4 * np.pi)
    theirs = peer.dudtspec(state)
    for i, field in enumerate(ours):
        # It holds 1/l(l+1) in single precision.
        assert relative(field[m, l - m].numpy(), theirs[i, l, m].numpy()) < 1e-7


@pytest.mark.parametrize(
    ("tilt", "latitudes", "resolution"),
    [(0.0, "gauss", 32), (45.0, "gauss", 64), (90.0, "gauss", 34), (45.0, "equiangular", 32)],
)
def test_williamson_2_is_steady_for_five_days(tilt, latitudes, resolution):
    first = williamson2(ShallowWater(resolution=resolution, latitudes=latitudes).grid, tilt)
    settings = {"tilt": tilt, "latitudes": latitudes, "mean_depth": 2400.0, "hyperdiffusion": None}
    found = simulate("shallow_water", first, [5 * DAY], dt=7200.0, **settings)
    assert relative(found["height"][:, 0], first["height"]) < 1e-10
    wind, moved = (np.stack([x["u"], x["v"]]) for x in (first, {k: v[:, 0] for k, v in found.items()}))
    assert relative(moved, wind) < 1e-10


def test_the_balanced_jet_is_that_of_the_paper_and_steady():
    """Its height is integrated from the formula of the wind, here and not in the package."""
    grid, planet = SphereGrid.gauss(256, 16), ShallowWater().planet
    fields = {name: torch.from_numpy(values) for name, values in galewsky(grid, bump=0.0).items()}
    s, d, g = split(Frames(grid, 7, planet, torch.float64).to_state(fields))
    # As many orders as 16 longitudes hold, which is one more than needed.
    ours = balanced_jet(planet, 80.0)
    for x, y in zip(ours, (s, g)):
        np.testing.assert_allclose(x[0, 1:8].numpy(), y[0, 0, 1:8].numpy(), rtol=1e-9, atol=1e-8)
    paper = galewsky(ShallowWater(resolution=128).grid, bump=0.0)
    found = simulate("shallow_water", paper, [DAY / 4], hyperdiffusion=None)
    assert relative(found["u"][:, 0], paper["u"]) < 6e-3  # what T42 does not resolve
    assert np.abs(found["v"]).max() < 0.02


def vorticity_of_galewsky(resolution: int, hours: float, reference: SphereGrid) -> np.ndarray:
    """On a common grid, with the viscosity of the paper."""
    equation = ShallowWater(resolution=resolution, viscosity=1e5, hyperdiffusion=None, dtype="float64")
    solver = ShallowWaterSolver(equation, torch.float64)
    state = solver.frames.to_state({k: torch.from_numpy(v) for k, v in galewsky(equation.grid).items()})
    (end,) = solver.integrator(state, [3600 * hours])
    frames = Frames(reference, solver.truncation, equation.planet, torch.float64)
    return frames.to_fields(end)["vorticity"].numpy()


def test_galewsky_converges_in_six_hours():
    grid = SphereGrid.gauss(64, 128)
    coarse, fine, finest = (vorticity_of_galewsky(n, 6, grid) for n in (64, 96, 160))
    errors = relative(coarse, finest), relative(fine, finest)
    assert errors[1] < errors[0] / 5 and errors[1] < 0.06


@pytest.mark.slow
def test_galewsky_converges_on_day_six():
    grid = SphereGrid.gauss(180, 360)
    coarse, fine, finest = (vorticity_of_galewsky(n, 144, grid) for n in (192, 288, 512))
    errors = relative(coarse, finest), relative(fine, finest)
    assert errors[1] < errors[0] / 3 and errors[1] < 0.06


SHORT = ShallowWater(resolution=32, t_end=6 * 3600.0, records=2, hyperdiffusion=None, dtype="float64")


def test_a_batch_equals_its_members():
    first = SHORT.initial(0, range(3), SHORT.grid)
    for dt in (900.0, None):
        settings = {"hyperdiffusion": None, "dt": dt}
        given = {name: first[name] for name in WIND}
        every = simulate("shallow_water", given, SHORT.times[1:], **settings)
        for i in range(3):
            alone = simulate(
                "shallow_water", {k: v[i : i + 1] for k, v in given.items()}, SHORT.times[1:], **settings
            )
            for name in every:
                assert relative(every[name][i], alone[name][0]) < 1e-12, name


@pytest.mark.parametrize("latitudes", ["gauss", "equiangular"])
def test_a_restart_equals_the_straight_run(latitudes):
    equation = dataclasses.replace(SHORT, latitudes=latitudes)
    first = {k: v for k, v in equation.initial(0, range(2), equation.grid).items() if k in WIND}
    settings = {"hyperdiffusion": None, "dt": 900.0, "latitudes": latitudes}
    straight = simulate("shallow_water", first, [3 * 3600.0, 6 * 3600.0], **settings)
    middle = {name: straight[name][:, 0] for name in WIND}
    again = simulate("shallow_water", middle, [3 * 3600.0], **settings)
    for name in straight:
        assert relative(again[name][:, 0], straight[name][:, 1]) < 1e-11, name


def test_mass_is_kept_bit_by_bit():
    solver = ShallowWaterSolver(
        dataclasses.replace(SHORT, hyperdiffusion=7200.0, viscosity=1e5), torch.float64
    )
    state = SHORT.initial_state(0, [0], solver.harmonics)
    mean = split(state)[2][:, 0, 0].clone()
    (end,) = solver.integrator(state, [6 * 3600.0])
    assert torch.equal(split(end)[2][:, 0, 0], mean)


def test_energy_and_potential_enstrophy_drift_with_the_truncation_alone():
    """Both are of higher degree than the products that the grid makes exact."""
    drift = []
    for resolution, dt in ((64, 1200.0), (64, 600.0), (144, 1200.0)):
        run = dataclasses.replace(SHORT, resolution=resolution, dt=dt, speed=5.0)
        budgets = run.budgets(trajectory(run, 1), run.grid)
        drift.append([abs(float(budgets[name][0, -1] / budgets[name][0, 0] - 1)) for name in budgets])
    (mass, energy, enstrophy), shorter_steps, finer = drift
    assert mass < 1e-15 and energy < 1e-9 and enstrophy < 2e-8
    assert shorter_steps[1:] == pytest.approx([energy, enstrophy], rel=0.02) and finer[1] < energy / 20


def test_turning_and_mirroring_the_sphere_turns_and_mirrors_the_flow():
    first = {k: v for k, v in SHORT.initial(0, [0], SHORT.grid).items() if k in WIND}
    settings = {"hyperdiffusion": None, "dt": 900.0}
    end = simulate("shallow_water", first, [6 * 3600.0], **settings)
    turned = simulate(
        "shallow_water", {k: np.roll(v, 5, -1) for k, v in first.items()}, [6 * 3600.0], **settings
    )
    mirror = {"height": 1, "u": 1, "v": -1, "vorticity": -1}
    mirrored = simulate(
        "shallow_water", {k: mirror[k] * v[:, ::-1] for k, v in first.items()}, [6 * 3600.0], **settings
    )
    for name, sign in mirror.items():
        assert relative(turned[name], np.roll(end[name], 5, -1)) < 1e-11
        assert relative(mirrored[name], sign * end[name][:, :, ::-1]) < 1e-11


def test_dissipation_acts_on_each_degree_as_it_says():
    """A wave of the linear equations at rest without rotation: it decays while it oscillates."""
    equation = ShallowWater(resolution=32, rotation_rate=0.0, viscosity=1e6, hyperdiffusion=3600.0)
    solver = ShallowWaterSolver(equation, torch.float64)
    l, time = 7, 3600.0
    g = torch.zeros(1, *solver.harmonics.shape, dtype=torch.complex128)
    g[0, 2, l - 2] = 1e-6
    (end,) = solver.integrator(join(0 * g, 0 * g, g), [time])
    k = np.sqrt(l * (l + 1)) / equation.radius
    highest = np.sqrt(10 * 11) / equation.radius
    decay = np.exp(-time * (1e6 * k**2 + (k / highest) ** 8 / 3600))
    s, d, g = split(end)
    phase = equation.planet.wave_speed * k * time
    assert complex(g[0, 2, l - 2]) == pytest.approx(1e-6 * decay * np.cos(phase), rel=1e-6)
    assert complex(d[0, 2, l - 2]) == pytest.approx(1e-6 * decay * np.sin(phase), rel=1e-6)


# Initial laws


def test_a_finer_truncation_appends_degrees_to_the_same_function():
    coarse, fine = (ShallowWaterSolver(ShallowWater(resolution=n), torch.float64) for n in (32, 64))
    orders, planet = coarse.harmonics.orders, ShallowWater().planet
    kept = torch.from_numpy(coarse.harmonics.mask)
    for law, speed in ((turbulence, 20.0), (jet, 80.0)):
        a, b = (split(law(3, [0, 5], planet, speed, solver.harmonics)) for solver in (coarse, fine))
        for x, y in zip(a, b):
            assert torch.equal(x, y[:, :orders, : kept.shape[1]] * kept)


def test_the_random_law_has_its_spectrum_and_size():
    harmonics = Harmonics(SphereGrid.gauss(44, 88), 43, torch.float64)
    x = random_harmonics(1, range(2000), harmonics)
    m, j = np.nonzero(harmonics.mask & (harmonics.degree > 0) & (harmonics.degree < 43))
    l = m + j
    law = np.arange(1, 43.0)
    law = law * (law + 1) * (law * (law + 1) + 64) ** -4.0
    law *= 4 * np.pi / ((2 * np.arange(1, 43) + 1) * law).sum()
    power = (np.abs(x[:, m, j]) ** 2).mean(0) / law[l - 1]
    # Means of 2000 squares, of one normal number or half the sum of two.
    deviation = (power - 1) / np.sqrt(np.where(m == 0, 2.0, 1.0) / 2000)
    assert np.abs(deviation).max() < 5 and deviation.std() == pytest.approx(1, abs=0.1)
    assert np.abs(x[:, 0].imag).max() == np.abs(x[:, :, 0][:, 0]).max() == 0


def test_negative_indices_are_refused():
    with pytest.raises(ValueError, match="count from 0, got -1"):
        random_harmonics(0, [-1], Harmonics(SphereGrid.gauss(16, 32), 10, torch.float64))


# Files and errors


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sphere") / "sw.h5"
    return pde_data.generate(
        "shallow_water", path, samples=2, resolution=16, t_end=3600.0, records=2, processes=1
    )


def test_the_file_tells_the_sphere_in_cf_terms(file):
    import xarray

    with xarray.open_dataset(file, engine="h5netcdf") as ds:
        assert ds.height.dims == ("sample", "time", "latitude", "longitude")
        assert ds.latitude.standard_name == "latitude" and ds.latitude.units == "degrees_north"
        assert ds.longitude.standard_name == "longitude" and ds.longitude.units == "degrees_east"
        assert ds.time.units == "s" and ds.height.units == "m" and ds.vorticity.units == "s-1"
        assert float(ds[WEIGHTS].sum()) == pytest.approx(2)
        mean = float(ds.height.weighted(ds[WEIGHTS]).mean())
    assert mean == pytest.approx(10000, rel=1e-6)


def test_a_data_set_of_it_has_the_grid_and_weights_its_statistics_by_area(file):
    dataset = pde_data.FieldDataset(file, ["height", "u", "v"])
    assert dataset.grid == SphereGrid.gauss(8, 16)
    x, y = dataset[0]
    assert x.shape == y.shape == (3, 8, 16)
    weights = dataset.grid.quadrature() / (4 * np.pi)
    frames = np.stack([dataset[i][0].numpy() for i in range(len(dataset))]).astype(float)
    expected = (frames * weights).sum((2, 3)).mean(0)
    np.testing.assert_allclose(pde_data.statistics(dataset).inputs.mean, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="sphere of .8, 16. points cannot be resampled to .8, 8."):
        pde_data.FieldDataset(file, ["height"], resolution=8)


def test_a_stored_frame_goes_on(file):
    ds = pde_data.open(file)
    first = {name: ds[name].values[:, 1].astype(np.float64) for name in WIND}
    again = simulate("shallow_water", first, [1800.0])
    assert relative(again["u"][:, 0], ds.u.values[:, 2]) < 1e-4


def test_a_finer_solver_stores_what_the_grid_resolves():
    small = ShallowWater(resolution=16, solve_resolution=64, t_end=600.0, records=1)
    large = dataclasses.replace(small, resolution=32)
    a, b = (equation.generate(0, [0]) for equation in (small, large))
    for name in ("height", "vorticity"):
        modes = []
        for equation, values in ((small, a[name]), (large, b[name])):
            harmonics = Harmonics(equation.grid, 7, torch.float64)
            x = harmonics.to_modes(harmonics.fold(torch.from_numpy(values).double()))
            modes.append((x * torch.from_numpy(harmonics.mask)).numpy()[..., 1:])
        assert relative(*modes) < 1e-5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"resolution": 33}, "resolution=33 must be an even number of at least 8"),
        ({"flow": "still"}, "flow='still' is unknown: choose turbulence or jet"),
        ({"latitudes": "cubed"}, "latitudes='cubed' is unknown: choose gauss or equiangular"),
        ({"dtype": "float16"}, "dtype='float16' is unknown"),
        ({"flow": "jet", "tilt": 10.0}, "tilt=10.0: the jet is zonal about the axis of rotation"),
        ({"resolution": 64, "solve_resolution": 32}, "solve_resolution=32 must not be below resolution=64"),
        ({"hyperdiffusion": 0.0}, "hyperdiffusion=0.0 must be positive"),
    ],
)
def test_bad_parameters_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        ShallowWater(**settings)


def test_bad_initial_values_are_named():
    good = williamson2(SphereGrid.gauss(16, 32), 0.0)
    with pytest.raises(
        ValueError, match="expected \\(sample, latitude, longitude\\) with 16 gauss latitudes"
    ):
        simulate("shallow_water", {k: v[:, :-1] for k, v in good.items()}, [1.0])
    with pytest.raises(ValueError, match="height must be positive, got -"):
        simulate("shallow_water", {**good, "height": good["height"] - 2500}, [1.0])
    with pytest.raises(ValueError, match="shallow_water starts from height, u, v"):
        simulate("shallow_water", {"height": good["height"]}, [1.0])


def test_without_torch_harmonics_the_extra_is_named(monkeypatch):
    from pde_data import harmonics

    monkeypatch.setitem(sys.modules, "torch_harmonics.legendre", None)
    harmonics._legendre.cache_clear()
    with pytest.raises(ImportError, match=r'pip install "opflow-sciml\[sphere\]"'):
        ShallowWater(resolution=16).generate(0, [0])
