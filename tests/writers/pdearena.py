"""PDEArena's HDF5 files, as its generators lay them out: float64, one group for each split."""

import h5py
import numpy as np
import xarray as xr

from tests.writers import Case

T, X, Y, Z = 5, 8, 6, 4
ONE = {"units": "1"}
FLAGS = {"flag_meanings": "train valid test"}


def smoke(counts, buoyancy):
    """Groups of so many samples each; with `buoyancy` each sample has its own."""
    lengths, dt = {"x": 32.0, "y": 16.0}, 1.5

    def write(path, rng):
        total = sum(counts.values())
        u, vx, vy = rng.standard_normal((3, total, T, X, Y))
        force = rng.uniform(0.2, 0.5, total)
        stored = {
            "u": u,
            "vx": vx,
            "vy": vy,
            "t": np.tile(np.linspace(18.0, 18.0 + T * dt, T), (total, 1)),
            "x": np.tile(np.linspace(0, lengths["x"], X), (total, 1)),
            "y": np.tile(np.linspace(0, lengths["y"], Y), (total, 1)),
            "dt": np.full(total, dt),
            "dx": np.full(total, lengths["x"] / (X - 1)),
            "dy": np.full(total, lengths["y"] / (Y - 1)),
            **({"buo_y": force} if buoyancy else {}),
        }
        first = 0
        with h5py.File(path, "w") as file:
            for split, count in counts.items():
                for name, values in stored.items():
                    file.create_dataset(f"{split}/{name}", data=values[first : first + count], dtype=float)
                first += count
        dims = ("sample", "time", "x", "y")
        fields = {
            "smoke": (dims, u, {**ONE, "symmetry": "scalar"}),
            "velocity_x": (dims, vx, {**ONE, "symmetry": "vector x"}),
            "velocity_y": (dims, vy, {**ONE, "symmetry": "vector y"}),
        }
        if buoyancy:
            fields["buoyancy"] = ("sample", force, ONE)
        if len(counts) > 1:
            flags = [("train", "valid", "test").index(split) for split, n in counts.items() for _ in range(n)]
            fields["split"] = ("sample", np.array(flags, np.int8), FLAGS)
        about = {**ONE, "grid_location": "cell", "boundary": "bounded", "boundary_condition": "wall"}
        return xr.Dataset(
            fields,
            {
                "sample": np.arange(total),
                "time": ("time", 18.0 + dt * np.arange(T), ONE),
                **{
                    name: (name, (np.arange(n) + 0.5) * (length / n), {**about, "grid_length": length})
                    for (name, length), n in zip(lengths.items(), (X, Y))
                },
            },
            {"source": "PDEArena", "boundary_conditions": "wall in x and y"},
        )

    return write


def kuramoto_sivashinsky(varying):
    """Boxes and time steps of one size, or each sample with its own and its own viscosity."""

    def write(path, rng):
        n = 3
        u = rng.standard_normal((n, T, X))
        dx = rng.uniform(0.4, 0.6, n) if varying else np.full(n, 0.25)
        dt = rng.uniform(0.3, 0.5, n) if varying else np.full(n, 0.2)
        v = rng.uniform(0.5, 1.5, n)
        with h5py.File(path, "w") as file:
            group = file.create_group("valid")
            group[f"pde_{T}-{X}"], group["dt"], group["dx"] = u, dt, dx
            if varying:
                group["v"] = v
        field = {"u": (("sample", "time", "x"), u, ONE)}
        if varying:
            t = ("sample", "time"), dt[:, None] * np.arange(T), ONE
            more = {"t": t, "length": ("sample", dx * X, ONE), "viscosity": ("sample", v, ONE)}
            return xr.Dataset(
                field | more, {"sample": np.arange(n)}, {"boundary_conditions": "periodic in x"}
            )
        about = {**ONE, "boundary": "periodic", "grid_location": "node", "grid_length": 2.0}
        return xr.Dataset(
            field,
            {
                "sample": np.arange(n),
                "time": ("time", 0.2 * np.arange(T), ONE),
                "x": ("x", np.arange(X) * 0.25, about),
            },
            {"equation_name": "kuramoto_sivashinsky", "length": 2.0},
        )

    return write


def maxwell(path, rng):
    n, dims = 2, ("sample", "time", "x", "y", "z")
    fields = {name: rng.standard_normal((n, T, X, Y, Z, 3)) for name in ("d_field", "h_field")}
    with h5py.File(path, "w") as file:
        for name, values in fields.items():
            file.create_dataset(f"test/{name}", data=values, dtype=float)
    return xr.Dataset(
        {
            f"{name}_{x}": (dims, values[..., axis], {**ONE, "symmetry": f"vector {x}"})
            for name, values in fields.items()
            for axis, x in enumerate("xyz")
        },
        {
            "sample": np.arange(n),
            "time": ("time", np.arange(float(T))),
            **{x: (x, np.arange(size) + 0.5, {"boundary": "bounded"}) for x, size in zip("xyz", (X, Y, Z))},
        },
    )


CASES = (
    Case("PDEArena smoke", smoke({"train": 3}, False)),
    Case("PDEArena smoke, conditioned, splits", smoke({"train": 2, "valid": 1, "test": 2}, True)),
    Case("PDEArena Kuramoto-Sivashinsky", kuramoto_sivashinsky(False)),
    Case("PDEArena Kuramoto-Sivashinsky, conditioned", kuramoto_sivashinsky(True)),
    Case("PDEArena Maxwell", maxwell),
)
