"""The Well's layout: read back as it was written, written as specified, and what is said of broken files."""

import pickle

import h5py
import numpy as np
import pytest

import pde_data
from pde_data import DatasetError
from pde_data.arrays import FileArray
from pde_data.cli import main
from pde_data.formats import the_well
from tests.writers import differences, pdebench
from tests.writers.the_well import CASES, T, X

BY_NAME = {case.name.removeprefix("The Well, "): case for case in CASES}


@pytest.fixture
def made(tmp_path):
    def make(name):
        path = tmp_path / ("set" if "folder" in name else "well.hdf5")
        return path, BY_NAME[name].write(path, np.random.default_rng(0))

    return make


@pytest.mark.parametrize("name", BY_NAME)
def test_what_was_written_is_read(made, name):
    path, expected = made(name)
    assert the_well.recognises(path)
    fields = pde_data.formats.read(path).fields
    assert all(isinstance(field.values, FileArray) for field in fields.values())
    found = pde_data.open(path)
    assert not differences(found, expected)
    again = pickle.loads(pickle.dumps(found))
    for field in fields:
        np.testing.assert_array_equal(again[field].values, expected[field].values)
        for pick in ({"sample": -1, "x": slice(None, None, -2)}, {"sample": [2, 0], "x": [5, 1]}):
            np.testing.assert_array_equal(again[field].isel(pick), expected[field].isel(pick))
            if "time" in again[field].dims:
                pick = pick | {"time": slice(1, 4)}
                np.testing.assert_array_equal(again[field].isel(pick), expected[field].isel(pick))


def test_one_split_of_a_folder(made):
    path, expected = made("a folder of splits")
    for folder in (path / "data", path):
        assert pde_data.open(folder).sizes["sample"] == 5
    found = pde_data.open(path / "data" / "valid")
    assert "split" not in found and found.attrs["viscosity"] == pytest.approx(0.3)
    np.testing.assert_array_equal(found.u, expected.u[3:])


def test_values_that_repeat_take_no_memory(made):
    path, _ = made("one file")
    fields = pde_data.formats.read(path).fields
    for name in ("source", "profile"):
        sample = np.asarray(fields[name].values.sample(1))
        assert 0 in sample.strides or sample.base is not None
    assert fields["source"].values._mapped(0).strides[0] == 0
    assert fields["profile"].values._mapped(0).strides[2] == 0


def test_compressed_values_that_repeat(made):
    path, expected = made("one file")
    with h5py.File(path, "r+") as file:
        for group, name in (("t0_fields", "profile"), ("t0_fields", "source"), ("t2_fields", "stress")):
            values, attributes = file[group][name][()], dict(file[group][name].attrs)
            del file[group][name]
            file[group].create_dataset(name, data=values, compression="gzip").attrs.update(attributes)
    found = pde_data.open(path)
    for name in ("profile", "source", "stress_xy", "stress_yx"):
        np.testing.assert_array_equal(found[name], expected[name])
        some = {"sample": 1, "x": slice(2, 6, 3), "y": [3, 0]}
        np.testing.assert_array_equal(found[name].isel(some), expected[name].isel(some))


def test_training_pairs(made):
    path, expected = made("one file")
    names = ["density", "velocity_x", "profile"]
    x, _ = pde_data.FieldDataset(path, names, names).gather([T])
    np.testing.assert_array_equal(x[0].numpy(), np.stack([expected[name][1, 1] for name in names]))


