"""APEBench, the Kolmogorov files of PINO, CFDBench, and archives of named arrays."""

import json

import numpy as np
import xarray as xr

from tests.writers import Case

N, T = 3, 4
ONE = {"units": "1"}


def apebench(dims, channels, info, order="C"):
    def write(path, rng):
        shape = (N, T, channels, *(7, 7, 7)[:dims])
        u = rng.standard_normal(shape).astype(np.float32)
        np.save(path, np.asarray(u, order=order))
        base = path.name.rpartition("_")[0]
        content = {"name": base, "info": {"num_spatial_dims": dims, "num_points": 7, **info}}
        path.with_name(f"{base}.json").write_text(json.dumps(content))
        space = ("x", "y", "z")[:dims]
        names = ["u"] if channels == 1 else [f"u_{c}" for c in range(channels)]
        length = info.get("domain_extent", 1.0)
        axis = {**ONE, "boundary": "periodic", "grid_length": length}
        return xr.Dataset(
            {name: (("sample", "time", *space), u[:, :, c], ONE) for c, name in enumerate(names)},
            {
                "sample": np.arange(N),
                "time": ("time", np.arange(T) * info.get("dt", 1.0), ONE),
                **{name: (name, np.arange(7) / 7 * length, axis) for name in space},
            },
            {"inputs": " ".join(names), "num_points": 7, **info},
        )

    return write


def kolmogorov(path, rng):
    w = rng.standard_normal((2, 17, 6, 6)).astype(np.float32)
    np.save(path, w)
    path.with_name(f"{path.name}.npy").rename(path)
    axis = {**ONE, "boundary": "periodic", "grid_length": 2 * np.pi}
    x = np.arange(6) * (2 * np.pi / 6)
    return xr.Dataset(
        {"vorticity": (("sample", "time", "x", "y"), w, ONE)},
        {
            "sample": np.arange(2),
            "time": ("time", np.arange(17) / 16, ONE),
            "x": ("x", x, axis),
            "y": ("y", x, axis),
        },
        {"inputs": "vorticity"},
    )


def cfdbench(path, rng):
    """Two subsets of a problem; rows of the arrays are y, columns x; ten cases come after nine."""
    cases = [("bc", 2), ("bc", 10), ("prop", 0)]
    height, width = 5, 6
    fields = {"u": [], "v": []}
    parameters = {"vel_top": [], "viscosity": []}
    for subset, number in cases:
        folder = path / subset / f"case{number}"
        folder.mkdir(parents=True)
        for name in fields:
            values = rng.standard_normal((T, height, width)).astype(np.float32)
            np.save(folder / f"{name}.npy", values)
            fields[name].append(values.transpose(0, 2, 1))
        for key in parameters:
            parameters[key].append(float(rng.random()))
        (folder / "case.json").write_text(json.dumps({key: parameters[key][-1] for key in parameters}))
    axis = {**ONE, "boundary": "bounded", "grid_location": "cell"}
    return xr.Dataset(
        {
            **{n: (("sample", "time", "x", "y"), np.stack(v), {"units": "m s-1"}) for n, v in fields.items()},
            **{key: ("sample", np.array(values)) for key, values in parameters.items()},
        },
        {
            "sample": np.arange(3),
            "time": ("time", np.arange(float(T)), ONE),
            "x": ("x", (np.arange(width) + 0.5) / width, axis),
            "y": ("y", (np.arange(height) + 0.5) / height, axis),
        },
        {"inputs": "u v", "subsets": "bc prop"},
    )


def archive(save):
    def write(path, rng):
        u, x, t = rng.standard_normal((N, T, 7)).astype(np.float32), np.linspace(0, 2, 7), np.arange(T) / 8
        nu = rng.random(N)
        with path.open("wb") as file:
            save(file, u=u, x=x, t=t, nu=nu, length=2.0)
        return xr.Dataset(
            {"u": (("sample", "time", "x"), u), "nu": ("sample", nu)},
            {"sample": np.arange(N), "time": t, "x": x},
            {"length": 2.0},
        )

    return write


PHYSICAL = {"domain_extent": 5.0, "dt": 0.1, "diffusivity": 0.01}
CASES = (
    Case("APEBench 1-D", apebench(1, 1, {}), "1d_diff_adv_train.npy"),
    Case("APEBench 2-D, two channels", apebench(2, 2, PHYSICAL), "2d_phy_gs_type__seed=0_test.npy"),
    Case("APEBench 3-D, Fortran order", apebench(3, 1, PHYSICAL, "F"), "3d_phy_diff_test.npy"),
    Case("PINO Kolmogorov", kolmogorov),
    Case("CFDBench", cfdbench, "cavity"),
    Case("NumPy .npz", archive(np.savez)),
    Case("NumPy .npz, compressed", archive(np.savez_compressed)),
)
