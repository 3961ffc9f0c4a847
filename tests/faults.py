"""Ten faults that data sets have had, each put into a clean set, and the check that must find it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

import pde_data
from pde_data import Grid, resample
from pde_data.formats import read
from pde_data.splits import split_mask
from pde_data.storage import Schema, Variable, write

SAMPLES = 10
SETS: dict[str, tuple[str, dict[str, Any]]] = {
    "advection": ("advection", {"resolution": 32, "records": 5, "t_end": 0.9, "speed": 0.4}),
    "burgers": ("burgers", {"resolution": 32, "records": 5, "t_end": 0.2, "viscosity": 0.1}),
    "navier_stokes": ("navier_stokes", {"resolution": 24, "records": 5, "t_end": 0.5}),
}

Content = tuple[dict[str, Variable], dict[str, Any]]


def clean(folder: Path, name: str, samples: int = SAMPLES) -> Path:
    """A set as the solver makes it."""
    path = folder / f"{name}.h5"
    if name == "velocity":
        return _velocity(folder, path)
    equation, parameters = SETS[name]
    return pde_data.generate(equation, path, samples=samples, processes=1, **parameters)


def _velocity(folder: Path, path: Path) -> Path:
    """Velocity of the Navier-Stokes set, by its stream function."""
    if not path.exists():
        source = folder / "navier_stokes.h5"
        variables, attributes = content(source if source.exists() else clean(folder, "navier_stokes"))
        w = variables.pop("vorticity")
        grid = Grid(w.values.shape[2:])
        kx, ky = np.meshgrid(grid.wavenumbers(0), grid.wavenumbers(1), indexing="ij")
        k2 = kx**2 + ky**2
        psi = np.fft.fft2(w.values) / np.where(k2 > 0, k2, 1)
        for axis, modes in (("x", 1j * ky * psi), ("y", -1j * kx * psi)):
            about = {"units": "1", "long_name": f"velocity along {axis}", "symmetry": f"vector {axis}"}
            values = np.fft.ifft2(modes).real.astype(np.float32)
            variables[f"velocity_{axis}"] = Variable(w.dims, values, about)
        save(path, variables, {k: v for k, v in attributes.items() if k != "equation_name"})
    return path


def content(path: Path) -> Content:
    """Variables and attributes of a file, in memory."""
    schema = read(path)
    variables = {
        name: Variable(v.dims, np.array(v.values[:]), dict(v.attributes))
        for name, v in schema.variables.items()
    }
    return variables, {k: v for k, v in schema.attributes.items() if k not in ("Conventions", "schema")}


def save(path: Path, variables: Mapping[str, Variable], attributes: Mapping[str, Any]) -> Path:
    """Write what `content` gave."""
    write(path, Schema(variables, attributes), ())
    return path


@dataclass(frozen=True)
class Fault:
    """Where it is put, what it does to the file, and the check and the words that tell it."""

    name: str
    source: str
    inject: Callable[[dict[str, Variable], dict[str, Any]], Any]
    check: str
    words: str
    damage: Callable[[Path], Any] = lambda path: None

    def put(self, folder: Path) -> Path:
        """A copy of the clean set with the fault in it."""
        source = folder / f"{self.source}.h5"
        variables, attributes = content(source if source.exists() else clean(folder, self.source))
        self.inject(variables, attributes)
        path = save(folder / f"{self.name.replace(' ', '_')}.h5", variables, attributes)
        self.damage(path)
        return path


def nothing(variables, attributes):
    pass


def attribute(name: str, factor: float) -> Callable[..., None]:
    def inject(variables, attributes):
        attributes[name] = attributes[name] * factor

    return inject


def swapped_axes(variables, attributes):
    variables["vorticity"].values[:] = variables["vorticity"].values.swapaxes(2, 3).copy()


def long_time(path):
    """One entry more than frames, which h5py lets anybody write."""
    with h5py.File(path, "r+") as file:
        times = file["time"][:]
        file["u"].dims[1].detach_scale(file["time"])
        del file["time"]
        file["time"] = np.append(times, 2 * times[-1] - times[-2])
        file["time"].make_scale("time")
        file["u"].dims[1].attach_scale(file["time"])


def other_parameter(variables, attributes):
    values = np.full(SAMPLES, attributes.pop("viscosity"))
    values[4] *= 1.3
    variables["viscosity"] = Variable(("sample",), values)


def compressed(variables, attributes):
    """Sources and sinks in one sample, of a tenth of the velocity."""
    for axis in "xy":
        u = variables[f"velocity_{axis}"].values
        wave = np.sin(2 * np.pi * np.arange(u.shape[2]) / u.shape[2])
        u[6] += 0.1 * u[6].std() * (wave[:, None] if axis == "x" else wave[None, :])


def cells_as_nodes(variables, attributes):
    grid = Grid(variables["vorticity"].values.shape[2:])
    cells = Grid(grid.sizes, location="cell")
    variables["vorticity"].values[:] = resample(variables["vorticity"].values, grid, cells)


def copied_sample(variables, attributes):
    test = np.flatnonzero(split_mask(range(SAMPLES), "test", (0.8, 0.1, 0.1), 0))[0]
    train = np.flatnonzero(split_mask(range(SAMPLES), "train", (0.8, 0.1, 0.1), 0))[2]
    variables["u"].values[test] = variables["u"].values[train]


def nan_frame(variables, attributes):
    variables["u"].values[3, 2] = np.nan


def repeated_frame(variables, attributes):
    variables["u"].values[7, 3] = variables["u"].values[7, 2]


FAULTS = (
    Fault("advection speed off by two", "advection", attribute("speed", 2.0), "equation", "speed=0.4 "),
    Fault(
        "Burgers viscosity off by pi", "burgers", attribute("viscosity", np.pi), "equation", "viscosity=0.1 "
    ),
    Fault("swapped axes", "navier_stokes", swapped_axes, "equation", "axes x and y swapped"),
    Fault("time coordinate one entry too long", "advection", nothing, "readable", "'time'", long_time),
    Fault("stored parameter not the simulated one", "burgers", other_parameter, "equation", "sample 4 first"),
    Fault("continuity violated", "velocity", compressed, "divergence", "sample 6"),
    Fault("cell centres labelled as nodes", "navier_stokes", cells_as_nodes, "equation", "half a spacing"),
    Fault("sample duplicated across splits", "advection", copied_sample, "leakage", "(test)"),
    Fault("one NaN frame", "advection", nan_frame, "finite", "sample 3, frame 2"),
    Fault("one frame repeated in time", "advection", repeated_frame, "repeated", "sample 7, frame 3"),
)