def called_as_its_axis(file):
    file["t0_fields"].move("slab", "x")
    file["t0_fields"].attrs["field_names"] = ["x"]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda file: file.pop("t2_fields"),
            "lacks the group 't2_fields': files in The Well's layout have all",
        ),
        (lambda file: file.pop("dimensions"), "lacks the group 'dimensions'"),
        (lambda file: file.pop("t1_fields/velocity"), "/t1_fields/velocity is missing.*there is nothing"),
        (lambda file: file.pop("dimensions/y"), "/dimensions/y is missing"),
        (
            lambda file: file["t0_fields"].attrs.pop("field_names"),
            "/t0_fields lacks the attribute 'field_names'",
        ),
        (
            lambda file: file["t0_fields/slab"].attrs.pop("time_varying"),
            "/t0_fields/slab lacks the attribute 'time_varying'",
        ),
        (
            lambda file: file["t0_fields/slab"].attrs.modify("time_varying", True),
            r"/t0_fields/slab has shape \(3, 8, 6\), expected \(3, 5, 8, 6\) for sample, time, x, y",
        ),
        (
            lambda file: file["t1_fields/velocity"].attrs.modify("sample_varying", False),
            r"shape \(3, 5, 8, 6, 2\), expected \(5, 8, 6, 2\) for time, x, y and components",
        ),
        (
            lambda file: file["t0_fields/density"].attrs.create("dim_varying", [True]),
            "has 1 entries in dim_varying",
        ),
        (lambda file: file.attrs.modify("n_trajectories", 4), r"/dimensions/time has shape \(3, 5\) for 4"),
        (
            lambda file: file.attrs.create("n_trajectories", "many"),
            "n_trajectories is 'many', expected a whole",
        ),
        (
            lambda file: file["dimensions"].attrs.create("spatial_dims", ["x", "time"]),
            r"spatial_dims are \['x', 'time'\], expected one to three different names",
        ),
        (
            lambda file: file["scalars/mass"].attrs.modify("time_varying", False),
            r"/scalars/mass has shape \(3, 5\)",
        ),
        (
            lambda file: file["boundary_conditions/y_wall"].attrs.create("associated_dims", ["x"]),
            r"/boundary_conditions/y_wall/mask has shape \(6,\)",
        ),
        (
            lambda file: file["boundary_conditions/y_wall"].attrs.pop("bc_type"),
            "no group with the attribute 'bc_type'",
        ),
        (lambda file: file["t0_fields"].move("slab", "x"), "/t0_fields/slab is missing"),
        (called_as_its_axis, "has two variables called 'x'; rename one of them"),
    ],
)
def test_broken_files(made, damage, words):
    path, _ = made("one file")
    with h5py.File(path, "r+") as file:
        damage(file)
    with pytest.raises(DatasetError, match=words):
        pde_data.open(path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (
            lambda file: file["dimensions/x"].write_direct(np.zeros(X, np.float32)),
            "the axis 'x' differs from that in",
        ),
        (
            lambda file: file["t0_fields"].attrs.create("field_names", np.array([], "S1")),
            "holds no fields of other",
        ),
        (lambda file: file["scalars"].attrs.create("field_names", np.array([], "S1")), "has other scalars"),
        (lambda file: shortened(file), "4 frames, .* 5; open them apart"),
        (
            lambda file: file["boundary_conditions/x_open"].attrs.create("bc_type", "WALL"),
            "has other scalars or boundaries",
        ),
    ],
)
def test_files_that_do_not_belong_together(made, damage, words):
    path, _ = made("a folder of splits")
    with h5py.File(path / "data" / "valid" / "example_0.hdf5", "r+") as file:
        damage(file)
    with pytest.raises(DatasetError, match=words):
        pde_data.open(path)
    pde_data.open(path / "data" / "train")


def shortened(file):
    for name in ("dimensions/time", "t0_fields/u"):
        values, attributes = file[name][()], dict(file[name].attrs)
        del file[name]
        file[name] = values[:4] if values.ndim == 1 else values[:, :4]
        file[name].attrs.update(attributes)


def test_an_empty_folder_is_no_set(tmp_path):
    (tmp_path / "data" / "train").mkdir(parents=True)
    assert not the_well.recognises(tmp_path)


# Writing.


def test_what_is_converted_is_read_back(made, tmp_path):
    path, expected = made("one file")
    assert main(["convert", str(path), str(tmp_path / "again.h5"), "--layout", "the-well"]) == 0
    assert not differences(pde_data.open(tmp_path / "again.h5"), expected)


