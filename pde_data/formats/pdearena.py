"""PDEArena (Gupta and Brandstetter, TMLR 2023): HDF5 files with groups `train`, `valid`, `test`.

Smoke in a box (`u`, `vx`, `vy`), Kuramoto-Sivashinsky (`pde_140-256` or another size) and Maxwell's equations
(`d_field`, `h_field`). The smoke data store x, y and t as linspace with both ends, though their points are
cell centres, and their frames one `dt` apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pde_data.arrays import FileArray
from pde_data.formats import axes
from pde_data.formats.hdf5 import is_hdf5, values, variable
from pde_data.safety import safe_open
from pde_data.storage import DatasetError, Schema, Variable

_LAYOUT = "PDEArena's layout"
_SPLITS = ("train", "valid", "test")


def recognises(path: Path) -> bool:
    """Whether a group `train`, `valid` or `test` has the variables of one of PDEArena's sets."""
    if not is_hdf5(path):
        return False
    with safe_open(path) as file:
        groups = _groups(file)
        return bool(groups) and _kind(groups[0]) is not None


def read(path: Path) -> Schema:
    """Describe the file; fields stay on disk.

    Groups are joined along `sample`, and `split` tells them apart. Coordinates that contradict the data are
    repaired, and say so in the attribute `repaired`. Raises `DatasetError` for missing variables, and sizes
    that do not fit.
    """
    with safe_open(path) as file:
        groups = _groups(file)
        kind = _kind(groups[0])
        if any(_kind(group) != kind for group in groups):
            raise DatasetError(f"{path}: its groups hold different equations; split the file")
        schema = {"smoke": _smoke, "wave": _kuramoto_sivashinsky, "field": _maxwell}[str(kind)](path, groups)
        counts = [
            next(len(item) for item in group.values() if getattr(item, "ndim", 0) > 2) for group in groups
        ]
        split = [_SPLITS.index(group.name.strip("/")) for group in groups]
    if len(counts) == 1:
        return schema
    about = {
        "long_name": "part of the set that the sample belongs to",
        "flag_values": np.arange(len(_SPLITS), dtype=np.int8),
        "flag_meanings": " ".join(_SPLITS),
    }
    flags = Variable(("sample",), np.repeat(np.array(split, np.int8), counts), about)
    return Schema({**schema.variables, "split": flags}, schema.attributes)


def _groups(file: Any) -> list[Any]:
    return [file[name] for name in _SPLITS if hasattr(file.get(name), "keys")]


def _kind(group: Any) -> str | None:
    if any(name.startswith("pde_") for name in group):
        return "wave"
    if "d_field" in group or "h_field" in group:
        return "field"
    return "smoke" if "vx" in group or "vy" in group else None


def _smoke(path: Path, groups: Sequence[Any]) -> Schema:
    """Advection of smoke by a buoyant flow in a box."""
    dims: tuple[str, ...] = ("sample", "time", "x", "y")
    fields = {
        "smoke": _field(path, groups, "u", dims, "density of the smoke", "scalar"),
        "velocity_x": _field(
            path, groups, "vx", dims, "velocity along x", "vector x", "faces towards smaller x"
        ),
        "velocity_y": _field(
            path, groups, "vy", dims, "velocity along y", "vector y", "faces towards smaller y"
        ),
    }
    sizes: dict[str, int] = dict(zip(dims, fields["smoke"].values.shape))
    for name, field in fields.items():
        if field.values.shape != tuple(sizes.values()):
            raise DatasetError(
                f"{path}: {name} has shape {field.values.shape}, but smoke {tuple(sizes.values())}"
            )
    conditions = {"x": "wall", "y": "wall"}
    grid, notes = {}, {}
    for name in ("x", "y"):
        grid[name], notes[name] = _centred(_shared(path, groups, name, sizes[name]))
    buoyancy = {}
    if all("buo_y" in group for group in groups):
        held = _per_sample(path, groups, "buo_y", sizes["sample"])
        about = {"units": "1", "long_name": "buoyancy force along y for each unit of smoke"}
        buoyancy["buoyancy"] = Variable(("sample",), held, about)
    return Schema(
        {
            **axes.samples(sizes["sample"]),
            **_smoke_times(path, groups, sizes),
            **axes.space(grid, conditions, "cell", notes),
            **buoyancy,
            **fields,
        },
        {
            "title": "incompressible flow with smoke and buoyancy",
            "source": "PDEArena",
            "equation": "v_t + v.grad(v) = -grad(p) + viscosity*laplace(v) + (0, buoyancy*smoke), "
            "div(v) = 0, smoke_t + v.grad(smoke) = 0",
            "boundary_conditions": axes.in_words(conditions),
            "inputs": " ".join(fields),
        },
    )


