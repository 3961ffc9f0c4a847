"""PDEArena's HDF5 files, read back as they were written, and what is said of broken ones."""

import pickle

import h5py
import numpy as np
import pytest

import pde_data
from pde_data import DatasetError
from pde_data.arrays import FileArray
from pde_data.formats import pdearena
from tests.writers import differences
from tests.writers.pdearena import CASES, T, X, Y

BY_NAME = {case.name.removeprefix("PDEArena "): case for case in CASES}
SPLITS = "smoke, conditioned, splits"


@pytest.fixture
def made(tmp_path):
    def make(name):
        path = tmp_path / name
        return path, BY_NAME[name].write(path, np.random.default_rng(0))

    return make


@pytest.mark.parametrize("name", BY_NAME)
def test_every_set_is_read_as_it_was_written(made, name):
    path, expected = made(name)
    assert pdearena.recognises(path)
    assert all(isinstance(field.values, FileArray) for field in pde_data.formats.read(path).fields.values())
    found = pde_data.open(path)
    assert not differences(found, expected)
    again = pickle.loads(pickle.dumps(found))
    for field in expected.data_vars:
        np.testing.assert_array_equal(again[field].values, expected[field].values)
        if "x" in found[field].dims:
            pick = {"sample": [-1, 0], "time": slice(1, None, 2), "x": 3}
            np.testing.assert_array_equal(again[field].isel(pick), expected[field].isel(pick))


def test_repairs_are_told(made):
    found = pde_data.open(made("smoke")[0])
    assert "8 points from 0 to 32" in found.x.attrs["repaired"]
    assert "6 points from 0 to 16" in found.y.attrs["repaired"]
    assert "frames are dt = 1.5 apart" in found.time.attrs["repaired"]
    assert found.velocity_x.attrs["location"] == "faces towards smaller x"
    assert "location" not in found.smoke.attrs


def test_coordinates_that_are_right_stay(made):
    path, _ = made("smoke")
    x, t = (np.arange(X) + 0.5) * 4, np.arange(T) * 1.5
    with h5py.File(path, "r+") as file:
        file["train/x"][...], file["train/t"][...] = x, t
    found = pde_data.open(path)
    np.testing.assert_array_equal(found.x, x)
    np.testing.assert_array_equal(found.time, t)
    assert "repaired" not in found.x.attrs and "repaired" not in found.time.attrs


def test_training_pairs_and_conversion(made, tmp_path):
    path, expected = made(SPLITS)
    pairs = pde_data.FieldDataset(path)
    assert pairs.input_names == ["smoke", "velocity_x", "velocity_y"] and pairs.time_step == 1.5
    assert pairs.grid == pde_data.Grid((X, Y), (32, 16), False, "cell")
    x, _ = pairs.gather([4 * (T - 1) + 2])
    frame = expected.isel(sample=4, time=2)
    fields = np.stack([frame[name] for name in pairs.input_names])
    np.testing.assert_array_equal(x[0].numpy(), fields.astype(np.float32))
    pde_data.formats.convert(path, tmp_path / "ours.nc")
    assert not differences(
        pde_data.open(tmp_path / "ours.nc"),
        expected.astype(np.float32)[["smoke"]].merge(pde_data.open(tmp_path / "ours.nc").drop_vars("smoke")),
    )


@pytest.mark.parametrize(
    ("name", "damage", "words"),
    [
        (
            "smoke",
            lambda file: file.pop("train/vy"),
            "/train/vy is missing, which belongs to PDEArena's layout",
        ),
        ("smoke", lambda file: file.pop("train/dt"), "/train/dt is missing"),
        (
            "smoke",
            lambda file: replace(file, "train/vx", np.zeros((3, T, Y, X))),
            r"velocity_x has shape \(3, 5, 6, 8\), but smoke \(3, 5, 8, 6\)",
        ),
        ("smoke", lambda file: replace(file, "train/u", np.zeros((3, X, Y))), "expected 4 axes"),
        (
            "smoke",
            lambda file: replace(file, "train/x", np.arange(24.0).reshape(3, 8)),
            "samples differ in x; a set has one grid",
        ),
        (SPLITS, lambda file: file.pop("valid/t"), "/valid/t is missing"),
        (
            SPLITS,
            lambda file: replace(file, "valid/u", np.zeros((1, T, X, Y), np.float32)),
            r"/valid/u has shape \(1, 5, 8, 6\) and type float32, but /train/u .* float64",
        ),
        (
            SPLITS,
            lambda file: file.create_dataset("test/pde_5-8", data=np.zeros((2, 5, 8))),
            "groups hold different equations",
        ),
        (
            "Kuramoto-Sivashinsky",
            lambda file: replace(file, "valid/dt", np.zeros(2)),
            r"dt has shape \(2,\), expected \(3,\)",
        ),
        (
            "Kuramoto-Sivashinsky",
            lambda file: file.create_dataset("valid/pde_9-8", data=np.zeros((3, 9, 8))),
            "holds pde_5-8, pde_9-8; a set has one grid",
        ),
        (
            "Maxwell",
            lambda file: replace(file, "test/h_field", np.zeros((2, T, X, Y, 4, 2))),
            "expected 3 components last",
        ),
        (
            "Maxwell",
            lambda file: replace(file, "test/h_field", np.zeros((2, T, X, Y, 5, 3))),
            "d_field and h_field have different shapes",
        ),
    ],
)
def test_broken_files(made, name, damage, words):
    path, _ = made(name)
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(DatasetError, match=words):
        pde_data.open(path)


def replace(file, name, values):
    del file[name]
    file[name] = values


def test_truncated_files(made):
    path, _ = made("Maxwell")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DatasetError, match="is truncated"):
        pde_data.open(path)
