"""PDEBench's files, read back as they were written, and what is said of broken ones."""

import pickle

import h5py
import numpy as np
import pytest

import pde_data
from pde_data import DatasetError, arrays
from pde_data.arrays import FileArray
from pde_data.formats import pdebench
from tests.writers import differences
from tests.writers.pdebench import CASES, N, T, X, Y

BY_NAME = {case.name.removeprefix("PDEBench "): case for case in CASES}


@pytest.fixture
def made(tmp_path):
    def make(name):
        case = BY_NAME[name]
        path = tmp_path / name / case.file
        path.parent.mkdir()
        return path, case.write(path, np.random.default_rng(0))

    return make


@pytest.mark.parametrize("name", BY_NAME)
def test_every_family_is_read_as_it_was_written(made, name):
    path, expected = made(name)
    assert pdebench.recognises(path)
    assert all(isinstance(field.values, FileArray) for field in pde_data.formats.read(path).fields.values())
    found = pde_data.open(path)
    assert not differences(found, expected)
    again = pickle.loads(pickle.dumps(found))
    for field in expected.data_vars:
        np.testing.assert_array_equal(again[field].values, expected[field].values)


@pytest.mark.parametrize("name", BY_NAME)
def test_pieces_of_every_family(made, name):
    path, expected = made(name)
    found = pde_data.open(path)
    for field in expected.data_vars:
        if field in pde_data.formats.read(path).fields:
            some = {"sample": [2, 0], **({"time": slice(1, None, 2)} if "time" in found[field].dims else {})}
            for pick in (some, {"sample": 1, "x": slice(None, None, -1)}, {"sample": -1, "x": [4, 1, 1]}):
                np.testing.assert_array_equal(found[field].isel(pick), expected[field].isel(pick))


@pytest.mark.parametrize("name", ["diffusion-reaction", "incompressible", "shallow water", "2D CFD"])
def test_training_pairs(made, name):
    path, expected = made(name)
    pairs = pde_data.FieldDataset(path)
    x, y = pairs.gather([1, T + 1])
    fields = np.stack([expected[field].values for field in pairs.input_names], 2)
    np.testing.assert_array_equal(x.numpy(), fields[[0, 1], [1, 2]])
    np.testing.assert_array_equal(y.numpy(), fields[[0, 1], [2, 3]])
    assert pairs.grid.location == "cell" and pairs.grid.periodic == (name == "2D CFD",) * 2
    extent = {
        "diffusion-reaction": (2, 2),
        "incompressible": (1, 2),
        "shallow water": (5, 5),
        "2D CFD": (1, 1),
    }
    assert pairs.grid.lengths == extent[name]


def test_fields_stay_on_disk(made, monkeypatch):
    read = []
    original = h5py.Dataset.__getitem__

    def counted(self, key, *rest, **options):
        result = original(self, key, *rest, **options)
        read.append(np.size(result))
        return result

    path, expected = made("incompressible")
    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    found = pde_data.open(path)
    assert max(read) == N * T  # the times
    read.clear()
    frame = found.velocity_y[2, 3].values
    assert read == [X * Y]
    np.testing.assert_array_equal(frame, expected.velocity_y[2, 3].values)


def test_few_of_many_variables_stay_open(made, monkeypatch):
    monkeypatch.setattr(arrays._Handle, "limit", 2)
    path, expected = made("diffusion-reaction")
    for field in ("u", "v"):
        for sample in (0, 1, 2, 0):
            np.testing.assert_array_equal(pde_data.open(path)[field][sample], expected[field][sample])
    assert len(arrays._HANDLES.get(path).variables) == 2


def test_times_without_the_extra_entry_stay(made):
    path, _ = made("Burgers")
    with h5py.File(path, "r+") as file:
        del file["t-coordinate"]
        file["t-coordinate"] = np.arange(T) * 0.5
    time = pde_data.open(path).time
    np.testing.assert_array_equal(time, np.arange(T) * 0.5)
    assert "repaired" not in time.attrs


def test_the_extra_time_is_told(made):
    path, _ = made("Burgers")
    assert "one entry more, 0.05" in pde_data.open(path).time.attrs["repaired"]


def test_boundaries_of_compressible_flow_that_no_name_tells(made):
    path, _ = made("2D CFD")
    path = path.rename(path.with_name("flow.h5"))
    found = pde_data.open(path)
    assert found.attrs["boundary_conditions"] == "unknown in x and y"
    assert found.x.attrs["boundary"] == "bounded" and "boundary_condition" not in found.x.attrs


