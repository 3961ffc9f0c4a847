"""`pde_data.validate`: ten faults found, nothing in clean sets, and each check against a known answer."""

import json
from dataclasses import dataclass
from typing import ClassVar

import h5py
import numpy as np
import pytest

import pde_data
from pde_data import EQUATIONS, DatasetError, Grid, validate
from pde_data.checks import (
    Subject,
    boundary,
    coordinates,
    divergence,
    duplicates,
    frames,
    law,
    spectrum,
    units,
)
from pde_data.checks.problems import translated
from pde_data.cli import main
from pde_data.equations import Steady
from pde_data.sources import coordinate_variables
from pde_data.storage import Schema, Variable
from tests import tables
from tests.faults import FAULTS, SETS, clean, content, save

SPACE = ("x", "y", "z")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("validate")
    for name in (*SETS, "velocity"):
        clean(path, name)
    return path


def field(values, over_time=True, **attributes):
    dims = ("sample", *(("time",) if over_time else ()))
    about = {"units": "1", "symmetry": "scalar", **attributes}
    return Variable((*dims, *SPACE[: values.ndim - len(dims)]), np.asarray(values, np.float32), about)


def subject(grid, times=None, attributes=None, **fields):
    variables = {**fields, **coordinate_variables(grid)}
    if times is not None:
        variables["time"] = Variable(("time",), np.asarray(times, float), {"units": "1"})
    schema = Schema(variables, attributes or {})
    return Subject("data", schema, against=None, samples=None, seed=0, progress=lambda n: None)


def rows(report, check):
    return [row for row in report.rows if row.check == check]


def smooth(samples, times, n, seed=0):
    """Moving random fields of a few modes, `(sample, time, n)`."""
    rng = np.random.default_rng(seed)
    x, t = np.arange(n) / n, np.asarray(times)[:, None]
    modes = rng.standard_normal((samples, 4, 2))
    return np.stack(
        [
            sum(a * np.sin(2 * np.pi * k * (x - 0.3 * t) + b) for k, (a, b) in enumerate(one, 1))
            for one in modes
        ]
    )


# The gate


@pytest.mark.parametrize("name", [*SETS, "velocity"])
def test_clean_sets_pass(folder, name):
    report = validate(folder / f"{name}.h5")
    assert report.passed, report
    assert rows(report, "divergence" if name == "velocity" else "equation")[0].verdict == "pass"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_is_found(folder, fault):
    report = validate(fault.put(folder))
    assert any(row.check == fault.check and fault.words in row.remark for row in report.failures), report


@pytest.mark.parametrize("name", tables.EQUATIONS)
def test_clean_data_of_every_equation_pass(tmp_path, name):
    equation = tables.EQUATIONS[name].equation
    report = validate(pde_data.generate(equation, tmp_path / "clean.h5", samples=2, processes=1))
    assert report.passed, report


# The report


def test_command_prints_writes_json_and_tells_by_its_status(folder, tmp_path, capsys):
    assert main(["validate", str(folder / "advection.h5"), "--samples", "2"]) == 0
    text = capsys.readouterr().out
    assert "re-simulation, 2 of 10 samples" in text and "0 failed" in text
    bad = next(fault for fault in FAULTS if fault.check == "finite").put(folder)
    assert main(["validate", str(bad), "--samples", "all", "--json", str(tmp_path / "r.json")]) == 1
    report = json.loads((tmp_path / "r.json").read_text())
    assert not report["passed"]
    (row,) = [row for row in report["rows"] if row["verdict"] == "fail"]
    assert (row["check"], row["subject"], row["number"], row["tolerance"]) == ("finite", "u", 1.0, 0.0)


