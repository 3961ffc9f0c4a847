"""PDEBench's families, as its generators and `Data_Merge` lay them out."""

import h5py
import numpy as np
import xarray as xr

from tests.writers import Case

N, T, X, Y, Z = 3, 5, 8, 6, 4
DIMS = ("sample", "time", "x", "y", "z")
ONE = {"units": "1"}


def centres(n, left=0.0, right=1.0):
    return (left + (np.arange(n) + 0.5) * (right - left) / n).astype(np.float32)


def axis(name, values, length, origin, boundary, condition=None):
    about = {
        **ONE,
        "grid_location": "cell",
        "grid_length": length,
        "grid_origin": origin,
        "boundary": boundary,
    }
    return (name, values, about | ({"boundary_condition": condition} if condition else {}))


def random(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def one_dimensional(attributes, equation, title, devices=False):
    def write(path, rng):
        u, x = random(rng, N, T, X), centres(X)
        t = np.arange(T + 1, dtype=np.float32) * np.float32(0.01)
        with h5py.File(path, "w") as file:
            file["tensor"] = u[None] if devices else u
            file["x-coordinate"], file["t-coordinate"] = x, t
            file.attrs.update(attributes)
        return xr.Dataset(
            {"u": (DIMS[:3], u, ONE)},
            {"sample": np.arange(N), "time": ("time", t[:-1], ONE), "x": axis("x", x, 1.0, 0.0, "periodic")},
            {"title": title, **attributes, **equation, "boundary_conditions": "periodic in x"},
        )

    return write


def darcy(path, rng):
    nu, u = random(rng, N, X, Y), random(rng, N, X, Y)
    x, y = centres(X), centres(Y)
    with h5py.File(path, "w") as file:
        file["tensor"], file["nu"] = u[:, None], nu
        file["x-coordinate"], file["y-coordinate"] = x, y
        file.attrs["beta"] = 0.1
    return xr.Dataset(
        {"a": (("sample", "x", "y"), nu, {**ONE, "stored_as": "nu"}), "u": (("sample", "x", "y"), u, ONE)},
        {
            "sample": np.arange(N),
            "x": axis("x", x, 1.0, 0.0, "bounded", "dirichlet"),
            "y": axis("y", y, 1.0, 0.0, "bounded", "dirichlet"),
        },
        {"equation_name": "darcy", "beta": 0.1, "source": 0.1, "inputs": "a", "targets": "u"},
    )


def compressible(dim, boundary):
    sizes, space = (X, Y, Z)[:dim], ("x", "y", "z")[:dim]
    left = -1.0 if dim == 1 else 0.0
    condition = {"periodic": "periodic", "trans": "open"}[boundary]

    def write(path, rng):
        fields = {
            name: random(rng, N, T, *sizes) for name in ("density", "pressure", *(f"V{x}" for x in space))
        }
        points = {x: centres(n, left) for x, n in zip(space, sizes)}
        t = np.linspace(0, 1, T + 1).astype(np.float32)
        attributes = {"eta": 1e-8, "zeta": 1e-8, **({"M": 0.1} if dim > 1 else {})}
        with h5py.File(path, "w") as file:
            for name, values in fields.items():
                file[name] = values
            for x, values in points.items():
                file[f"{x}-coordinate"] = values
            file["t-coordinate"] = t
            file.attrs.update(attributes)
        side = "periodic" if boundary == "periodic" else "bounded"
        return xr.Dataset(
            {
                name.replace("V", "velocity_"): (
                    ("sample", "time", *space),
                    values,
                    {**ONE, "stored_as": name},
                )
                for name, values in fields.items()
            },
            {
                "sample": np.arange(N),
                "time": ("time", t[:-1], ONE),
                **{x: axis(x, v, 1.0 - left, left, side, condition) for x, v in points.items()},
            },
            {**attributes, "shear_viscosity": 1e-8, "bulk_viscosity": 1e-8},
        )

    return write


def config(section, **numbers):
    """YAML text as OmegaConf writes it, with the sections around that of the simulation."""
    inside = "\n".join(f"  {key}: {value}" for key, value in numbers.items())
    head = "work_dir: /home/someone\nupload: false\noutput_path: /data/2D_x.h5\nname: run"
    tail = "plot:\n  t_idx: 1.0\n  dim: 2\ndataverse:\n  metadatablocks:\n    author:\n    - name: A B"
    return f"{head}\n{section}:\n{inside}\n{tail}\n"


def grouped(path, data, points, settings, **options):
    """`data` (N, t, *space, component) as it is to lie in the file, one group for each sample."""
    with h5py.File(path, "w") as file:
        for sample, values in enumerate(data):
            group = file.create_group(str(sample).zfill(4))
            group.create_dataset("data", data=values, **options)
            for name, x in points.items():
                group.create_dataset(f"grid/{name}", data=x, **options)
            group.attrs["config"] = settings(sample)


def diffusion_sorption(path, rng):
    u, x, t = random(rng, N, T, X), centres(X), np.linspace(0, 500, T).astype(np.float32)
    physics = {"D": 5e-4, "por": 0.29, "rho_s": 2880, "k_f": 3.5e-4, "n_f": 0.874}

    def settings(sample):
        return config("sim", **physics, seed=sample)

    grouped(path, u[..., None], {"x": x, "t": t}, settings, compression="lzf", chunks=True)
    return xr.Dataset(
        {"u": (DIMS[:3], u, ONE), "seed": ("sample", np.arange(float(N)))},
        {
            "sample": np.arange(N),
            "time": ("time", t, ONE),
            "x": axis("x", x, 1.0, 0.0, "bounded", "dirichlet"),
        },
        physics,
    )


def diffusion_reaction(path, rng):
    u, v = random(rng, N, T, X, Y), random(rng, N, T, X, Y)
    x, y, t = centres(X, -1), centres(Y, -1), np.linspace(0, 5, T).astype(np.float32)
    physics = {"Du": 1e-3, "Dv": 5e-3, "k": 5e-3}
    stored = np.stack([u, v], -1).transpose(0, 1, 3, 2, 4)  # y before x, whatever the documentation says

    def settings(sample):
        return config("sim", Du="0.001", Dv="5E-3", k="0.005", seed=sample)

    grouped(path, stored, {"x": x, "y": y, "t": t}, settings, compression="lzf", chunks=True)
    return xr.Dataset(
        {"u": (DIMS[:4], u, ONE), "v": (DIMS[:4], v, ONE), "seed": ("sample", np.arange(float(N)))},
        {
            "sample": np.arange(N),
            "time": ("time", t, ONE),
            "x": axis("x", x, 2.0, -1.0, "bounded", "neumann"),
            "y": axis("y", y, 2.0, -1.0, "bounded", "neumann"),
        },
        {**physics, "boundary_conditions": "neumann in x and y", "inputs": "u v"},
    )


def shallow_water(path, rng):
    h = random(rng, N, T, X, Y)
    x, y, t = centres(X, -2.5, 2.5), centres(Y, -2.5, 2.5), np.linspace(0, 1, T).astype(np.float32)
    radii = rng.uniform(0.3, 0.7, N)

    def settings(sample):
        return config("sim", gravity=1.0, dam_radius=repr(float(radii[sample])), seed=sample)

    grouped(path, h[..., None], {"x": x, "y": y, "t": t}, settings)
    return xr.Dataset(
        {
            "h": (DIMS[:4], h, ONE),
            "dam_radius": ("sample", radii),
            "seed": ("sample", np.arange(float(N))),
        },
        {
            "sample": np.arange(N),
            "time": ("time", t, ONE),
            "x": axis("x", x, 5.0, -2.5, "bounded", "open"),
            "y": axis("y", y, 5.0, -2.5, "bounded", "open"),
        },
        {"gravity": 1.0},
    )


def incompressible(path, rng):
    velocity, force = random(rng, N, T, X, Y, 2), random(rng, N, X, Y, 2)
    particles, t = random(rng, N, T, X, Y, 1), np.arange(T, dtype=np.float32) * np.float32(0.005)
    with h5py.File(path, "w") as file:
        file.attrs["config"] = (
            "sim_name: ns_sim_2d\ndomain_size:\n- 1\n- 2\ngrid_size:\n- 8\n- 6\n"
            "velocity_extrapolation: ZERO\n"
            "NU: 0.01\nseed: 1\nDT: 5.0e-05\nframe_int: 100\nsave_h5: true\n"
        )
        file.attrs["latestIndex"] = T - 1
        for name, values in {"velocity": velocity, "particles": particles, "force": force}.items():
            chunks = (1, 1, *values.shape[2:])
            file.create_dataset(name, data=values, chunks=chunks, compression="lzf", shuffle=True)
        file["t"] = np.tile(t, (N, 1))
    fields = {
        "velocity_x": (DIMS[:4], velocity[..., 0], {**ONE, "symmetry": "vector x"}),
        "velocity_y": (DIMS[:4], velocity[..., 1], {**ONE, "symmetry": "vector y"}),
        "particles": (DIMS[:4], particles[..., 0], ONE),
        "force_x": (("sample", "x", "y"), force[..., 0], ONE),
        "force_y": (("sample", "x", "y"), force[..., 1], ONE),
    }
    return xr.Dataset(
        fields,
        {
            "sample": np.arange(N),
            "time": ("time", t, ONE),
            "x": axis("x", (np.arange(X) + 0.5) * (1 / X), 1.0, 0.0, "bounded", "wall"),
            "y": axis("y", (np.arange(Y) + 0.5) * (2 / Y), 2.0, 0.0, "bounded", "wall"),
        },
        {"viscosity": 0.01, "NU": 0.01, "DT": 5e-5, "latestIndex": T - 1},
    )


ADVECTION = {"equation_name": "advection", "speed": 0.4, "length": 1.0}
BURGERS = {"equation_name": "burgers", "viscosity": 0.01 / np.pi, "length": 1.0}

CASES = (
    Case("PDEBench advection", one_dimensional({"beta": 0.4}, ADVECTION, "advection data")),
    Case("PDEBench advection, devices", one_dimensional({"beta": 0.4}, ADVECTION, "advection data", True)),
    Case("PDEBench Burgers", one_dimensional({"Nu": 0.01}, BURGERS, "Burgers data")),
    Case(
        "PDEBench reaction-diffusion", one_dimensional({"Nu": 0.5, "rho": 1.0}, {}, "reaction-diffusion data")
    ),
    Case("PDEBench Darcy", darcy),
    Case("PDEBench 1D CFD", compressible(1, "trans"), "1D_CFD_Rand_Eta1.e-8_Zeta1.e-8_trans_Train.hdf5"),
    Case(
        "PDEBench 2D CFD",
        compressible(2, "periodic"),
        "2D_CFD_Rand_M0.1_Eta1e-08_Zeta1e-08_periodic_Train.hdf5",
    ),
    Case(
        "PDEBench 3D CFD",
        compressible(3, "periodic"),
        "3D_CFD_Rand_M1.0_Eta1e-08_Zeta1e-08_periodic_Train.hdf5",
    ),
    Case("PDEBench diffusion-sorption", diffusion_sorption),
    Case("PDEBench diffusion-reaction", diffusion_reaction),
    Case("PDEBench shallow water", shallow_water),
    Case("PDEBench incompressible", incompressible),
)
