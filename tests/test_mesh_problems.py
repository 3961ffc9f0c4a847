"""Problems on meshes: balances, symmetry, a published benchmark, and what is refused."""

import sys
from dataclasses import replace

import numpy as np
import pytest

import pde_data
from pde_data.cli import main
from pde_data.equations.cylinder_flow import CYLINDER, HEIGHT, INLET, OUTLET, CylinderFlow
from pde_data.equations.elasticity import CLAMPED, Elasticity, plane_strain
from pde_data.equations.polygon_darcy import PolygonDarcy, darcy
from pde_data.meshes import TriangleMesh
from pde_data.meshing import triangulate
from tests.cases.meshes import pierced

pytest.importorskip("skfem")
from pde_data.equations.taylor_hood import TaylorHood

TURN = np.array([[0.0, -1.0], [1.0, 0.0]])  # by 90 degrees, anticlockwise


@pytest.fixture(scope="module")
def mesh():
    return triangulate(pierced(), 0.07)


@pytest.fixture(scope="module")
def flow():
    """Flow past a cylinder in the middle of the channel, with the discrete problem."""
    equation = CylinderFlow(size=0.03)
    sample = equation.past((0.3, HEIGHT / 2), 0.05)
    problem = TaylorHood(sample.mesh.coarsened(), sample.parameters["density"], equation.viscosity)
    velocity = np.stack([sample.fields["velocity_x"], sample.fields["velocity_y"]], axis=1)
    return equation, sample, problem, velocity


def turned(mesh):
    return TriangleMesh(mesh.points @ TURN.T, mesh.triangles, mesh.tags)


def test_what_flows_in_flows_out_through_the_outer_boundary():
    sample = PolygonDarcy(size=0.05).sample(0, 3)
    fields, mesh = sample.fields, sample.mesh
    assert {1, 2} <= set(mesh.tags)  # there is a hole
    problem = darcy(mesh, fields["permeability"], fields["source"], mesh.tags == 1)
    flux = problem.reaction(fields["pressure"])
    assert flux.sum() == pytest.approx(-mesh.weights @ fields["source"], rel=1e-3)
    assert flux.sum() == pytest.approx(-problem.load.sum(), rel=1e-12)
    # Through a hole there is no flux: the equation holds at its nodes too.
    left = problem.matrix @ fields["pressure"] - problem.load
    assert np.abs(left[mesh.tags != 1]).max() < 1e-12 * np.abs(left).max()
    assert abs(problem.matrix - problem.matrix.T).max() < 1e-15


def test_pressure_turns_with_the_domain(mesh):
    a, f = 1 + mesh.points[:, 0], np.cos(3 * mesh.points[:, 1])
    here, there = (darcy(m, a, f, m.tags == 1).solve(np.zeros(len(a))) for m in (mesh, turned(mesh)))
    np.testing.assert_allclose(here, there, atol=1e-12 * np.abs(here).max())


def test_supports_carry_the_load_and_its_moment():
    sample = Elasticity(size=0.05).sample(0, 1)
    mesh, fields = sample.mesh, sample.fields
    force = np.stack([fields["force_x"], fields["force_y"]], axis=1)
    problem = plane_strain(mesh, fields["modulus"], 0.3, force, mesh.tags == CLAMPED)
    displacement = np.stack([fields["displacement_x"], fields["displacement_y"]], axis=1)
    carried = problem.reaction(displacement.ravel()).reshape(-1, 2) + problem.load.reshape(-1, 2)
    x, y = mesh.points.T
    scale = np.abs(problem.load).sum()
    assert np.abs(carried.sum(0)).max() < 1e-12 * scale
    assert abs((x * carried[:, 1] - y * carried[:, 0]).sum()) < 1e-12 * scale


def test_rigid_motions_cost_nothing_and_energy_is_symmetric(mesh):
    problem = plane_strain(mesh, 1 + mesh.points[:, 0], 0.3, np.zeros_like(mesh.points), mesh.tags == 1)
    for motion in (np.tile([1.0, 0.0], (len(mesh.points), 1)), mesh.points @ TURN.T):
        assert np.abs(problem.matrix @ motion.ravel()).max() < 1e-13
    assert abs(problem.matrix - problem.matrix.T).max() < 1e-14
    stretch = mesh.points.ravel()
    assert stretch @ problem.matrix @ stretch > 1


def test_displacement_turns_with_body_and_load(mesh):
    force = np.stack([np.sin(3 * mesh.points[:, 1]), mesh.points[:, 0]], axis=1)
    modulus = 1 + mesh.points[:, 0] ** 2

    def solve(body, load):
        return (
            plane_strain(body, modulus, 0.3, load, body.tags == 1).solve(np.zeros(load.size)).reshape(-1, 2)
        )

    here, there = solve(mesh, force), solve(turned(mesh), force @ TURN.T)
    np.testing.assert_allclose(there, here @ TURN.T, atol=1e-12 * np.abs(here).max())


def test_no_fluid_is_lost(flow):
    equation, sample, _, velocity = flow
    mesh = sample.mesh
    out = 0.0
    # Simpson's rule is exact for quadratic velocities: over two edges of the stored mesh.
    for edge in mesh.coarsened().boundary:
        a, b = mesh.points[edge]
        normal = np.array([b[1] - a[1], a[0] - b[0]])
        middle = np.flatnonzero(np.abs(mesh.points - (a + b) / 2).max(1) < 1e-12)[0]
        flux = (velocity[edge[0]] + 4 * velocity[middle] + velocity[edge[1]]) / 6 @ normal
        out += flux
        if a[0] == b[0] == 0:
            assert flux < 0
    assert abs(out) < 1e-12 * equation.inflow * HEIGHT
    inlet = mesh.tags == INLET
    assert velocity[inlet, 0].max() <= 1.5 * equation.inflow and (mesh.points[inlet, 0] == 0).all()
    assert (velocity[mesh.tags == CYLINDER] == 0).all() and (mesh.tags == OUTLET).any()