def test_what_cannot_be_opened(tmp_path):
    with pytest.raises(DatasetError, match="no file or folder"):
        validate(tmp_path / "nothing.h5")
    (tmp_path / "junk.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (row,) = validate(tmp_path / "junk.h5").failures
    assert row.check == "readable" and "junk.h5" in row.remark


def test_values_that_cannot_be_read_fail(tmp_path):
    path = tmp_path / "chunks.h5"
    with h5py.File(path, "w") as file:
        for name, values in (("sample", np.arange(4)), ("x", np.arange(4096) / 4096)):
            file[name] = values
            file[name].make_scale(name)
        u = file.create_dataset(
            "u", data=np.random.default_rng(0).random((4, 4096)), chunks=(1, 4096), fletcher32=True
        )
        for axis, name in enumerate(("sample", "x")):
            u.dims[axis].attach_scale(file[name])
        place = u.id.get_chunk_info(2).byte_offset
    data = bytearray(path.read_bytes())
    data[place + 100] ^= 1
    path.write_bytes(data)
    (row,) = rows(validate(path), "finite")
    assert row.verdict == "fail" and "could not be finished" in row.remark


def test_number_of_samples_is_checked(folder):
    with pytest.raises(ValueError, match="samples=0, expected at least 1"):
        validate(folder / "advection.h5", samples=0)


def test_changed_byte_is_found_by_the_checksum(folder, tmp_path):
    path = clean(tmp_path, "advection", samples=2)
    with h5py.File(path) as file:
        place = file["u"].id.get_offset()
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    assert [row.check for row in validate(path).failures] == ["checksum"]


def test_shared_samples_of_two_sets(folder, tmp_path):
    path = folder / "advection.h5"
    same = clean(tmp_path, "advection", samples=4)
    (row,) = validate(path, same).failures
    assert row.check == "leakage" and row.number == 4 and "nearly equal in the two sets" in row.remark
    options = SETS["advection"][1]
    other = pde_data.generate("advection", tmp_path / "b.h5", samples=4, seed=9, processes=1, **options)
    assert validate(path, other).passed


# The equation


def test_misfit_of_a_wrong_speed_is_that_of_the_formula(folder, tmp_path):
    variables, attributes = content(folder / "advection.h5")
    x, times = np.arange(32) / 32, variables["time"].values
    moved = np.sin(2 * np.pi * 3 * (x - 0.4 * times[:, None]))
    variables["u"].values[:] = moved
    attributes["speed"] = 0.5
    (row,) = rows(validate(save(tmp_path / "one.h5", variables, attributes)), "equation")
    angle = 2 * np.pi * 3 * np.diff(times)[0]
    expected = abs(np.exp(-0.5j * angle) - np.exp(-0.4j * angle)) / abs(np.exp(-0.4j * angle) - 1)
    assert row.number == pytest.approx(expected, rel=1e-5)
    assert "speed=0.4 (the file says 0.5)" in row.remark


def test_small_error_of_a_parameter_is_measured(folder, tmp_path):
    variables, attributes = content(folder / "burgers.h5")
    attributes["viscosity"] *= 1.0005
    report = validate(save(tmp_path / "near.h5", variables, attributes))
    (row,) = rows(report, "parameter")
    assert report.passed and row.number == pytest.approx(0.0005, rel=0.02)


def test_wrong_time_step_is_named(folder, tmp_path):
    variables, attributes = content(folder / "burgers.h5")
    time = variables["time"]
    variables["time"] = Variable(("time",), np.linspace(0, 0.2, 7)[:-1], time.attributes)
    del attributes["t_end"]
    (row,) = validate(save(tmp_path / "steps.h5", variables, attributes)).failures
    assert row.check == "equation" and "times 1.2 as far apart" in row.remark


def upwind(speed):
    """First-order finite volumes of advection at cell centres, as somebody else might store them."""
    n, courant = 256, 0.8
    x = (np.arange(n) + 0.5) / n
    u = np.stack([np.sin(2 * np.pi * x), np.cos(4 * np.pi * x) + np.sin(2 * np.pi * x)])
    result, dt = [u], courant / n / speed
    for _ in range(5):
        for _ in range(20):
            u = u - courant * (u - np.roll(u, 1, -1))
        result.append(u)
    return np.stack(result, 1), 20 * dt * np.arange(6)


@pytest.mark.parametrize(("stated", "verdict"), [(0.7, "pass"), (1.4, "fail"), (0.35, "fail")])
def test_data_of_a_foreign_low_order_solver_are_judged_by_the_parameter(stated, verdict):
    values, times = upwind(0.7)
    about = {"equation_name": "advection", "speed": stated}
    row, *parameters = law.law(subject(Grid(256, location="cell"), times, about, u=field(values)))
    assert row.verdict == verdict
    assert verdict == "fail" or row.number > 1e-3
    assert verdict == "pass" or "speed=0.7 " in row.remark
    assert all(parameter.verdict == "pass" and parameter.number < 0.02 for parameter in parameters)


def test_invalid_parameters_of_a_file_are_told():
    about = {"equation_name": "burgers", "viscosity": -1.0}
    values = smooth(2, np.arange(3) / 10, 32)
    (row,) = law.law(subject(Grid(32), np.arange(3) / 10, about, u=field(values)))
    assert row.verdict == "skipped" and "viscosity=-1.0 must be finite and not negative" in row.remark


@dataclass(frozen=True)
class Line(Steady):
    """-u'' = strength * f between zeros, by the tridiagonal stencil."""

    name: ClassVar[str] = "line"
    strength: float = 2.0

    @property
    def variables(self):
        return {name: {"units": "1", "long_name": name, "symmetry": "scalar"} for name in ("f", "u")}

    @property
    def grid(self):
        return Grid(33, periodic=False)

    def attributes(self):
        return {}

    def generate(self, seed, indices, progress=None):
        n = self.grid.sizes[0] - 2
        f = np.random.default_rng(seed).standard_normal((len(indices), n + 2)).cumsum(1)
        matrix = (2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)) * (n + 1) ** 2
        u = np.pad(np.linalg.solve(matrix, self.strength * f[:, 1:-1].T).T, ((0, 0), (1, 1)))
        return {"f": f, "u": u}

    def residual(self, fields, grid):
        u, f = fields["u"], fields["f"][:, 1:-1]
        rest = -np.diff(u, 2, axis=1) / grid.spacing[0] ** 2 - self.strength * f
        return np.linalg.norm(rest, axis=1) / np.linalg.norm(self.strength * f, axis=1)


