"""Creeping flow: incompressibility, symmetry, known drag, the two kinds of obstacles, stored residuals."""

import numpy as np
import pytest

from pde_data.equations import Stokes, staggered
from pde_data.equations.obstacles import random_mask
from pde_data.equations.staggered import StaggeredStokes
from pde_data.integrate import SolverError
from tests.cases import relative

PERIODIC = (("periodic", "periodic"), ("periodic", "periodic"))
SETTINGS = ["channel", "inflow", "periodic"]


def solution(equation, mask):
    """Centred velocities and pressure around given obstacles."""
    flow = equation.discretised(mask, equation.grid)
    faces, pressure, _ = flow.solve(*equation._drive(equation.grid))
    return np.stack([*flow.centred(faces), pressure])


@pytest.mark.parametrize("permeability", [None, 1e-3])
@pytest.mark.parametrize("setting", SETTINGS)
def test_the_discrete_flow_is_incompressible_and_balanced(setting, permeability):
    equation = Stokes(resolution=30, obstacles=3, setting=setting, permeability=permeability)
    diagnostics = equation.generate(0, [0, 1])["diagnostics"]
    assert (diagnostics["divergence"] < 1e-10).all()
    assert (diagnostics["residual"] < 1e-9).all()


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_same_volume_passes_every_section(setting):
    equation = Stokes(resolution=30, obstacles=3, setting=setting, speed=2.0)
    flow = equation.discretised(random_mask(0, 0, 3, equation.grid), equation.grid)
    (u, _), _, _ = flow.solve(*equation._drive(equation.grid))
    through = u.mean(axis=1)
    np.testing.assert_allclose(through, through[0], rtol=1e-9)
    assert through[0] == pytest.approx(2.0, rel=1e-12) if setting == "inflow" else through[0] > 0


@pytest.mark.parametrize("setting", SETTINGS)
def test_mirrored_obstacles_give_the_mirrored_flow(setting):
    equation = Stokes(resolution=24, obstacles=2, setting=setting)
    mask = random_mask(0, 0, 2, equation.grid)
    u, v, p = solution(equation, mask)
    mirrored = solution(equation, mask[:, ::-1])
    assert relative(mirrored, np.stack([u, -v, p])[..., ::-1]) < 1e-9
    assert np.abs(v).max() > 0.01 * np.abs(u).max()
    if setting != "inflow":  # Stokes flow is reversible
        assert relative(solution(equation, mask[::-1]), np.stack([u, -v, -p])[:, ::-1]) < 1e-9


def test_turned_obstacles_and_force_give_the_turned_flow():
    equation = Stokes(resolution=24, obstacles=2, setting="periodic")
    mask, h = random_mask(4, 0, 2, equation.grid), equation.grid.spacing
    u, v, p = solution(equation, mask)
    flow = StaggeredStokes(mask.T, h, PERIODIC)
    faces, pressure, _ = flow.solve((0.0, 1.0))
    np.testing.assert_allclose(
        np.stack([*flow.centred(faces), pressure]), np.stack([v.T, u.T, p.T]), atol=1e-11
    )


def test_drag_of_a_square_array_of_cylinders():
    """Sangani and Acrivos (Int. J. Multiphase Flow 8, 1982): mean velocity = force (...) / (4 pi mu)."""
    c = 0.1
    radius = np.sqrt(c / np.pi)
    expected = (-np.log(c) / 2 - 0.738 + c - 0.887 * c**2 + 2.038 * c**3) / (4 * np.pi)
    errors = []
    for n in (48, 128):
        x = (np.arange(n) + 0.5) / n - 0.5
        flow = StaggeredStokes(np.hypot(*np.meshgrid(x, x)) > radius, (1 / n, 1 / n), PERIODIC)
        (u, _), _, _ = flow.solve((1.0, 0.0))
        errors.append(abs(u.mean() / expected - 1))
    assert errors[0] < 0.06 and errors[1] < 0.025


def test_porous_obstacles_lie_between_nothing_and_solid_ones():
    mask = random_mask(0, 0, 2, Stokes(resolution=30).grid)
    solid, tight, middle, loose = (
        solution(Stokes(resolution=30, permeability=k), mask) for k in (None, 1e-10, 1e-3, 1e8)
    )
    free = solution(Stokes(resolution=30, obstacles=0), np.ones_like(mask))
    assert relative(loose[:2], free[:2]) < 1e-6
    # Inside its cells a tight obstacle rests too; the wall of a solid one is half a cell further out.
    assert relative(tight[:2], solid[:2]) < 0.2
    assert np.abs(tight[:2, ~mask]).max() < 0.2 * np.abs(tight[:2]).max()
    assert tight[0].mean() < middle[0].mean() < free[0].mean()


def test_viscosity_and_force_only_scale_the_flow():
    mask = random_mask(0, 0, 2, Stokes(resolution=30).grid)
    u, v, p = solution(Stokes(resolution=30), mask)
    scaled = solution(Stokes(resolution=30, viscosity=1e-3, force=-5.0), mask)
    assert relative(scaled, np.stack([-5e3 * u, -5e3 * v, -5 * p])) < 1e-9


@pytest.mark.parametrize("permeability", [None, 1e-3])
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("resolution", [31, 64])
def test_residual_of_the_stored_fields_tells_right_from_wrong(resolution, setting, permeability):
    equation = Stokes(resolution=resolution, obstacles=3, setting=setting, permeability=permeability)
    fields = {k: v for k, v in equation.generate(0, [0, 1]).items() if k in equation.variables}
    assert (equation.residual(fields, equation.grid) < 5e-8 * resolution).all()
    faulty = {
        "a per cent": {"velocity_x": 1.01 * fields["velocity_x"]},
        "axes swapped": {"velocity_x": fields["velocity_y"], "velocity_y": fields["velocity_x"]},
        "sign of the pressure": {"pressure": -fields["pressure"]},
        "shifted": {"velocity_y": np.roll(fields["velocity_y"], 1, axis=1)},
    }
    for change in faulty.values():
        assert (equation.residual({**fields, **change}, equation.grid) > 1e-3).all()


def test_a_penalty_that_does_not_converge_is_told(monkeypatch):
    monkeypatch.setattr(staggered, "_ROUNDS", 1)
    with pytest.raises(SolverError, match=r"divergence on a grid of \(24, 24\) stayed at .*wider gaps"):
        Stokes(resolution=24, obstacles=2).generate(0, [0])


@pytest.mark.parametrize(
    ("parameters", "error", "words"),
    [
        ({"setting": "pipe"}, ValueError, "choose one of channel, inflow, periodic"),
        ({"setting": "periodic", "obstacles": 0}, ValueError, "nothing to balance the force"),
        ({"permeability": 0.0}, ValueError, "permeability=0.0 must be positive"),
        ({"force": 0.0}, ValueError, "force=0 gives no flow in setting='channel'"),
        ({"speed": 0.0, "setting": "inflow"}, ValueError, "speed=0 gives no flow"),
        ({"obstacles": 30}, ValueError, "smallest resolution that would do is"),
        ({"obstacles": 0.5}, TypeError, "expected a whole number"),
    ],
)
def test_wrong_parameters_are_explained(parameters, error, words):
    with pytest.raises(error, match=words):
        Stokes(**parameters)