def test_settings_that_are_no_yaml_are_no_obstacle(made):
    path, expected = made("diffusion-sorption")
    with h5py.File(path, "r+") as file:
        for name in file:
            file[name].attrs["config"] = (
                "sim:\n  D: !!python/object/apply:os.system [date]\n  por: nan\n\tx: 1"
            )
    found = pde_data.open(path)
    assert "D" not in found.attrs and "por" not in found.attrs
    np.testing.assert_array_equal(found.u, expected.u)


def test_converted_files_are_the_same_data(made, tmp_path):
    for name in ("diffusion-reaction", "Burgers"):
        path, expected = made(name)
        pde_data.formats.convert(path, tmp_path / "ours.nc")
        assert not differences(pde_data.open(tmp_path / "ours.nc"), expected)


def replace(file, name, values):
    del file[name]
    file[name] = values


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        (
            "advection",
            lambda file: file.pop("t-coordinate"),
            "/t-coordinate is missing, which belongs to PDEBench's layout; there is tensor, x-coordinate",
        ),
        (
            "advection",
            lambda file: replace(file, "t-coordinate", np.arange(T + 2.0)),
            r"/t-coordinate has 7 entries for 5 frames; PDEBench's files have 6 or 5",
        ),
        (
            "advection",
            lambda file: replace(file, "x-coordinate", np.arange(X + 1.0)),
            r"/x-coordinate has 9 entries for 8 points along x",
        ),
        (
            "advection",
            lambda file: replace(file, "tensor", np.zeros((3, 4))),
            r"/tensor has shape \(3, 4\), expected 3 or 4 axes",
        ),
        (
            "advection",
            lambda file: replace(file, "tensor", np.zeros((2, 3, T, X))),
            r"first axis numbers the devices.*tensor.reshape\(-1, 5, 8\)",
        ),
        (
            "advection",
            lambda file: replace(file, "tensor", np.full((3, T, X), b"a")),
            r"/tensor has type \|S1, expected real numbers",
        ),
        (
            "advection",
            lambda file: replace(file, "tensor", np.zeros((0, T, X))),
            r"/tensor has shape \(0, 5, 8\), so no values",
        ),
        (
            "Darcy",
            lambda file: replace(file, "nu", np.zeros((N, Y, X))),
            r"/tensor has shape \(3, 1, 8, 6\) and /nu \(3, 6, 8\)",
        ),
        ("2D CFD", lambda file: file.pop("Vy"), "/Vy is missing"),
        (
            "2D CFD",
            lambda file: replace(file, "pressure", np.zeros((N, T, Y, X))),
            r"/pressure has shape \(3, 5, 6, 8\), but /density \(3, 5, 8, 6\)",
        ),
        ("diffusion-reaction", lambda file: file.pop("0001/data"), "/0001/data is missing.*there is grid"),
        ("diffusion-reaction", lambda file: file.pop("0001/grid/t"), "/0001/grid/t is missing"),
        (
            "diffusion-reaction",
            lambda file: replace(file, "0002/data", np.zeros((T, Y, X, 2))),
            "/0002/data has shape .* type float64, but /0000/data .* float32; a set has one grid",
        ),
        (
            "diffusion-reaction",
            lambda file: replace(file, "0001/grid/x", np.arange(float(X))),
            "0001/grid/x differs from 0000/grid/x",
        ),
        (
            "shallow water",
            lambda file: replace(file, "0000/grid/y", np.arange(float(X))),
            "0000/grid/y has 8 entries, /0000/data 6 along it",
        ),
        (
            "shallow water",
            lambda file: replace(file, "0000/data", np.zeros((T, X, Y, 3))),
            r"/0000/data has shape \(5, 8, 6, 3\); PDEBench has \(t, x, 1\)",
        ),
        ("incompressible", lambda file: file.pop("particles"), "/particles is missing"),
        (
            "incompressible",
            lambda file: replace(file, "force", np.zeros((N, X, Y, 3))),
            r"/force \(3, 8, 6, 3\).* do not fit; PDEBench has velocity \(N, nt, nx, ny, 2\)",
        ),
    ],
)
def test_broken_files(made, name, damage, words):
    path, _ = made(name)
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(DatasetError, match=words):
        pde_data.open(path)


@pytest.mark.parametrize("name", ["advection", "shallow water"])
def test_truncated_files(made, name):
    path, _ = made(name)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DatasetError, match="is truncated"):
        pde_data.open(path)