def test_a_mirrored_channel_has_the_mirrored_flow(flow):
    equation, sample, problem, velocity = flow
    mesh = problem.mesh
    mirrored = TriangleMesh(mesh.points * [1, -1] + [0, HEIGHT], mesh.triangles[:, [0, 2, 1]], mesh.tags)
    other = TaylorHood(mirrored, sample.parameters["density"], equation.viscosity)
    given = np.full_like(velocity, np.nan)
    fixed = (sample.mesh.tags > 0) & (sample.mesh.tags != OUTLET)
    given[fixed] = velocity[fixed]
    found, pressure = other.solve(given)  # the inflow is symmetric, the nodes have the same numbers
    np.testing.assert_allclose(found * [1, -1], velocity, atol=1e-11)
    np.testing.assert_allclose(pressure, sample.fields["pressure"], atol=1e-11)


def test_slow_flow_is_stokes_flow():
    stokes, slow = (CylinderFlow(size=0.04, reynolds=r).past((0.3, 0.2), 0.05).fields for r in (0.0, 1e-4))
    difference = np.abs(stokes["velocity_x"] - slow["velocity_x"]).max()
    assert 0 < difference < 1e-5
    inertial = CylinderFlow(size=0.04, reynolds=20.0).past((0.3, 0.2), 0.05).fields
    assert np.abs(stokes["velocity_x"] - inertial["velocity_x"]).max() > 0.01


def test_drag_and_lift_of_the_published_benchmark():
    """Case 2D-1 of Schaefer and Turek (1996): drag coefficient 5.5795, lift coefficient 0.0106."""
    equation = CylinderFlow(size=0.015)
    sample = equation.past((0.2, 0.2), 0.05)
    problem = TaylorHood(sample.mesh.coarsened(), sample.parameters["density"], equation.viscosity)
    velocity = np.stack([sample.fields["velocity_x"], sample.fields["velocity_y"]], axis=1)
    force = problem.reaction(velocity, sample.fields["pressure"])[sample.mesh.tags == CYLINDER].sum(0)
    assert sample.parameters["density"] == pytest.approx(1.0)
    drag, lift = 2 * force / (equation.inflow**2 * 0.1)
    assert drag == pytest.approx(5.5795, rel=0.015)
    assert lift == pytest.approx(0.0106, abs=0.006)


@pytest.mark.parametrize(
    "equation",
    [PolygonDarcy(size=0.05), Elasticity(size=0.05), CylinderFlow(size=0.04)],
    ids=lambda e: e.name,
)
def test_the_residual_of_what_is_stored_is_rounding_and_of_anything_else_is_not(equation):
    result = equation.generate(seed=2, indices=[1])
    (mesh,) = result["meshes"]
    fields = {name: result[name] for name in equation.variables}
    parameters = {name: values[0] for name, values in result["parameters"].items()}
    assert result["diagnostics"]["residual"][0] < 1e-10
    assert equation.residual(mesh, fields, parameters) < 1e-3
    name = equation.attributes()["targets"].split()[0]
    assert equation.residual(mesh, {**fields, name: 1.02 * fields[name]}, parameters) > 5e-3


def test_a_mesh_half_the_size_has_four_times_the_nodes_on_the_same_domain():
    coarse, fine = (PolygonDarcy(size=size).sample(0, 0).mesh for size in (0.05, 0.025))
    assert coarse.weights.sum() == pytest.approx(fine.weights.sum(), rel=1e-12)
    assert 3 < len(fine.points) / len(coarse.points) < 4.5


@pytest.mark.parametrize(
    ("equation", "changes", "words"),
    [
        (PolygonDarcy, {"size": 0.06}, "size=0.06 must be at most 0.05, half of the least gap"),
        (PolygonDarcy, {"size": -1.0}, "size=-1.0 must be positive"),
        (PolygonDarcy, {"holes": -1}, "holes=-1 must be a whole number"),
        (PolygonDarcy, {"holes": 1.5}, "holes=1.5 must be a whole number"),
        (PolygonDarcy, {"contrast": -0.1}, "contrast=-0.1 must be finite and not negative"),
        (
            Elasticity,
            {"poisson_ratio": 0.49},
            "poisson_ratio=0.49 must be at most 0.45: linear elements lock",
        ),
        (CylinderFlow, {"reynolds": 100.0}, "reynolds=100.0 must be at most 40: above, the flow"),
        (CylinderFlow, {"size": 0.1}, "size=0.1 must be at most 0.04"),
        (CylinderFlow, {"viscosity": 0.0}, "viscosity=0.0 must be positive"),
    ],
)
def test_wrong_parameters(equation, changes, words):
    with pytest.raises(ValueError, match=words):
        replace(equation(), **changes)


def test_newtons_method_says_when_it_fails(monkeypatch):
    from pde_data.equations import taylor_hood
    from pde_data.integrate import SolverError

    monkeypatch.setattr(taylor_hood, "_ITERATIONS", 2)
    with pytest.raises(
        SolverError, match="Newton's method left a residual of .* after 2 steps; choose a lower"
    ):
        CylinderFlow(size=0.04).past((0.3, 0.2), 0.05)


def test_a_missing_package_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "skfem", None)
    words = r'problems on triangle meshes need scikit-fem: pip install "opflow-sciml\[mesh\]"'
    with pytest.raises(ImportError, match=words):
        pde_data.generate("polygon_darcy", tmp_path / "a.h5", samples=1)
    assert main(["generate", "polygon-darcy", str(tmp_path / "a.h5"), "--samples", "1"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("pde-data: error: ") and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
