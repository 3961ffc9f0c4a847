"""PDEBench (Takamoto et al., NeurIPS 2022 datasets track): files whose samples lie in common arrays.

Points are cell centres and axes in the order (x, y, z) throughout. `t-coordinate` has one entry more than
there are frames. The boundary condition of compressible flow stands in the name of the file alone. What
keeps its samples in groups, and incompressible flow, is in `pdebench_groups`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from pde_data.formats import axes, pdebench_groups
from pde_data.formats.hdf5 import holds, is_hdf5, lazily, number, values, variable
from pde_data.formats.native import attributes_of
from pde_data.safety import safe_open
from pde_data.storage import DatasetError, Schema, Variable

_LAYOUT = "PDEBench's layout"
_SPACE: tuple[str, ...] = ("x", "y", "z")


@final
@dataclass(frozen=True)
class _Family:
    """One equation in the `tensor` layout: the attributes that tell it, its name and parameters with us."""

    title: str
    keys: tuple[str, ...]
    equation: str
    field: str
    name: str = ""
    parameters: Callable[[Mapping[str, float]], dict[str, float]] = lambda given: {}


# The first whose keys are all there.
_FAMILIES = (
    _Family(
        "reaction-diffusion",
        ("Nu", "rho"),
        "u_t = Nu*u_xx + rho*u*(1 - u)",
        "concentration",
    ),
    _Family(
        "Burgers",
        ("Nu",),
        "u_t + u*u_x = viscosity*u_xx",
        "velocity",
        "burgers",
        # The solver divides by pi, and only it says so.
        lambda given: {"viscosity": given["Nu"] / math.pi},
    ),
    _Family(
        "advection",
        ("beta",),
        "u_t + speed*u_x = 0",
        "advected quantity",
        "advection",
        lambda given: {"speed": given["beta"]},
    ),
)


def recognises(path: Path) -> bool:
    """Whether the file has one of PDEBench's sets of variables."""
    if not is_hdf5(path):
        return False
    with safe_open(path) as file:
        coordinates = any(name.endswith("-coordinate") for name in file)
        shared = coordinates and ("tensor" in file or ("density" in file and "pressure" in file))
        return shared or pdebench_groups.recognises(file)


def read(path: Path) -> Schema:
    """Describe the file; fields stay on disk.

    Raises `DatasetError` when a variable is missing, has another number of axes, or a size that differs from
    that of its coordinate.
    """
    with safe_open(path) as file:
        if "tensor" in file:
            return _darcy(path, file) if holds(file, "nu") else _tensor(path, file)
        if "density" in file:
            return _compressible(path, file)
        return pdebench_groups.read(path, file)


def _tensor(path: Path, file: Any) -> Schema:
    """One field of a one-dimensional equation: `tensor` (N, nt, nx)."""
    tensor = variable(file, "tensor", path, _LAYOUT, (3, 4))
    if tensor.ndim == 4 and tensor.shape[0] > 1:
        raise DatasetError(
            f"{path}: /tensor has shape {tensor.shape}, whose first axis numbers the devices it was made on; "
            f"join it with the samples: tensor.reshape(-1, {tensor.shape[2]}, {tensor.shape[3]})"
        )
    # Files that people made themselves have an axis of devices in front.
    field = lazily(path, tensor, range(3)) if tensor.ndim == 3 else lazily(path, tensor, (1, 2, 3), {0: 0})
    count, frames, size = field.shape
    given = _numbers(file)
    family = next((f for f in _FAMILIES if all(key in given for key in f.keys)), None)
    conditions = {"x": "periodic"}
    space = _space(path, file, (size,), conditions)
    about: dict[str, Any] = {} if family is None else {"equation": family.equation}
    if family is not None and family.name:
        length = space["x"].attributes.get("grid_length", 1.0)
        about |= {"equation_name": family.name, **family.parameters(given), "length": length}
    return Schema(
        {
            **axes.samples(count),
            **_times(path, file, frames),
            **space,
            "u": Variable(
                ("sample", "time", "x"),
                field,
                {"units": "1", "long_name": family.field if family else "solution"},
            ),
        },
        {
            "title": f"{family.title if family else 'one-dimensional'} data",
            "source": "PDEBench",
            **given,
            **about,
            "boundary_conditions": axes.in_words(conditions),
        },
    )


