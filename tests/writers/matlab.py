"""FNO's files and others of MATLAB, v5 by SciPy and v7.3 by h5py, which sees every axis in reverse."""

import h5py
import numpy as np
import scipy.io
import xarray as xr

from tests.writers import Case

N, S, T = 3, 6, 5


def v73(path, variables, classes=None, **options):
    """Write as MATLAB does: a text header in a user block, axes in reverse, complex numbers as pairs."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, values in variables.items():
            values = np.asarray(values).T
            if values.dtype.kind == "c":
                part = values.real.dtype
                pairs = np.empty(values.shape, [("real", part), ("imag", part)])
                pairs["real"], pairs["imag"] = values.real, values.imag
                values = pairs
            options_here = options if values.size > 4 else {}
            dataset = file.create_dataset(name, data=values, **options_here)
            kind = {"f8": "double", "f4": "single"}.get(np.dtype(values.dtype).str[1:], "double")
            dataset.attrs["MATLAB_class"] = np.bytes_((classes or {}).get(name, kind))
    header = (
        b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Mon Jan  1 00:00:00 2024 HDF5 schema 1.00 ."
    )
    with open(path, "r+b") as file:
        file.write(header.ljust(124) + b"\x00\x02IM")


def unit_square(n, m=None):
    x = {"units": "1", "boundary": "periodic", "grid_location": "node", "grid_length": 1.0}
    return {"x": ("x", np.arange(n) / n, x), "y": ("y", np.arange(m or n) / (m or n), x)}


def flow(rng):
    """Vorticity at times 0 and after, as the generator computes it, and the file's a, u, t."""
    w = rng.standard_normal((N, T + 1, S, S)).astype(np.float32)
    return w, {"a": w[:, 0], "u": np.ascontiguousarray(w[:, 1:].transpose(0, 2, 3, 1))}


def expected_flow(w, times, **attributes):
    units = {"units": "1"}
    return xr.Dataset(
        {"vorticity": (("sample", "time", "x", "y"), w, units)},
        {"sample": np.arange(N), "time": ("time", times, units), **unit_square(S)},
        {"inputs": "vorticity", **attributes},
    )


def vorticity_v5(path, rng):
    w, variables = flow(rng)
    scipy.io.savemat(
        path, {**variables, "t": np.arange(1.0, T + 1)[None]}, appendmat=False, do_compression=True
    )
    return expected_flow(w, np.arange(T + 1.0), viscosity=1e-5)


def vorticity_v73(path, rng):
    w, variables = flow(rng)
    v73(path, {**variables, "t": np.arange(1.0, T + 1)[None]}, chunks=True, compression="gzip")
    return expected_flow(w, np.arange(T + 1.0), viscosity=1e-3)


def vorticity_without_t(path, rng):
    w, variables = flow(rng)
    v73(path, variables)
    expected = expected_flow(w[:, 1:], np.arange(1.0, T + 1))
    expected["initial_vorticity"] = (("sample", "x", "y"), w[:, 0], {"units": "1"})
    return expected


def vorticity_gfno(path, rng):
    """Every 4th record from the first on, at times 1/4, 5/4, ...; `t` has them all."""
    w, variables = flow(rng)
    scipy.io.savemat(path, {**variables, "t": np.arange(1, 4 * T + 1, dtype=np.float64) / 4}, appendmat=False)
    expected = expected_flow(w[:, 1:], 0.25 + np.arange(T))
    expected["initial_vorticity"] = (("sample", "x", "y"), w[:, 0], {"units": "1"})
    return expected


def darcy(path, rng):
    coeff = rng.choice([4.0, 12.0], (N, S, S))
    fields = {name: rng.standard_normal((N, S, S)) for name in ("sol", "Kcoeff", "Kcoeff_x", "Kcoeff_y")}
    scipy.io.savemat(path, {"coeff": coeff, **fields}, appendmat=False, do_compression=True)
    node = {"units": "1", "boundary": "bounded", "grid_location": "node"}
    return xr.Dataset(
        {name: (("sample", "x", "y"), v, {"units": "1"}) for name, v in {"coeff": coeff, **fields}.items()},
        {
            "sample": np.arange(N),
            "x": ("x", np.linspace(0, 1, S), node),
            "y": ("y", np.linspace(0, 1, S), node),
        },
        {"inputs": "coeff", "targets": "sol"},
    )


def burgers(path, rng):
    names = ("a", "u", "a_smooth", "a_smooth_x", "a_x")
    fields = {name: rng.standard_normal((N, 2 * S)) for name in names}
    scipy.io.savemat(path, fields, appendmat=False)
    return xr.Dataset(
        {name: (("sample", "x"), values, {"units": "1"}) for name, values in fields.items()},
        {"sample": np.arange(N), "x": unit_square(2 * S)["x"]},
        {"inputs": "a", "targets": "u"},
    )


def one_solution(path, rng):
    """As in PINNs: coordinates are columns, the solution is (x, t), there is one sample."""
    x, t, u = np.linspace(-1, 1, 7), np.arange(4) / 4, rng.standard_normal((7, 4))
    scipy.io.savemat(path, {"x": x[:, None], "t": t[:, None], "usol": u, "nu": 0.01}, appendmat=False)
    return xr.Dataset(
        {"usol": (("sample", "time", "x"), u.T[None])}, {"sample": [0], "time": t, "x": x}, {"nu": 0.01}
    )


def complex_fields(write):
    def made(path, rng):
        psi = rng.standard_normal((N, 4, 7)) + 1j * rng.standard_normal((N, 4, 7))
        x, t, mass = np.linspace(-5, 5, 7), np.arange(4.0), rng.random(N)
        write(path, {"psi": psi, "x": x[None], "t": t[None], "mass": mass[None]})
        dims = ("sample", "time", "x")
        return xr.Dataset(
            {"psi_real": (dims, psi.real), "psi_imag": (dims, psi.imag), "mass": ("sample", mass)},
            {"sample": np.arange(N), "time": t, "x": x},
        )

    return made


CASES = (
    Case("FNO vorticity, v5", vorticity_v5, "NavierStokes_V1e-5_N1200_T20.mat"),
    Case("FNO vorticity, v7.3", vorticity_v73, "ns_V1e-3_N5000_T50.mat"),
    Case("FNO vorticity, v7.3 without t", vorticity_without_t),
    Case("G-FNO vorticity, v5", vorticity_gfno),
    Case("FNO Darcy, v5", darcy),
    Case("FNO Burgers, v5", burgers),
    Case("MATLAB v5, one solution", one_solution),
    Case("MATLAB v5, complex", complex_fields(lambda path, v: scipy.io.savemat(path, v, appendmat=False))),
    Case("MATLAB v7.3, complex", complex_fields(v73)),
)