@pytest.mark.parametrize(
    ("stated", "change", "words"),
    [
        (2.0, lambda u: u, "relative residual, 5 of 5 samples"),
        (1.0, lambda u: u, "strength=2 (the file says 1)"),
        (2.0, lambda u: u[:, ::-1].copy(), "the axis x reversed"),
    ],
)
def test_steady_problems(monkeypatch, stated, change, words):
    monkeypatch.setitem(EQUATIONS, "line", Line)
    data = Line().generate(0, range(5))
    about = {"equation_name": "line", "strength": stated, "targets": "u", "version_opflow_sciml": "0"}
    fields = {"f": field(data["f"], False), "u": field(change(data["u"]), False)}
    (row,) = law.law(subject(Line().grid, None, about, **fields))
    assert words in row.remark
    assert row.verdict == ("pass" if "relative" in words else "fail")


def test_values_between_the_points():
    grid = Grid((12, 9), lengths=(2.0, 3.0))
    wave = lambda x, y: np.sin(2 * np.pi * x) + np.cos(2 * np.pi * (x / 2 - 4 * y / 3))  # noqa: E731
    x, y = np.meshgrid(*grid.coordinates, indexing="ij")
    assert np.allclose(translated(wave(x, y), grid, (0.3, -0.2)), wave(x + 0.3, y - 0.2), atol=1e-13)


# Frames and samples


def frame_rows(values):
    times = np.arange(values.shape[1])
    at = subject(Grid(values.shape[2]), times, u=field(values))
    return [next(check(at)) for check in (frames.finite, frames.constant, frames.repeated)]


def test_rest_at_both_ends_is_no_fault():
    values = smooth(3, np.linspace(0, 1, 12), 32)
    values *= np.array([0, 1, 1, 0.5, 0.1, 0.01, 1e-3, 1e-5, 0, 0, 0, 0])[:, None]
    assert [row.verdict for row in frame_rows(values)] == ["pass"] * 3


def test_motion_that_comes_back_is_no_fault():
    values = np.tile(smooth(2, np.arange(4) / 4, 32), (1, 3, 1))
    assert frame_rows(values)[2].verdict == "pass"


@pytest.mark.parametrize("copy", [(3, 2), (7, 2), (11, 10), (1, 0)])
def test_copied_frames_are_found(copy):
    values = smooth(3, np.linspace(0, 1, 12), 32)
    values[1, copy[0]] = values[1, copy[1]]
    row = frame_rows(values)[2]
    assert row.verdict == "fail" and f"sample 1, frame {copy[0]}" in row.remark


