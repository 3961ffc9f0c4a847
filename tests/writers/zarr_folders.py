"""Zarr of both versions, by zarr itself and by xarray, and PDEArena's shallow-water splits."""

import numpy as np
import xarray as xr
import zarr

from tests.writers import Case

N, T, LAT, LON = 2, 3, 4, 5


def plain(version):
    """By zarr alone, with names of dimensions and a compressed, chunked field."""

    def write(path, rng):
        u, nu = rng.standard_normal((N, T, LAT, LON)).astype(np.float32), rng.random(N)
        x, y, t = np.linspace(0, 1, LAT), np.linspace(0, 2, LON), np.arange(T) / 4
        group = zarr.open_group(path, mode="w", zarr_format=version, attributes={"Re": 10.0})
        swapped = u.transpose(1, 0, 3, 2)
        variables = {"u": (("time", "sample", "y", "x"), swapped), "nu": (("sample",), nu)}
        variables |= {"x": (("x",), x), "y": (("y",), y), "time": (("time",), t)}
        for name, (dims, values) in variables.items():
            chunks = (1, 1, LON, LAT) if name == "u" else values.shape
            names = {"dimension_names": dims} if version == 3 else {"attributes": {"_ARRAY_DIMENSIONS": dims}}
            made = group.create_array(name, shape=values.shape, chunks=chunks, dtype=values.dtype, **names)
            made[:] = values
        group["u"].attrs["units"] = "m s-1"
        return xr.Dataset(
            {"u": (("sample", "time", "x", "y"), u, {"units": "m s-1"}), "nu": ("sample", nu)},
            {"time": t, "x": x, "y": y},
            {"Re": 10.0},
        )

    return write


def without_names(path, rng):
    u, x, t = rng.standard_normal((N, T, LON)), np.linspace(0, 1, LON), np.arange(T) / 4
    group = zarr.open_group(path, mode="w", zarr_format=3)
    for name, values in {"u": u, "x": x, "t": t}.items():
        group.create_array(name, data=values)
    return xr.Dataset({"u": (("sample", "time", "x"), u)}, {"sample": np.arange(N), "time": t, "x": x})


def pdearena(version):
    """By xarray: trajectories along b, latitude from north to south, gaps marked."""

    def write(path, rng):
        shapes = {"u": (N, T, 1, LAT, LON), "v": (N, T, 1, LAT, LON), "vor": (N, T, 1, LAT, LON)}
        fields = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        pres = rng.standard_normal((N, T, LAT, LON)).astype(np.float32)
        pres[0, 1, 2, 3] = np.nan
        lat, lon = np.linspace(67.5, -67.5, LAT), np.arange(LON) * 72.0
        degrees = {"lat": {"units": "degrees_north"}, "lon": {"units": "degrees_east"}}
        dims = ("b", "time", "lev", "lat", "lon")
        coordinates = {
            "time": np.arange(T) * 6.0,
            "lev": [0.95],
            "lat": ("lat", lat, degrees["lat"]),
            "lon": ("lon", lon, degrees["lon"]),
        }
        files = xr.Dataset({name: (dims, v) for name, v in fields.items()}, coordinates)
        files["pres"] = (("b", "time", "lat", "lon"), pres, {"units": "Pa"})
        encoding = {"pres": {"_FillValue": np.float32(-999.0)}}
        files.to_zarr(path, mode="w", zarr_format=version, consolidated=False, encoding=encoding)
        meant = {name: v[:, :, 0, ::-1] for name, v in fields.items()} | {"pres": pres[:, :, ::-1]}
        return xr.Dataset(
            {name: (("sample", "time", "lat", "lon"), v) for name, v in meant.items()},
            {
                "time": np.arange(T) * 6.0,
                "lat": ("lat", lat[::-1], degrees["lat"]),
                "lon": ("lon", lon, degrees["lon"]),
            },
        ).assign(pres=lambda ds: ds.pres.assign_attrs(units="Pa"))

    return write


CASES = (
    Case("Zarr v3", plain(3)),
    Case("Zarr v2", plain(2)),
    Case("Zarr v3 without names of dimensions", without_names),
    Case("PDEArena shallow water, Zarr v2", pdearena(2), "train.zarr"),
    Case("PDEArena shallow water, Zarr v3", pdearena(3), "valid.zarr"),
)
