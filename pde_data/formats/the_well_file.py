"""One file in The Well's layout, checked and described."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from pde_data.formats import axes
from pde_data.formats.hdf5 import number, texts, values, variable
from pde_data.formats.native import attributes_of
from pde_data.safety import safe_open
from pde_data.storage import DatasetError, Variable

GROUPS = ("dimensions", "boundary_conditions", "scalars", "t0_fields", "t1_fields", "t2_fields")
_LAYOUT = "The Well's layout"


@final
@dataclass(frozen=True)
class Component:
    """One component of a field in one file: where it is, and its shape when repeated along every axis."""

    key: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype
    axes: tuple[int | None, ...]
    fixed: Mapping[int, int]
    about: Mapping[str, Any]


@final
@dataclass(frozen=True)
class Part:
    """What one file holds."""

    path: Path
    count: int
    attributes: Mapping[str, Any]
    times: np.ndarray  # (time,) or (sample, time)
    space: Mapping[str, Variable]
    conditions: Mapping[str, str]
    boundaries: Mapping[str, Variable]
    scalars: Mapping[str, Variable]
    fields: Mapping[str, Component]


def read_part(path: Path) -> Part:
    """Describe one file; raises `DatasetError` where it contradicts the layout."""
    with safe_open(path) as file:
        for name in GROUPS:
            if not hasattr(file.get(name), "keys"):
                raise DatasetError(
                    f"{path} lacks the group {name!r}: files in {_LAYOUT} have all of {', '.join(GROUPS)}, "
                    "even where they are empty; download the file again"
                )
        about = attributes_of(file)
        dimensions = file["dimensions"]
        names = _listed(path, dimensions, "spatial_dims")
        if len({*names, "sample", "time"}) != len(names) + 2 or len(names) not in (1, 2, 3):
            raise DatasetError(f"{path}: spatial_dims are {names}, expected one to three different names")
        time = values(dimensions, "time", path, _LAYOUT, (1, 2))
        grid = {name: values(dimensions, name, path, _LAYOUT, (1,)) for name in names}
        sizes = {"time": time.shape[-1], **{name: len(x) for name, x in grid.items()}}
        count = _count(path, file, about)
        if time.ndim == 2 and len(time) != count:
            raise DatasetError(f"{path}: /dimensions/time has shape {time.shape} for {count} trajectories")
        conditions, boundaries = _boundaries(path, file, {"sample": count, **sizes})
        space = axes.space(grid, conditions)
        scalars = {
            name: _scalar(path, file["scalars"], name, {"sample": count, **sizes})
            for name in _listed(path, file["scalars"], "field_names")
        }
        fields = dict(_components(path, file, {"sample": count, **sizes}))
    return Part(path, count, about, time, space, conditions, boundaries, scalars, fields)


def _listed(path: Path, group: Any, key: str) -> list[str]:
    if key not in group.attrs:
        raise DatasetError(
            f"{path}: the group {group.name} lacks the attribute {key!r}, which lists its contents"
        )
    return texts(group.attrs[key])


def _count(path: Path, file: Any, about: Mapping[str, Any]) -> int:
    count = number(about.get("n_trajectories"))
    if count is None or count < 1 or count != int(count):
        raise DatasetError(
            f"{path}: the attribute n_trajectories is {about.get('n_trajectories')!r}, expected a whole "
            "number of at least 1"
        )
    return int(count)


def _varying(path: Path, item: Any, key: str, default: bool | None = None) -> bool:
    flag = item.attrs.get(key, default)
    if flag is None:
        raise DatasetError(f"{path}: {item.name} lacks the attribute {key!r}, which {_LAYOUT} has")
    return bool(flag)


def _components(path: Path, file: Any, sizes: Mapping[str, int]) -> Iterator[tuple[str, Component]]:
    """Each component of each field, by its name."""
    space = [name for name in sizes if name not in ("sample", "time")]
    for order, group in enumerate(GROUPS[3:]):
        for name in _listed(path, file[group], "field_names"):
            item = variable(file[group], name, path, _LAYOUT)
            inside = np.atleast_1d(item.attrs.get("dim_varying", [True] * len(space))).astype(bool).tolist()
            if len(inside) != len(space):
                raise DatasetError(
                    f"{path}: {item.name} has {len(inside)} entries in dim_varying for {space}"
                )
            over_time = _varying(path, item, "time_varying")
            varies = {"sample": _varying(path, item, "sample_varying"), "time": over_time}
            varies |= dict(zip(space, inside))
            stored = [dim for dim, flag in varies.items() if flag]
            expected = tuple(sizes[dim] for dim in stored)
            tails = {0: [()], 1: [(len(space),)], 2: [(len(space),) * 2, (len(space) ** 2,)]}[order]
            tail = item.shape[len(stored) :]
            if item.shape[: len(stored)] != expected or tail not in tails:
                raise DatasetError(
                    f"{path}: {item.name} has shape {item.shape}, expected "
                    f"{' or '.join(str((*expected, *tail)) for tail in tails)} for {', '.join(stored)}"
                    f"{' and components' if order else ''}; its attributes or the dimensions are wrong"
                )
            dims = tuple(dim for dim in varies if dim != "time" or over_time)
            for place, letters in enumerate(itertools.product(space, repeat=order)):
                index = np.unravel_index(place, tail) if order else ()
                yield (
                    "_".join((name, "".join(letters))) if order else name,
                    Component(
                        item.name,
                        dims,
                        tuple(sizes[dim] for dim in dims),
                        item.dtype,
                        tuple(stored.index(dim) if dim in stored else None for dim in dims),
                        {len(stored) + axis: int(at) for axis, at in enumerate(index)},
                        _about(item, name, order, letters),
                    ),
                )


def _about(item: Any, name: str, order: int, letters: Sequence[str]) -> dict[str, Any]:
    text = name.replace("_", " ")
    if order == 0:
        return {"units": "1", "long_name": text}
    about = {"units": "1", "long_name": f"{text}, component {' '.join(letters)}", f"t{order}_field": name}
    if order == 1:
        return {**about, "symmetry": f"vector {letters[0]}"}
    flags = [flag for flag in ("symmetric", "antisymmetric") if bool(item.attrs.get(flag, False))]
    return {**about, **({"tensor": flags[0]} if flags else {})}


def _scalar(path: Path, group: Any, name: str, sizes: Mapping[str, int]) -> Variable:
    found = values(group, name, path, _LAYOUT)
    item = group[name]
    dims = tuple(dim for dim in ("sample", "time") if _varying(path, item, f"{dim}_varying"))
    expected = tuple(sizes[dim] for dim in dims)
    # A lone number comes as an array of one.
    shapes = [expected, (*expected, 1)]
    if found.shape not in shapes:
        raise DatasetError(f"{path}: {item.name} has shape {found.shape}, expected {expected}")
    return Variable(dims, found.reshape(expected), {"units": "1", "long_name": name.replace("_", " ")})


def _boundaries(
    path: Path, file: Any, sizes: Mapping[str, int]
) -> tuple[dict[str, str], dict[str, Variable]]:
    """The condition of each axis, and the masks as variables."""
    conditions = {dim: "" for dim in sizes if dim not in ("sample", "time")}
    masks = {}
    group = file["boundary_conditions"]
    for name in group:
        item = group[name]
        if not hasattr(item, "keys") or "bc_type" not in item.attrs:
            raise DatasetError(
                f"{path}: /boundary_conditions/{name} is no group with the attribute 'bc_type'"
            )
        kind = texts(item.attrs["bc_type"])[0].lower()
        associated = _listed(path, item, "associated_dims")
        varying = [dim for dim in ("sample", "time") if _varying(path, item, f"{dim}_varying", False)]
        dims = (*varying, *associated)
        mask = values(item, "mask", path, _LAYOUT)
        if any(dim not in sizes for dim in dims) or mask.shape != tuple(sizes[dim] for dim in dims):
            raise DatasetError(f"{path}: {item.name}/mask has shape {mask.shape}, which does not fit {dims}")
        for dim in associated:
            # A mask over several axes belongs to an axis when it holds for a whole end of it.
            if len(associated) == 1 or _covers_an_end(mask, dims.index(dim)):
                known = [c for c in (conditions[dim], kind) if c]
                conditions[dim] = " and ".join(dict.fromkeys(known))
        about = {
            "long_name": f"where the boundary {name} is",
            "flag_values": np.array([0, 1], np.int8),
            "flag_meanings": "elsewhere boundary",
            "boundary_condition": kind,
            "associated_fields": " ".join(texts(item.attrs.get("associated_fields", []))),
        }
        masks[f"{name}_mask"] = Variable(dims, mask.astype(np.int8), about)
        if "values" in item:
            held = values(item, "values", path, _LAYOUT)
            entry = tuple(f"{name}_point{axis or ''}" for axis in range(held.ndim))
            text = f"values on the boundary {name}, in the order of its mask"
            masks[f"{name}_values"] = Variable(entry, held, {"units": "1", "long_name": text})
    return conditions, masks


def _covers_an_end(mask: np.ndarray, axis: int) -> bool:
    return any(mask.take(end, axis).all() for end in (0, -1))