def test_constant_and_infinite_frames_are_found():
    values = smooth(3, np.linspace(0, 1, 12), 32)
    values[2, 5] = 4.0
    values[0, 1, 3] = np.inf
    finite, constant, _ = frame_rows(values)
    assert "sample 0, frame 1" in finite.remark and "sample 2, frame 5" in constant.remark


def test_near_duplicates_are_told_from_alike():
    values = smooth(40, [0.0, 0.5], 64)
    near, alike = values.copy(), values.copy()
    noise = np.random.default_rng(1).standard_normal(values[0].shape)
    near[31] = values[4] + 1e-5 * noise
    alike[31] = values[4] + 0.05 * noise
    found = [
        next(duplicates.duplicated(subject(Grid(64), [0, 1], u=field(v)))) for v in (values, alike, near)
    ]
    assert [row.verdict for row in found] == ["pass", "pass", "fail"]
    assert "samples 4 and 31" in found[2].remark


def test_overlapping_windows_are_found():
    long = smooth(1, np.linspace(0, 1, 12), 64)[0]
    windows = np.stack([long[:6], long[4:10], smooth(1, np.linspace(0, 1, 6), 64, seed=5)[0]])
    _, row = duplicates.duplicated(subject(Grid(64), np.arange(6), u=field(windows)))
    assert row.verdict == "fail" and "frame 4 of sample 0 is frame 0 of sample 1" in row.remark


# Coordinates


def replaced(at, name, values, **attributes):
    old = at.schema.variables[name]
    about = {**old.attributes, **attributes}
    variables = {**at.schema.variables, name: Variable(old.dims, np.asarray(values), about)}
    schema = Schema(variables, at.schema.attributes)
    return Subject("data", schema, against=None, samples=None, seed=0, progress=lambda n: None)


@pytest.mark.parametrize(
    ("values", "check", "words"),
    [
        (np.linspace(0, 1, 32), coordinates.consistent, "the far end was counted as a point"),
        ((np.arange(32) + 0.5) / 32, coordinates.consistent, "half a spacing off"),
        (np.arange(32)[::-1] / 32, coordinates.spacing, "does not increase"),
        (np.where(np.arange(32) == 9, 9.4, np.arange(32)) / 32, coordinates.spacing, "step 8 is"),
        (np.arange(32) / 16, coordinates.consistent, "span 2, the file says 1"),
        (np.zeros(32, bool), coordinates.spacing, "has type bool, expected numbers"),
    ],
)
def test_wrong_coordinates_are_told(values, check, words):
    at = subject(Grid(32), [0, 1], u=field(smooth(2, [0, 1], 32)))
    assert not [row for row in check(at) if row.verdict == "fail"]
    (row,) = [row for row in check(replaced(at, "x", values)) if row.verdict == "fail"]
    assert row.subject == "x" and words in row.remark


def test_a_moved_point_of_a_small_grid_and_an_unknown_location_are_told():
    at = subject(Grid(8), [0, 1], u=field(smooth(2, [0, 1], 8)))
    moved = np.arange(8) / 8 + np.where(np.arange(8) == 3, 0.01, 0)
    (row,) = [row for row in coordinates.spacing(replaced(at, "x", moved)) if row.verdict == "fail"]
    assert "an entry is missing, moved or doubled" in row.remark
    odd = replaced(at, "x", np.arange(8) / 8, grid_location="corner")
    (row,) = [row for row in coordinates.consistent(odd) if row.verdict == "fail"]
    assert row.remark == "grid_location is 'corner', expected 'node' or 'cell'"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (smooth(3, [0, 1], 32), ""),
        (np.concatenate([smooth(3, [0, 1], 32), smooth(3, [0, 1], 32)[..., :1]], -1), "repeats the first"),
        (smooth(3, [0, 1], 32) + np.linspace(0, 9, 32), "not periodic"),
    ],
)
def test_step_across_a_periodic_boundary(values, words):
    (row,) = coordinates.periodicity(subject(Grid(values.shape[-1]), [0, 1], u=field(values)))
    assert row.verdict == ("fail" if words else "pass") and words in row.remark


