"""Files: round trips, bytes, and what is refused."""

import os

import h5py
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

import pde_data
from pde_data import DatasetError
from pde_data.formats import native
from pde_data.storage import Schema, Variable, replacing, sha256, write


def small(values, time=True, **attributes):
    """Schema of one field `u` over values (sample, [time,] x, y)."""
    dims = ("sample", *(("time",) if time else ()), "x", "y")
    coordinates = {dim: Variable((dim,), np.arange(float(size))) for dim, size in zip(dims, values.shape)}
    return Schema(
        {**coordinates, "u": Variable(dims, None, {"units": "m s-1", "long_name": "speed"})}, attributes
    )


@pytest.fixture
def good(tmp_path):
    values = np.random.default_rng(0).standard_normal((4, 3, 6, 5)).astype(np.float32)
    path = tmp_path / "good.h5"
    write(path, small(values, seed=3), [(0, {"u": values})])
    return path, values


finite = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


@settings(max_examples=30, deadline=None)
@given(
    values=arrays.arrays(
        np.float32, arrays.array_shapes(min_dims=4, max_dims=4, max_side=5), elements=finite
    ),
    attributes=st.dictionaries(
        st.text("abcdefgh", min_size=1, max_size=6),
        st.one_of(
            st.integers(-(2**40), 2**40),
            st.floats(allow_nan=False, allow_subnormal=False),
            st.text("äβ xyz", min_size=1),
            st.booleans(),
        ),
        max_size=4,
    ),
    cut=st.integers(0, 5),
)
def test_whatever_is_written_is_read(tmp_path_factory, values, attributes, cut):
    path = tmp_path_factory.mktemp("round") / "a.h5"
    cut = min(cut, len(values))
    write(path, small(values, **attributes), [(cut, {"u": values[cut:]}), (0, {"u": values[:cut]})])
    for dataset in (pde_data.open(path), xr.open_dataset(path, engine="h5netcdf")):
        with dataset:
            np.testing.assert_array_equal(dataset.u.values, values)
            assert dataset.u.dims == ("sample", "time", "x", "y")
            assert dataset.u.attrs["units"] == "m s-1"
            for key, value in attributes.items():
                assert dataset.attrs[key] == (
                    {True: "true", False: "false"}[value] if value is True or value is False else value
                )


def test_xarray_alone_understands_the_file(good):
    path, values = good
    with xr.open_dataset(path, engine="h5netcdf") as dataset:
        assert dict(dataset.sizes) == {"sample": 4, "time": 3, "x": 6, "y": 5}
        assert set(dataset.coords) == {"sample", "time", "x", "y"}
        np.testing.assert_array_equal(dataset.u.sel(time=2.0).isel(sample=[3, 1]).values, values[[3, 1], 2])


def test_open_reads_only_what_is_used_and_by_outer_indexing(good):
    path, values = good
    dataset = pde_data.open(path)
    picked = dataset.u.isel(sample=[3, 0], time=1, x=slice(None, None, 2), y=[4, 0, 2])
    np.testing.assert_array_equal(picked.values, values[[3, 0], 1, ::2][..., [4, 0, 2]])
    np.testing.assert_array_equal(dataset.u[-1, ::-1].values, values[-1, ::-1])
    assert dataset.u.isel(sample=[]).values.shape == (0, 3, 6, 5)


def test_xarray_round_trip(good, tmp_path):
    path, _ = good
    copy = tmp_path / "copy.h5"
    pde_data.open(path).to_netcdf(copy, engine="h5netcdf")
    xr.testing.assert_equal(pde_data.open(path), pde_data.open(copy))


def test_the_same_request_gives_the_same_bytes(tmp_path):
    values = np.random.default_rng(0).standard_normal((3, 2, 8, 8)).astype(np.float32)
    for name in "ab":
        write(tmp_path / name, small(values, note="x", list=[1, 2]), [(0, {"u": values})])
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")


def test_fields_are_contiguous_and_aligned(good):
    with h5py.File(good[0]) as file:
        assert file["u"].chunks is None and file["u"].id.get_offset() % 8 == 0


def test_a_failed_write_leaves_the_old_file_and_nothing_else(good):
    path, _ = good
    before = sha256(path)
    with pytest.raises(RuntimeError, match="stop"), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stop")
    with pytest.raises(DatasetError, match=r"block of 'u' from row 3 has shape \(2, 3, 6, 5\)"):
        write(path, small(np.zeros((4, 3, 6, 5))), [(3, {"u": np.zeros((2, 3, 6, 5))})])
    assert sha256(path) == before and os.listdir(path.parent) == ["good.h5"]


def test_no_folder_to_write_to(tmp_path):
    with pytest.raises(DatasetError, match="there is no folder .*nowhere; create it first"):
        write(tmp_path / "nowhere" / "a.h5", small(np.zeros((1, 1, 1, 1))), [])


def test_sizes_that_contradict_each_other(good):
    path, values = good
    with h5py.File(path, "r+") as file:
        file["v"] = values[:3]
        for axis, dim in enumerate(("sample", "time", "x", "y")):
            file["v"].dims[axis].attach_scale(file[dim])
    with pytest.raises(DatasetError, match=r"has \d entries along 'sample', where another one has \d"):
        pde_data.open(path)


def test_virtual_data_beside_the_file_is_read(good):
    path, values = good
    layout = h5py.VirtualLayout((4, 3, 6, 5), "f4")
    layout[:] = h5py.VirtualSource(path.name, "u", (4, 3, 6, 5))
    joined = path.with_name("joined.h5")
    write(joined, small(values), [(0, {"u": values})])
    with h5py.File(joined, "r+") as file:
        target = file.create_virtual_dataset("v", layout)
        for axis, dim in enumerate(("sample", "time", "x", "y")):
            target.dims[axis].attach_scale(file[dim])
    np.testing.assert_array_equal(pde_data.open(joined).v.values, values)


def test_big_endian_and_chunked_and_double_are_read_right(good, tmp_path):
    path, values = good
    with h5py.File(path, "r+") as file:
        made = {
            "big": file.create_dataset("big", data=values.astype(">f4")),
            "chunked": file.create_dataset("chunked", data=values, chunks=(1, 1, 6, 5), compression="gzip"),
            "double": file.create_dataset("double", data=values.astype(np.float64)),
        }
        for variable in made.values():
            for axis, dim in enumerate(("sample", "time", "x", "y")):
                variable.dims[axis].attach_scale(file[dim])
    for name in made:
        x, y = pde_data.FieldDataset(path, name, window=2).gather([3, 0])
        np.testing.assert_array_equal(x.numpy(), values[[3, 0], :2])
        np.testing.assert_array_equal(y.numpy(), values[[3, 0], 2:])


def test_native_reads_text_coordinates(good):
    path, _ = good
    with h5py.File(path, "r+") as file:
        file["labels"] = ["a", "b"]
    assert native.read(path).variables["labels"].values.tolist() == ["a", "b"]