def _centred(stored: np.ndarray) -> tuple[np.ndarray, str]:
    """Cell centres of the box whose ends the stored points include."""
    if stored[0] != 0:
        return stored, ""
    note = f"the file has {len(stored)} points from 0 to {stored[-1]:g}; the data are those of cell centres"
    return axes.centres(len(stored), float(stored[-1])), note


def _smoke_times(path: Path, groups: Sequence[Any], sizes: Mapping[str, int]) -> dict[str, Variable]:
    stored = _stacked(path, groups, "t", (sizes["sample"], sizes["time"]))
    steps = _per_sample(path, groups, "dt", sizes["sample"])
    if sizes["time"] > 1:
        apart = (stored[:, -1] - stored[:, 0]) / (sizes["time"] - 1)
        # linspace(0, n dt, n): its points are n/(n-1) dt apart.
        stretched = np.isclose(apart * (sizes["time"] - 1), steps * sizes["time"], rtol=1e-4)
        if stretched.all():
            note = (
                f"the file has times {apart[0]:g} apart, from one end of the interval to the other; "
                f"frames are dt = {steps[0]:g} apart"
            )
            repaired = stored[:, :1] + steps[:, None] * np.arange(sizes["time"])
            return axes.times(repaired, note)
    return axes.times(stored)


def _kuramoto_sivashinsky(path: Path, groups: Sequence[Any]) -> Schema:
    """`pde_*` (N, nt, nx) on periodic boxes of length `nx dx`, which may differ from sample to sample."""
    keys = {name for group in groups for name in group if name.startswith("pde_")}
    if len(keys) > 1:
        raise DatasetError(f"{path}: holds {', '.join(sorted(keys))}; a set has one grid, so split the file")
    field = _field(path, groups, keys.pop(), ("sample", "time", "x"), "solution", "scalar")
    count, frames, size = field.values.shape
    steps, widths = (_per_sample(path, groups, name, count) for name in ("dt", "dx"))
    variables = {**axes.samples(count), **axes.times(steps[:, None] * np.arange(frames))}
    attributes: dict[str, Any] = {}
    if (widths == widths[0]).all():
        variables |= axes.space({"x": np.arange(size) * widths[0]}, {"x": "periodic"}, "node")
        attributes["length"] = float(size * widths[0])
    else:
        about = {"units": "1", "long_name": "length of the periodic box"}
        variables["length"] = Variable(("sample",), size * widths, about)
    viscosity = np.ones(count)
    if all("v" in group for group in groups):
        viscosity = _per_sample(path, groups, "v", count)
        about = {"units": "1", "long_name": "factor of the fourth derivative"}
        variables["viscosity"] = Variable(("sample",), viscosity, about)
    return Schema(
        {**variables, "u": field},
        {
            "title": "Kuramoto-Sivashinsky data",
            "source": "PDEArena",
            "equation": "u_t + u*u_x + u_xx + viscosity*u_xxxx = 0",
            **({"equation_name": "kuramoto_sivashinsky"} if (viscosity == 1).all() else {}),
            **attributes,
            "boundary_conditions": "periodic in x",
        },
    )


