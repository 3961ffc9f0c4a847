"""The Well's files: six groups with all the ways in which fields, scalars and axes may vary."""

import h5py
import numpy as np
import xarray as xr

from tests.writers import Case

N, T, X, Y = 3, 5, 8, 6
ONE = {"units": "1"}


def flags(item, *, sample, time, dims=None):
    item.attrs["sample_varying"], item.attrs["time_varying"] = sample, time
    if dims is not None:
        item.attrs["dim_varying"] = dims


def put(group, name, values, *, sample=True, time=True, dims=(True, True), **attributes):
    item = group.create_dataset(name, data=values)
    flags(item, sample=sample, time=time, dims=list(dims))
    item.attrs.update(attributes)


def skeleton(file, n, times, points, parameters):
    """Everything but fields: root attributes, dimensions, and the empty groups."""
    file.attrs["dataset_name"], file.attrs["grid_type"] = "example", "cartesian"
    file.attrs["n_spatial_dims"], file.attrs["n_trajectories"] = len(points), n
    file.attrs["simulation_parameters"] = list(parameters)
    file.attrs.update(parameters)
    dimensions = file.create_group("dimensions")
    dimensions.attrs["spatial_dims"] = list(points)
    time = dimensions.create_dataset("time", data=times)
    time.attrs["sample_varying"] = times.ndim == 2
    for name, values in points.items():
        flags(dimensions.create_dataset(name, data=values), sample=False, time=False)
    for name in ("scalars", "t0_fields", "t1_fields", "t2_fields"):
        file.create_group(name).attrs["field_names"] = np.array([], h5py.string_dtype())
    file.create_group("boundary_conditions")


def boundary(file, name, kind, dims, mask, values=None, fields=()):
    group = file["boundary_conditions"].create_group(name)
    group.attrs["bc_type"], group.attrs["associated_dims"] = kind, list(dims)
    group.attrs["associated_fields"] = np.array(list(fields), h5py.string_dtype())
    flags(group, sample=False, time=False)
    group["mask"] = mask
    if values is not None:
        group["values"] = values


def names(group, *listed):
    group.attrs["field_names"] = list(listed)


def ends(n):
    mask = np.zeros(n, bool)
    mask[[0, -1]] = True
    return mask