@pytest.mark.parametrize("value", ["", " ", [1.0, 2.0]])
def test_missing_units_are_listed(value):
    at = subject(Grid(32), [0, 1], u=field(smooth(2, [0, 1], 32), units=value))
    (row,) = units.units(at)
    assert row.number == 1 and row.remark.startswith("u without units")


def test_noise_is_not_resolved():
    noise = np.random.default_rng(0).standard_normal((4, 2, 64))
    steps = np.sign(smooth(4, [0, 1], 64))
    found = [next(spectrum.tails(subject(Grid(64), [0, 1], u=field(v)))) for v in (steps, noise)]
    assert [row.verdict for row in found] == ["pass", "fail"]


# Velocities


def velocities(grid, u, v, **more):
    about = [{"symmetry": f"vector {a}", "long_name": "velocity"} for a in "xy"]
    return subject(grid, None, None, vx=field(u, False, **about[0]), vy=field(v, False, **about[1]), **more)


@pytest.mark.parametrize("periodic", [True, False])
def test_divergence_of_known_flows(periodic):
    """Cells of sin(x) cos(y): free of divergence; their gradient: nothing else."""
    grid = Grid((40, 64), lengths=(2.0, 1.0), periodic=periodic)
    x, y = (np.pi * c for c in np.meshgrid(*grid.coordinates, indexing="ij"))
    u, v = np.sin(x) * np.cos(2 * y), -np.cos(x) * np.sin(2 * y) / 2
    free, wrong = velocities(grid, u[None], v[None]), velocities(grid, u[None], -v[None])
    found = [next(divergence.divergence(at)) for at in (free, wrong)]
    assert [row.verdict for row in found] == ["pass", "fail"]
    assert found[0].number < (1e-6 if periodic else 1e-2) and found[1].number > 0.5


@pytest.mark.parametrize(
    ("carried", "steps", "verdict"), [(1, 20, "pass"), (2, 20, "fail"), (1, 2, "skipped")]
)
def test_continuity_of_carried_density(carried, steps, verdict):
    x, times = np.arange(48) / 48, np.linspace(0, 1, steps + 1)
    rho = (
        2
        + np.sin(2 * np.pi * (x - carried * 0.5 * times[:, None]))
        + np.cos(6 * np.pi * (x - carried * 0.5 * times[:, None]))
    )
    u = np.full_like(rho, 0.5)
    about = {"symmetry": "vector x", "long_name": "velocity"}
    at = subject(Grid(48), times, None, density=field(rho[None]), velocity_x=field(u[None], **about))
    (row,) = divergence.divergence(at)
    assert (row.check, row.verdict) == ("continuity", verdict), row


# Boundaries


@pytest.mark.parametrize(
    ("location", "values_at", "verdict"),
    [("node", "node", "pass"), ("cell", "cell", "pass"), ("node", "cell", "fail"), ("cell", "node", "pass")],
)
def test_values_at_faces(location, values_at, verdict):
    """Between nodes and cells only the first confusion shows: the parabola finds the zero of the other."""
    at = Grid(40, periodic=False, location=values_at)
    values = np.sin(np.pi * at.coordinates[0])[None]
    labelled = Grid(40, periodic=False, location=location)
    about = {"boundary_conditions": "u = 0 on the faces of the box"}
    found = list(boundary.boundary(subject(labelled, None, about, u=field(values, False))))
    assert [row.verdict for row in found] == [verdict] * 2
    assert verdict == "pass" or "values of cell centres, labelled as nodes" in found[0].remark


def test_mixed_conditions_are_read_from_the_sentence():
    grid = Grid((32, 24), periodic=False, location="cell")
    x, y = np.meshgrid(*grid.coordinates, indexing="ij")
    about = {"boundary_conditions": "u = 0 at x = 0, du/dn = 0 on the other faces of the box"}
    for values, failures in ((np.sin(np.pi / 2 * x) * np.cos(np.pi * y), 0), (1 + x + y, 4)):
        found = list(boundary.boundary(subject(grid, None, about, u=field(values[None], False))))
        assert [row.subject for row in found] == [
            "u at start of x",
            "du/dn at end of x",
            "du/dn at start of y",
            "du/dn at end of y",
        ]
        assert sum(row.verdict == "fail" for row in found) == failures