def test_the_layout_is_that_of_the_specification(tmp_path):
    case = {case.name: case for case in pdebench.CASES}["PDEBench 2D CFD"]
    expected = case.write(tmp_path / case.file, np.random.default_rng(0))
    pde_data.formats.convert(tmp_path / case.file, tmp_path / "cfd.hdf5", "the-well")
    with h5py.File(tmp_path / "cfd.hdf5") as file:
        assert set(file) == {
            *("dimensions", "boundary_conditions", "scalars", "t0_fields", "t1_fields", "t2_fields"),
        }
        assert (file.attrs["n_trajectories"], file.attrs["n_spatial_dims"]) == (3, 2)
        assert (file.attrs["dataset_name"], file.attrs["grid_type"]) == ("cfd", "cartesian")
        parameters = ["M", "bulk_viscosity", "eta", "mach_number", "shear_viscosity", "zeta"]
        assert sorted(file.attrs["simulation_parameters"]) == parameters
        assert sorted(file["scalars"].attrs["field_names"]) == parameters
        assert all(file.attrs[name] == expected.attrs.get(name, 0.1) for name in parameters)
        assert list(file["dimensions"].attrs["spatial_dims"]) == ["x", "y"]
        for name in ("time", "x", "y"):
            np.testing.assert_array_equal(file["dimensions"][name], expected[name])
            assert file["dimensions"][name].attrs["sample_varying"] == False  # noqa: E712
        assert list(file["t0_fields"].attrs["field_names"]) == ["density", "pressure"]
        assert list(file["t1_fields"].attrs["field_names"]) == ["velocity"]
        assert list(file["t2_fields"].attrs["field_names"]) == []
        velocity = file["t1_fields/velocity"]
        assert velocity.dtype == np.float32 and velocity.attrs["dim_varying"].tolist() == [True, True]
        assert velocity.attrs["sample_varying"] and velocity.attrs["time_varying"]
        components = np.stack([expected.velocity_x, expected.velocity_y], -1)
        np.testing.assert_array_equal(velocity, components)
        np.testing.assert_array_equal(file["t0_fields/pressure"], expected.pressure)
        for name in ("x", "y"):
            side = file["boundary_conditions"][f"{name}_periodic"]
            assert side.attrs["bc_type"] == "PERIODIC" and list(side.attrs["associated_dims"]) == [name]
            mask = side["mask"][()]
            assert mask.dtype == bool and mask[[0, -1]].all() and not mask[1:-1].any()


def test_our_own_data_in_the_layout(tmp_path):
    options = {"resolution": 8, "t_end": 0.4, "records": 2, "viscosity": 2e-3, "processes": 1}
    ours = pde_data.generate("navier_stokes", tmp_path / "ns.h5", samples=2, **options)
    pde_data.formats.convert(ours, tmp_path / "well.h5", "the-well")
    with h5py.File(tmp_path / "well.h5") as file:
        assert file.attrs["dataset_name"] == "navier_stokes"
        assert (
            "viscosity" in file.attrs["simulation_parameters"]
            and "seed" not in file.attrs["simulation_parameters"]
        )
    found, expected = pde_data.open(tmp_path / "well.h5"), pde_data.open(ours)
    np.testing.assert_array_equal(found.vorticity, expected.vorticity)
    np.testing.assert_allclose(found.x, expected.x, rtol=1e-7)
    assert found.attrs["equation_name"] == "navier_stokes" and found.attrs["viscosity"] == 2e-3
    assert pde_data.FieldDataset(tmp_path / "well.h5").grid == pde_data.FieldDataset(ours).grid


def test_what_the_layout_cannot_hold(made, tmp_path, capsys):
    case = {case.name: case for case in pdebench.CASES}["PDEBench Darcy"]
    case.write(tmp_path / "darcy", np.random.default_rng(0))
    with pytest.raises(DatasetError, match="holds trajectories, and none of a, u has a time axis"):
        pde_data.formats.convert(tmp_path / "darcy", tmp_path / "a.h5", "the-well")
    path, _ = made("one file")
    with pytest.raises(DatasetError, match="the_well reads names in .h5 and .hdf5"):
        pde_data.formats.convert(path, tmp_path / "a.nc", "the-well")
    with pytest.raises(ValueError, match="layout='zarr' is unknown"):
        pde_data.formats.convert(path, tmp_path / "a.nc", "zarr")
    with h5py.File(path, "r+") as file:
        file["t1_fields/velocity"][1, 2, 3, 4, 1] = np.nan
    assert main(["convert", str(path), str(tmp_path / "a.h5"), "--layout", "the-well"]) == 1
    error = capsys.readouterr().err
    assert "'velocity_y' of sample 1 holds 1 values that are NaN" in error and "frame 2" in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["darcy", "well.hdf5"]
