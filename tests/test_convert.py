"""Conversion: the same fields in our axes' order, or a refusal."""

import os

import h5py
import numpy as np
import pytest
import xarray as xr

import pde_data
from pde_data import DatasetError

SIZES = {"sample": 3, "time": 5, "x": 7, "y": 4}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    "dims", [("time", "sample", "x"), ("x", "sample", "time", "y"), ("sample", "x", "time"), ("x", "sample")]
)
def test_axes_are_read_and_converted_in_our_order_whatever_theirs(tmp_path, dims, chunked):
    shape = tuple(SIZES[dim] for dim in dims)
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    encoding = {"u": {"chunksizes": (2,) * len(dims), "zlib": True}} if chunked else {}
    theirs, ours = tmp_path / "theirs.nc", tmp_path / "ours.h5"
    xr.Dataset({"u": (dims, values)}).to_netcdf(theirs, engine="h5netcdf", encoding=encoding)
    pde_data.formats.convert(theirs, ours)
    ordered = tuple(dim for dim in SIZES if dim in dims)
    expected = values.transpose([dims.index(dim) for dim in ordered])
    for path in (theirs, ours):
        assert pde_data.open(path).u.dims == ordered
        np.testing.assert_array_equal(pde_data.open(path).u.values, expected)
        np.testing.assert_array_equal(pde_data.open(path).u[1, ..., [2, 0]].values, expected[1][..., [2, 0]])
        pairs = pde_data.FieldDataset(path, "u", "u")
        x, _ = pairs.gather(range(len(pairs)))
        frames = expected[:, :-1].reshape(len(pairs), *expected.shape[2:]) if "time" in dims else expected
        np.testing.assert_array_equal(x[:, 0].numpy(), frames)


def test_dimensions_without_coordinates_are_converted_to_such(tmp_path):
    values, energy = np.random.default_rng(0).standard_normal((2, 3, 4)), np.arange(6.0).reshape(2, 3)
    dataset = xr.Dataset(
        {"u": (("sample", "time", "x"), values), "energy": (("sample", "time"), energy)},
        {"time": [0.0, 0.5, 1.0]},
    )
    dataset.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    pde_data.formats.convert(tmp_path / "a.nc", tmp_path / "b.h5")
    for copy in (
        pde_data.open(tmp_path / "b.h5"),
        xr.open_dataset(tmp_path / "b.h5", engine="h5netcdf"),
    ):
        with copy:
            assert dict(copy.sizes) == {"sample": 2, "time": 3, "x": 4} and "x" not in copy.variables
            np.testing.assert_array_equal(copy.u.values, values.astype(np.float32))
            np.testing.assert_array_equal(copy.energy.values, energy)
    grids = [pde_data.FieldDataset(tmp_path / name, "u").grid for name in ("a.nc", "b.h5")]
    assert grids[0] == grids[1]


def test_axes_without_names_are_converted(tmp_path):
    values = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["sample"] = np.arange(4)
        file["sample"].make_scale("sample")
        file["u"] = values
        file["u"].dims[0].attach_scale(file["sample"])
    pde_data.formats.convert(tmp_path / "a.h5", tmp_path / "b.h5")
    copy = pde_data.open(tmp_path / "b.h5")
    assert copy.u.dims == ("sample", "u_dim1")
    np.testing.assert_array_equal(copy.u.values, values)


def test_values_that_are_no_float32_are_not_converted(tmp_path):
    values = np.zeros((4, 3, 6))
    values[2, 1, 4:] = np.nan, np.inf
    words = (
        r"a.nc: variable 'u' of sample 2 holds 2 values that are NaN or infinite \(first in frame 1\); repair"
    )
    for _ in range(2):
        dataset = xr.Dataset({"u": (("sample", "time", "x"), values)})
        dataset.to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
        with pytest.raises(DatasetError, match=words):
            pde_data.formats.convert(tmp_path / "a.nc", tmp_path / "b.h5")
        values[2, 1, 4:] = 0
        values[3, 2, 5] = 1e300
        words = r"sample 3 holds 1 .*first in frame 2.*float32, up to 3.4e38"
    assert os.listdir(tmp_path) == ["a.nc"]