def _maxwell(path: Path, groups: Sequence[Any]) -> Schema:
    """`d_field`, `h_field` (N, nt, nx, ny, nz, 3), cut out of a larger box; no coordinates."""
    fields = {}
    for key, text in (("d_field", "electric displacement"), ("h_field", "magnetic field")):
        items = [variable(group, key, path, _LAYOUT, (6,)) for group in groups]
        if items[0].shape[-1] != 3:
            raise DatasetError(
                f"{path}: {items[0].name} has shape {items[0].shape}, expected 3 components last"
            )
        for axis, x in enumerate("xyz"):
            about = {"units": "1", "long_name": f"{text} along {x}", "symmetry": f"vector {x}"}
            array = _array(path, items, range(5), {5: axis})
            fields[f"{key}_{x}"] = Variable(("sample", "time", "x", "y", "z"), array, about)
    count, frames, *sizes = next(iter(fields.values())).values.shape
    if any(field.values.shape != (count, frames, *sizes) for field in fields.values()):
        raise DatasetError(f"{path}: d_field and h_field have different shapes")
    conditions = dict.fromkeys("xyz", "")
    note = "the file has no coordinates: numbers of cells and frames instead"
    grid = {x: np.arange(size) + 0.5 for x, size in zip("xyz", sizes)}
    return Schema(
        {
            **axes.samples(count),
            **axes.times(np.arange(float(frames)), note),
            **axes.space(grid, conditions, "cell", dict.fromkeys(grid, note)),
            **fields,
        },
        {
            "title": "Maxwell's equations",
            "source": "PDEArena",
            "equation": "D_t = curl(H), H_t = -curl(E) in relative units",
            "boundary_conditions": "none: the data are cut out of a larger box",
            "inputs": " ".join(fields),
        },
    )


def _field(
    path: Path,
    groups: Sequence[Any],
    key: str,
    dims: tuple[str, ...],
    long_name: str,
    symmetry: str,
    where: str = "",
) -> Variable:
    items = [variable(group, key, path, _LAYOUT, (len(dims),)) for group in groups]
    about = {"units": "1", "long_name": long_name, "symmetry": symmetry, "stored_as": key}
    if where:
        about["location"] = where
    return Variable(dims, _array(path, items, range(len(dims))), about)


def _array(
    path: Path, items: Sequence[Any], order: Sequence[int], fixed: Mapping[int, int] | None = None
) -> FileArray:
    """One variable of every group, joined along the samples."""
    first = items[0]
    for item in items:
        if item.shape[1:] != first.shape[1:] or item.dtype != first.dtype:
            raise DatasetError(
                f"{path}: {item.name} has shape {item.shape} and type {item.dtype}, but {first.name} "
                f"{first.shape} and {first.dtype}; a set has one grid"
            )
    inner = [first.shape[axis] for axis in order[1:]]
    names, counts = [item.name for item in items], [len(item) for item in items]
    return FileArray([path] * len(items), names, counts, inner, first.dtype, order, fixed)


def _stacked(path: Path, groups: Sequence[Any], key: str, shape: tuple[int, ...]) -> np.ndarray:
    """A small variable of every group, joined along the samples."""
    found = [values(group, key, path, _LAYOUT, (len(shape),)) for group in groups]
    if any(part.shape[1:] != shape[1:] for part in found) or sum(map(len, found)) != shape[0]:
        shapes = ", ".join(str(part.shape) for part in found)
        raise DatasetError(f"{path}: {key} has shape {shapes}, expected {shape}")
    return np.concatenate(found)


def _per_sample(path: Path, groups: Sequence[Any], key: str, count: int) -> np.ndarray:
    return _stacked(path, groups, key, (count,)).astype(np.float64)


def _shared(path: Path, groups: Sequence[Any], key: str, size: int) -> np.ndarray:
    """A coordinate that the file repeats for each sample."""
    total = sum(len(group[key]) for group in groups if key in group)
    stored = _stacked(path, groups, key, (total, size)).astype(np.float64)
    if not (stored == stored[0]).all():
        raise DatasetError(f"{path}: samples differ in {key}; a set has one grid")
    return stored[0]