def _darcy(path: Path, file: Any) -> Schema:
    """Steady flow: `nu` (N, nx, ny) and the pressure `tensor` (N, 1, nx, ny)."""
    tensor = variable(file, "tensor", path, _LAYOUT, (4,))
    coefficient = variable(file, "nu", path, _LAYOUT, (3,))
    shape = (tensor.shape[0], *tensor.shape[2:])
    if tensor.shape[1] != 1 or coefficient.shape != shape:
        raise DatasetError(
            f"{path}: /tensor has shape {tensor.shape} and /nu {coefficient.shape}; PDEBench's Darcy files "
            "have (N, 1, nx, ny) and (N, nx, ny)"
        )
    conditions = {"x": "dirichlet", "y": "dirichlet"}
    given = _numbers(file)
    dims = ("sample", "x", "y")
    return Schema(
        {
            **axes.samples(shape[0]),
            **_space(path, file, shape[1:], conditions),
            "a": Variable(
                dims,
                lazily(path, coefficient),
                {"units": "1", "long_name": "permeability", "stored_as": "nu"},
            ),
            "u": Variable(
                dims, lazily(path, tensor, (0, 2, 3), {1: 0}), {"units": "1", "long_name": "pressure"}
            ),
        },
        {
            "title": "Darcy flow data of PDEBench",
            "equation_name": "darcy",
            "equation": "-div(a*grad(u)) = source, u = 0 on the boundary",
            **given,
            **({"source": given["beta"]} if "beta" in given else {}),
            "boundary_conditions": axes.in_words(conditions),
            "inputs": "a",
            "targets": "u",
        },
    )


def _compressible(path: Path, file: Any) -> Schema:
    """Compressible flow in one, two or three dimensions: `density`, `pressure`, `Vx`, ... (N, nt, *space)."""
    density = variable(file, "density", path, _LAYOUT, (3, 4, 5))
    count, frames, *sizes = density.shape
    space = _SPACE[: len(sizes)]
    stored = {
        "density": ("density", "mass density", "scalar"),
        "pressure": ("pressure", "pressure", "scalar"),
        **{f"velocity_{x}": (f"V{x}", f"velocity along {x}", f"vector {x}") for x in space},
    }
    fields = {}
    for name, (key, long_name, symmetry) in stored.items():
        found = variable(file, key, path, _LAYOUT, (density.ndim,))
        if found.shape != density.shape:
            raise DatasetError(f"{path}: /{key} has shape {found.shape}, but /density {density.shape}")
        about = {"units": "1", "long_name": long_name, "symmetry": symmetry, "stored_as": key}
        fields[name] = Variable(("sample", "time", *space), lazily(path, found), about)
    condition = next(
        (c for word, c in (("periodic", "periodic"), ("trans", "open")) if word in path.name), ""
    )
    conditions = dict.fromkeys(space, condition)
    given = _numbers(file)
    names = {"eta": "shear_viscosity", "zeta": "bulk_viscosity", "M": "mach_number"}
    return Schema(
        {
            **axes.samples(count),
            **_times(path, file, frames),
            **_space(path, file, sizes, conditions),
            **fields,
        },
        {
            "title": "compressible Navier-Stokes data",
            "source": "PDEBench",
            "equation": "compressible Navier-Stokes, ideal gas with adiabatic index 5/3",
            **given,
            **{ours: given[theirs] for theirs, ours in names.items() if theirs in given},
            "boundary_conditions": axes.in_words(conditions) + " (by the name of the file)" * bool(condition),
            "inputs": " ".join(fields),
        },
    )


def _numbers(file: Any) -> dict[str, float]:
    """Parameters: those attributes of the file that are numbers."""
    found = {key: number(value) for key, value in attributes_of(file).items()}
    return {key: value for key, value in found.items() if value is not None}


def _times(path: Path, file: Any, frames: int) -> dict[str, Variable]:
    times = values(file, "t-coordinate", path, _LAYOUT, (1,))
    if len(times) == frames:
        return axes.times(times)
    if len(times) == frames + 1:
        note = (
            f"the file has one entry more, {float(times[-1]):g}, for which there is no frame; it is left out"
        )
        return axes.times(times[:-1], note)
    raise DatasetError(
        f"{path}: /t-coordinate has {len(times)} entries for {frames} frames; PDEBench's files have "
        f"{frames + 1} or {frames}"
    )


def _space(path: Path, file: Any, sizes: Any, conditions: Mapping[str, str]) -> dict[str, Variable]:
    found: dict[str, np.ndarray] = {}
    for name, size in zip(_SPACE, sizes):
        key = f"{name}-coordinate"
        found[name] = values(file, key, path, _LAYOUT, (1,))
        if len(found[name]) != size:
            raise DatasetError(
                f"{path}: /{key} has {len(found[name])} entries for {size} points along {name}; "
                "the file mixes data of two resolutions, or has its axes in another order"
            )
    return axes.space(found, conditions, "cell")