def everything(path, rng):
    """A file with each kind of thing that the layout has."""

    def random(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    x = (np.arange(X) / X).astype(np.float32)
    y = np.linspace(0, 2, Y).astype(np.float32)
    times = np.cumsum(rng.uniform(0.1, 0.2, (N, T)), 1).astype(np.float32)
    density, source = random(N, T, X, Y), random(X, Y)
    profile, slab = random(N, T, Y), random(N, X, Y)
    velocity, stress, strain = random(N, T, X, Y, 2), random(N, T, X, Y, 2, 2), random(N, X, Y, 4)
    mass, gravity, height = random(N, T), random(T), random(N)
    obstacle = rng.random((X, Y)) < 0.3
    held = random(int(obstacle.sum()))
    with h5py.File(path, "w") as file:
        skeleton(file, N, times, {"x": x, "y": y}, {"Re": 100.0, "Sc": 0.5})
        boundary(file, "x_periodic", "PERIODIC", ["x"], ends(X))
        boundary(file, "y_wall", "WALL", ["y"], ends(Y))
        boundary(file, "obstacle", "WALL", ["x", "y"], obstacle, held, ["density"])
        names(file["scalars"], "Re", "mass", "gravity", "height", "alpha")
        for name, values, sample, time in (
            ("Re", np.array(100.0, np.float32), False, False),
            ("alpha", np.array([0.25], np.float32), False, False),
            ("mass", mass, True, True),
            ("gravity", gravity, False, True),
            ("height", height, True, False),
        ):
            flags(file["scalars"].create_dataset(name, data=values), sample=sample, time=time)
        t0, t1, t2 = (file[f"t{order}_fields"] for order in range(3))
        names(t0, "density", "source", "profile", "slab")
        put(t0, "density", density)
        put(t0, "source", source, sample=False, time=False)
        put(t0, "profile", profile, dims=(False, True))
        put(t0, "slab", slab, time=False)
        names(t1, "velocity")
        put(t1, "velocity", velocity)
        names(t2, "stress", "strain")
        put(t2, "stress", stress, symmetric=False, antisymmetric=False)
        put(t2, "strain", strain, time=False, symmetric=True, antisymmetric=False)
    moving, still = ("sample", "time", "x", "y"), ("sample", "x", "y")
    letters = ("xx", "xy", "yx", "yy")
    mask = {"flag_meanings": "elsewhere boundary"}
    return xr.Dataset(
        {
            "t": (("sample", "time"), times, ONE),
            "density": (moving, density, ONE),
            "source": (still, np.broadcast_to(source, (N, X, Y)), ONE),
            "profile": (moving, np.broadcast_to(profile[:, :, None], (N, T, X, Y)), ONE),
            "slab": (still, slab, ONE),
            **{
                f"velocity_{d}": (moving, velocity[..., i], {"symmetry": f"vector {d}"})
                for i, d in enumerate("xy")
            },
            **{f"stress_{ab}": (moving, stress[..., i // 2, i % 2], ONE) for i, ab in enumerate(letters)},
            **{
                f"strain_{ab}": (still, strain[..., i], {"tensor": "symmetric"})
                for i, ab in enumerate(letters)
            },
            "mass": (("sample", "time"), mass, ONE),
            "gravity": (("time",), gravity, ONE),
            "height": (("sample",), height, ONE),
            "x_periodic_mask": (("x",), ends(X).astype(np.int8), {**mask, "boundary_condition": "periodic"}),
            "y_wall_mask": (("y",), ends(Y).astype(np.int8), {**mask, "boundary_condition": "wall"}),
            "obstacle_mask": (("x", "y"), obstacle.astype(np.int8), {**mask, "associated_fields": "density"}),
            "obstacle_values": (("obstacle_point",), held, ONE),
        },
        {
            "sample": np.arange(N),
            "x": ("x", x, {**ONE, "boundary": "periodic", "grid_location": "node", "grid_length": 1.0}),
            "y": ("y", y, {**ONE, "boundary": "bounded", "grid_location": "node", "grid_length": 2.0}),
        },
        {"title": "example", "grid_type": "cartesian", "Re": 100.0, "Sc": 0.5, "alpha": 0.25},
    )


def folder(path, rng):
    """A set of two splits and three files, whose parameters differ from file to file."""
    counts = {"train": (2, 1), "valid": (2,)}
    x, t = (np.arange(X, dtype=np.float32) + 0.5) / X, np.arange(T, dtype=np.float32) * 0.5
    values, viscosity, drag = [], [], []
    for split, sizes in counts.items():
        (path / "data" / split).mkdir(parents=True)
        for number, n in enumerate(sizes):
            u, nu = rng.standard_normal((n, T, X)).astype(np.float32), 0.1 * (len(values) + 1)
            with h5py.File(path / "data" / split / f"example_{number}.hdf5", "w") as file:
                skeleton(file, n, t, {"x": x}, {"viscosity": nu, "length": 1.0})
                names(file["scalars"], "drag")
                item = file["scalars"].create_dataset("drag", data=np.float32(10 * nu))
                flags(item, sample=False, time=False)
                boundary(file, "x_open", "OPEN", ["x"], ends(X))
                names(file["t0_fields"], "u")
                item = file["t0_fields"].create_dataset("u", data=u, chunks=(1, 1, X), compression="gzip")
                flags(item, sample=True, time=True, dims=[True])
            values.append(u)
            viscosity += [nu] * n
            drag += [np.float32(10 * nu)] * n
    split = np.repeat(np.array([0, 1], np.int8), [3, 2])
    return xr.Dataset(
        {
            "u": (("sample", "time", "x"), np.concatenate(values), ONE),
            "split": (("sample",), split, {"flag_meanings": "train valid test"}),
            "viscosity": (("sample",), np.array(viscosity), ONE),
            "drag": (("sample",), np.array(drag, np.float32), ONE),
            "x_open_mask": (("x",), ends(X).astype(np.int8), {"boundary_condition": "open"}),
        },
        {
            "sample": np.arange(5),
            "time": ("time", t, ONE),
            "x": (
                "x",
                x,
                {**ONE, "boundary": "bounded", "grid_location": "cell", "boundary_condition": "open"},
            ),
        },
        {"title": "example", "length": 1.0, "boundary_conditions": "open in x"},
    )


CASES = (Case("The Well, one file", everything), Case("The Well, a folder of splits", folder))
