"""The Well (Ohana et al., NeurIPS 2024): HDF5 files of six groups, alone or in folders of splits.

`dimensions`, `boundary_conditions`, `scalars`, and `t0_fields`, `t1_fields`, `t2_fields` for scalars, vectors
and tensors, whose components lie along the last axis or axes. Attributes say along which axes a field
varies; axes along which it does not are left out of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pde_data.arrays import FileArray
from pde_data.formats import axes
from pde_data.formats.hdf5 import is_hdf5, number
from pde_data.formats.the_well_file import GROUPS, Part, read_part
from pde_data.safety import safe_open
from pde_data.storage import DatasetError, Schema, Variable

SPLITS = ("train", "valid", "test")
STRUCTURE = ("dataset_name", "grid_type", "n_spatial_dims", "n_trajectories", "simulation_parameters")


def recognises(path: Path) -> bool:
    """Whether a file has the groups of The Well, or a folder such a file (in `data/train` and so on)."""
    if path.is_dir():
        return any(recognises(file) for file in next(iter(_splits(path).values()), [])[:1])
    if not is_hdf5(path):
        return False
    with safe_open(path) as file:
        fields = any(group in file for group in GROUPS[3:])
        return fields and ("dimensions" in file or "boundary_conditions" in file)


def read(path: Path) -> Schema:
    """Join the files of a folder, or describe one; fields stay on disk.

    Vectors and tensors become one variable for each component, such as `velocity_x` and `stress_xy`. A field
    that does not vary along the samples or an axis is repeated along it, without use of memory; one that
    does not vary over time has no time axis. Where the splits of a set are read together, `split` tells
    them apart. Raises `DatasetError` for groups, attributes or sizes that contradict the layout, and for
    files that do not belong together.
    """
    splits = _splits(path) if path.is_dir() else {"": [path]}
    parts = [read_part(file) for files in splits.values() for file in files]
    first = parts[0]
    for part in parts[1:]:
        _require_alike(first, part)
    blocks = (
        axes.samples(sum(part.count for part in parts)),
        _flags(splits, parts),
        axes.times(_joined([part.times for part in parts], parts)),
        first.space,
        _parameters(parts),
        _scalars(parts),
        first.boundaries,
        {name: _field(name, parts) for name in first.fields},
    )
    variables: dict[str, Variable] = {}
    for block in blocks:
        twice = [name for name in block if name in variables and block is not blocks[5]]
        if twice:
            raise DatasetError(f"{first.path} has two variables called {twice[0]!r}; rename one of them")
        variables.update(block)
    return Schema(
        variables,
        {
            "title": str(first.attributes.get("dataset_name", path.stem)),
            "source": "The Well",
            "grid_type": str(first.attributes.get("grid_type", "cartesian")),
            **_constants(parts),
            "boundary_conditions": axes.in_words(first.conditions),
        },
    )


def _splits(folder: Path) -> dict[str, list[Path]]:
    """Files by split; those that lie in the folder itself have none."""
    root = folder / "data" if (folder / "data").is_dir() else folder
    found = {split: _files(root / split) for split in SPLITS}
    found = {split: files for split, files in found.items() if files}
    if found:
        return found
    files = _files(folder)
    return {"": files} if files else {}


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.suffix in (".h5", ".hdf5")) if folder.is_dir() else []


def _require_alike(first: Part, part: Part) -> None:
    """Raise `DatasetError` unless two files can be parts of one set."""
    for name, axis in first.space.items():
        if name not in part.space or not np.array_equal(part.space[name].values, axis.values):
            raise DatasetError(
                f"{part.path}: the axis {name!r} differs from that in {first.path}; open them apart"
            )
    if first.times.shape[-1] != part.times.shape[-1]:
        raise DatasetError(
            f"{part.path} has {part.times.shape[-1]} frames, {first.path} {first.times.shape[-1]}; "
            "open them apart"
        )
    inner = {name: (field.dims, field.shape[1:], field.dtype) for name, field in first.fields.items()}
    if inner != {name: (field.dims, field.shape[1:], field.dtype) for name, field in part.fields.items()}:
        raise DatasetError(
            f"{part.path} holds {', '.join(part.fields) or 'no fields'} of other shapes or types than "
            f"{first.path}, {', '.join(first.fields)}; open them apart"
        )
    if _dims(first.scalars) != _dims(part.scalars) or first.conditions != part.conditions:
        raise DatasetError(f"{part.path} has other scalars or boundaries than {first.path}; open them apart")


def _dims(variables: Mapping[str, Variable]) -> dict[str, tuple[str, ...]]:
    return {name: variable.dims for name, variable in variables.items()}


def _field(name: str, parts: Sequence[Part]) -> Variable:
    first = parts[0].fields[name]
    components = [part.fields[name] for part in parts]
    if any((c.axes, c.fixed) != (first.axes, first.fixed) for c in components):
        raise DatasetError(
            f"{name!r} varies along other axes in some files than in {parts[0].path}; open them apart"
        )
    array = FileArray(
        [part.path for part in parts],
        [component.key for component in components],
        [part.count for part in parts],
        first.shape[1:],
        first.dtype,
        first.axes,
        first.fixed,
    )
    return Variable(first.dims, array, first.about)


def _joined(stored: Sequence[np.ndarray], parts: Sequence[Part]) -> np.ndarray:
    """Times of all samples, or those that all of them share."""
    if all(times.ndim == 1 and np.array_equal(times, stored[0]) for times in stored):
        return stored[0]
    return np.concatenate(
        [np.broadcast_to(times, (part.count, times.shape[-1])) for times, part in zip(stored, parts)]
    )


def _flags(splits: Mapping[str, list[Path]], parts: Sequence[Part]) -> dict[str, Variable]:
    if "" in splits:
        return {}
    counts = iter(part.count for part in parts)
    flags = [
        SPLITS.index(split) for split, files in splits.items() for _ in files for _ in range(next(counts))
    ]
    about = {
        "long_name": "part of the set that the sample belongs to",
        "flag_values": np.arange(len(SPLITS), dtype=np.int8),
        "flag_meanings": " ".join(SPLITS),
    }
    return {"split": Variable(("sample",), np.array(flags, np.int8), about)}


def _scalars(parts: Sequence[Part]) -> dict[str, Variable]:
    """Scalars that vary along samples or time, over the samples of all files."""
    result = {}
    for name, scalar in parts[0].scalars.items():
        held = [part.scalars[name].values for part in parts]
        if "sample" not in scalar.dims and not all(np.array_equal(other, held[0]) for other in held):
            held = [np.broadcast_to(values, (part.count, *values.shape)) for values, part in zip(held, parts)]
            scalar = Variable(("sample", *scalar.dims), None, scalar.attributes)
        if scalar.dims:
            joined = np.concatenate(held) if scalar.dims[0] == "sample" else held[0]
            result[name] = Variable(scalar.dims, joined, scalar.attributes)
    return result


def _constants(parts: Sequence[Part]) -> dict[str, Any]:
    """Attributes and constant scalars that all files share."""
    held = [
        {
            # Where both are there, the scalar is the attribute in float32.
            **{name: scalar.values.item() for name, scalar in part.scalars.items() if not scalar.dims},
            **{key: value for key, value in part.attributes.items() if key not in STRUCTURE},
        }
        for part in parts
    ]
    return {
        key: value
        for key, value in held[0].items()
        if all(key in other and np.array_equal(other[key], value) for other in held)
    }


def _parameters(parts: Sequence[Part]) -> dict[str, Variable]:
    """Attributes that are numbers and differ from file to file, as variables over `sample`."""
    held = [{key: number(value) for key, value in part.attributes.items()} for part in parts]
    result = {}
    for key, value in held[0].items():
        found = [other.get(key) for other in held]
        if key not in STRUCTURE and None not in found and any(other != value for other in found):
            rows = np.repeat(np.array(found, float), [part.count for part in parts])
            result[key] = Variable(("sample",), rows, {"units": "1", "long_name": f"parameter {key}"})
    return result
