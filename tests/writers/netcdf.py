"""netCDF in its two formats, with what the CF conventions allow, and Poseidon's sets."""

import h5py
import numpy as np
import scipy.io
import xarray as xr

from tests.writers import Case

N, T, X, Y = 3, 4, 6, 5


def ensemble(path, rng):
    """Members by standard_name, time since an epoch, x and y by axis, y before x."""
    u = rng.standard_normal((T, N, Y, X)).astype(np.float32)
    axes = {
        "when": ("when", np.arange(T) * 6.0, {"standard_name": "time", "units": "hours since 2000-01-01"}),
        "member": ("member", np.arange(N), {"standard_name": "realization", "units": "1"}),
        "south_north": ("south_north", np.arange(Y) * 2.0, {"axis": "Y", "units": "km"}),
        "west_east": ("west_east", np.arange(X) * 3.0, {"axis": "X", "units": "km"}),
    }
    dims = ("when", "member", "south_north", "west_east")
    files = xr.Dataset({"u": (dims, u, {"units": "m s-1"})}, axes, {"Conventions": "CF-1.8", "Re": 100.0})
    files.to_netcdf(path, engine="h5netcdf")
    return xr.Dataset(
        {"u": (("sample", "time", "west_east", "south_north"), u.transpose(1, 0, 3, 2), {"units": "m s-1"})},
        {
            "sample": np.arange(N),
            "time": ("time", np.arange(T) * 6.0, {"units": "hours since 2000-01-01"}),
            "west_east": ("west_east", np.arange(X) * 3.0, {"units": "km"}),
            "south_north": ("south_north", np.arange(Y) * 2.0, {"units": "km"}),
        },
        {"Re": 100.0},
    )


def weather(rng):
    """Packed shorts with gaps, latitude from north to south, no samples; as stored, and as meant."""
    packed = rng.integers(-1000, 1000, (T, Y, X)).astype(np.int16)
    packed[1, 2, 3] = packed[3, 0, 0] = -32767
    values = np.where(packed == -32767, np.nan, packed.astype(np.float64) * 0.01 + 273.15)
    latitude, longitude = np.linspace(60, 40, Y), np.arange(X) * 0.5
    degrees = {"lat": {"units": "degrees_north"}, "lon": {"units": "degrees_east"}}
    since = {"units": "days since 1970-01-01"}
    expected = xr.Dataset(
        {"t2m": (("sample", "time", "lat", "lon"), values[None, :, ::-1], {"units": "K"})},
        {
            "sample": [0],
            "time": ("time", np.arange(float(T)), since),
            "lat": ("lat", latitude[::-1], degrees["lat"]),
            "lon": ("lon", longitude, degrees["lon"]),
        },
        {"title": "made up"},
    )
    expected.t2m.attrs["missing_values"] = "stored as -32767, read as NaN"
    coordinates = {
        "time": (("time",), np.arange(float(T)), since),
        "lat": (("lat",), latitude, degrees["lat"]),
        "lon": (("lon",), longitude, degrees["lon"]),
    }
    packing = {
        "units": "K",
        "scale_factor": np.float64(0.01),
        "add_offset": np.float64(273.15),
        "_FillValue": np.int16(-32767),
    }
    return {**coordinates, "t2m": (("time", "lat", "lon"), packed, packing)}, expected


def weather_hdf5(path, rng):
    variables, expected = weather(rng)
    with h5py.File(path, "w") as file:
        file.attrs["title"] = "made up"
        for name, (dims, values, attributes) in variables.items():
            file.create_dataset(name, data=values, chunks=values.shape, compression="gzip", shuffle=True)
            file[name].attrs.update(attributes)
            if dims == (name,):
                file[name].make_scale(name)
        for axis, dim in enumerate(variables["t2m"][0]):
            file["t2m"].dims[axis].attach_scale(file[dim])
    return expected


def weather_classic(version):
    def write(path, rng):
        variables, expected = weather(rng)
        with scipy.io.netcdf_file(path, "w", version=version) as file:
            file.title = "made up"
            for name, (dims, values, _) in variables.items():
                if dims == (name,):
                    file.createDimension(name, None if name == "time" else len(values))
            for name, (dims, values, attributes) in variables.items():
                made = file.createVariable(name, values.dtype.newbyteorder(">"), dims)
                made[:] = values
                for key, value in attributes.items():
                    setattr(made, key, value)
        return expected

    return write


def lists(path, rng):
    """Without coordinates, complex, with a dimension of samples under another name and a text variable."""
    psi = rng.standard_normal((N, X)) + 1j * rng.standard_normal((N, X))
    with h5py.File(path, "w") as file:
        for name, size in (("batch", N), ("x", X)):
            file.create_dataset(name, data=np.zeros(size, ">f4"))
            file[name].make_scale(f"This is a netCDF dimension but not a netCDF variable. {size:10d}")
        file["psi"] = psi
        file["nu"] = np.arange(float(N))
        for name, dims in (("psi", ("batch", "x")), ("nu", ("batch",))):
            for axis, dim in enumerate(dims):
                file[name].dims[axis].attach_scale(file[dim])
    return xr.Dataset(
        {
            "psi_real": (("sample", "x"), psi.real),
            "psi_imag": (("sample", "x"), psi.imag),
            "nu": ("sample", np.arange(float(N))),
        }
    )


def poseidon(name, channels, **options):
    def write(path, rng):
        values = rng.standard_normal((N, T, channels, X, X)).astype(np.float32)
        with h5py.File(path, "w") as file:
            file.create_dataset(name, data=values, **options)
        names = ("u", "v", "tracer")[:channels]
        axis = {"units": "1", "boundary": "periodic"}
        return xr.Dataset(
            {n: (("sample", "time", "x", "y"), values[:, :, c], {"units": "1"}) for c, n in enumerate(names)},
            {
                "sample": np.arange(N),
                "time": ("time", np.linspace(0, 1, T), {"units": "1"}),
                "x": ("x", np.arange(X) / X, axis),
                "y": ("y", np.arange(X) / X, axis),
            },
            {"inputs": " ".join(names)},
        )

    return write


CASES = (
    Case("netCDF-4, CF ensemble", ensemble),
    Case("netCDF-4, packed, gaps, north first", weather_hdf5),
    Case("netCDF-3 classic", weather_classic(1)),
    Case("netCDF-3 with 64-bit offsets", weather_classic(2)),
    Case("netCDF-4, complex, no coordinates", lists),
    Case("Poseidon velocity", poseidon("velocity", 3), "NS-PwC.nc"),
    Case("Poseidon solution, chunked", poseidon("solution", 2, chunks=(1, 1, 2, X, X)), "FNS-KF.nc"),
)
