"""Data sets in The Well's layout, for those who train with the package `the_well`."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final

import numpy as np

from pde_data.formats.hdf5 import number
from pde_data.formats.the_well import STRUCTURE
from pde_data.sources import grid_of
from pde_data.storage import DatasetError, Schema, Variable, as_attribute, replacing

_KINDS = {"periodic": "PERIODIC", "wall": "WALL", "dirichlet": "WALL", "neumann": "WALL"}


@final
@dataclass(frozen=True)
class _Field:
    """A scalar, vector or tensor, and the variables that are its components."""

    name: str
    order: int
    components: tuple[str, ...]


def write_the_well(
    target: str | os.PathLike, schema: Schema, values: Callable[[str, int], np.ndarray]
) -> None:
    """Write a data set in The Well's layout, atomically and sample by sample.

    `values(name, sample)` gives a field of one sample as float32. Variables `a_x`, `a_y`, ... become the
    vector `a`, and `a_xx`, `a_xy`, ... the tensor `a`; parameters become attributes and scalars; boundaries
    that are neither periodic nor of a kind of wall count as open. Raises `DatasetError` for names that
    `the_well` would not look for, sets without a field over time, fields that share no grid, and when the
    disk is full.
    """
    import h5py

    path = Path(target)
    if path.suffix not in (".h5", ".hdf5"):
        raise DatasetError(f"cannot write {path}: the_well reads names in .h5 and .hdf5; choose such a name")
    space = _space(schema, path)
    fields = list(_fields(schema, space))
    with replacing(path) as temporary:
        try:
            with h5py.File(temporary, "w") as file:
                parameters = _header(file, schema, path, len(space))
                _dimensions(file, schema, space, path)
                _boundaries(file, schema, space)
                _scalars(file, schema, parameters)
                for order in range(3):
                    group = file.create_group(f"t{order}_fields")
                    _write_fields(group, schema, space, [f for f in fields if f.order == order], values)
        except RuntimeError as error:  # how h5py reports what fails while it closes a file
            raise DatasetError(f"cannot write {path}: {error}") from error


def _space(schema: Schema, path: Path) -> tuple[str, ...]:
    """Names of the space axes, which every field has in this order."""
    dims = {name: field.dims for name, field in schema.fields.items()}
    if not any("time" in axes for axes in dims.values()):
        raise DatasetError(
            f"cannot write {path}: The Well's layout holds trajectories, and none of {', '.join(dims)} has a "
            "time axis; convert to our layout instead"
        )
    inner = {name: tuple(d for d in axes if d not in ("sample", "time")) for name, axes in dims.items()}
    space = max(inner.values(), key=len)
    for name, axes in inner.items():
        if dims[name][0] != "sample" or axes != tuple(dim for dim in space if dim in axes) or len(space) > 3:
            raise DatasetError(
                f"cannot write {path}: {name!r} has axes {dims[name]}, expected (sample[, time]) and some of "
                f"{', '.join(space[:3])} in this order"
            )
    return space


def _fields(schema: Schema, space: Sequence[str]) -> list[_Field]:
    """Variables gathered to tensors, vectors and scalars, by their names."""
    left = dict(schema.fields)
    found = []
    for order in (2, 1):
        endings = ["_" + "".join(letters) for letters in itertools.product(space, repeat=order)]
        for name in list(left):
            base = name.removesuffix(endings[0])
            components = tuple(base + ending for ending in endings)
            alike = {left[c].dims if c in left else None for c in components}
            # In one dimension the name alone could be that of a derivative.
            sure = (
                len(space) > 1 or str(schema.variables[name].attributes.get("symmetry", ""))[:6] == "vector"
            )
            if base != name and len(alike) == 1 and sure:
                found.append(_Field(base, order, components))
                for component in components:
                    del left[component]
    return [*(_Field(name, 0, (name,)) for name in left), *found]


def _header(file: Any, schema: Schema, path: Path, ndim: int) -> dict[str, float]:
    """Write the attributes of the file; returns the parameters among them."""
    for key, value in schema.attributes.items():
        if key not in STRUCTURE:
            file.attrs[key] = as_attribute(value)
    parameters = _parameters(schema)
    file.attrs["dataset_name"] = str(schema.attributes.get("equation_name", path.stem))
    file.attrs["grid_type"] = str(schema.attributes.get("grid_type", "cartesian"))
    file.attrs["n_spatial_dims"] = ndim
    file.attrs["n_trajectories"] = schema.sizes["sample"]
    file.attrs["simulation_parameters"] = list(parameters)
    return parameters


def _parameters(schema: Schema) -> dict[str, float]:
    """Attributes that are numbers; those of our equations alone where the equation is known."""
    from pde_data.equations import EQUATIONS

    numbers = {key: number(value) for key, value in schema.attributes.items() if key not in STRUCTURE}
    equation = EQUATIONS.get(str(schema.attributes.get("equation_name", "")))
    known = numbers if equation is None else [field.name for field in dataclasses.fields(cast(Any, equation))]
    return {key: value for key, value in numbers.items() if value is not None and key in known}


def _dimensions(file: Any, schema: Schema, space: Sequence[str], path: Path) -> None:
    group = file.create_group("dimensions")
    group.attrs["spatial_dims"] = list(space)
    frames = schema.sizes["time"]
    if "time" in schema.variables or "t" not in schema.variables:
        times = schema.variables["time"].values if "time" in schema.variables else np.arange(frames)
    else:
        times = schema.variables["t"].values  # samples have times of their own
    item = group.create_dataset("time", data=np.asarray(times, np.float32))
    item.attrs["sample_varying"] = item.ndim == 2
    default = None
    for axis, name in enumerate(space):
        if name in schema.variables:
            points = schema.variables[name].values
        else:
            default = default or grid_of(schema, space, os.fspath(path))
            points = default.coordinates[axis]
        item = group.create_dataset(name, data=np.asarray(points, np.float32))
        item.attrs["sample_varying"] = item.attrs["time_varying"] = False


def _boundaries(file: Any, schema: Schema, space: Sequence[str]) -> None:
    """Masks that the data came with, and for other axes one that marks both ends."""
    group = file.create_group("boundary_conditions")
    covered: set[str] = set()
    for name, mask in schema.variables.items():
        if name.endswith("_mask") and "boundary_condition" in mask.attributes:
            dims = tuple(dim for dim in mask.dims if dim in space)
            values = schema.variables.get(name.removesuffix("_mask") + "_values")
            kind = str(mask.attributes["boundary_condition"]).upper()
            fields = str(mask.attributes.get("associated_fields", "")).split()
            _boundary(group, name.removesuffix("_mask"), kind, dims, mask, fields, values)
            covered.update(dims)
    for name in space:
        if name not in covered:
            about = (
                schema.variables[name].attributes if name in schema.variables else {"boundary": "periodic"}
            )
            kind = _KINDS.get(str(about.get("boundary_condition", about.get("boundary"))), "OPEN")
            ends = np.zeros(schema.sizes[name], bool)
            ends[[0, -1]] = True
            _boundary(group, f"{name}_{kind.lower()}", kind, (name,), Variable((name,), ends), [], None)


def _boundary(
    group: Any,
    name: str,
    kind: str,
    dims: tuple[str, ...],
    mask: Variable,
    fields: list[str],
    values: Variable | None,
) -> None:
    import h5py

    item = group.create_group(name)
    item.attrs["bc_type"] = kind
    item.attrs["associated_dims"] = list(dims)
    item.attrs["associated_fields"] = np.array(fields, h5py.string_dtype())
    for dim in ("sample", "time"):
        item.attrs[f"{dim}_varying"] = dim in mask.dims
    item.create_dataset("mask", data=np.asarray(mask.values, bool))
    if values is not None:
        item.create_dataset("values", data=np.asarray(values.values, np.float32))


def _scalars(file: Any, schema: Schema, parameters: Mapping[str, float]) -> None:
    """Parameters, and whatever numbers go with samples or frames."""
    import h5py

    group = file.create_group("scalars")
    found: dict[str, Variable] = {name: Variable((), np.float32(value)) for name, value in parameters.items()}
    for name, variable in schema.variables.items():
        free = variable.dims in (("sample",), ("time",), ("sample", "time"))
        plain = name not in ("sample", "time", "t") and "flag_values" not in variable.attributes
        if free and plain and np.asarray(variable.values).dtype.kind in "fiu":
            found[name] = variable
    group.attrs["field_names"] = np.array(list(found), h5py.string_dtype())
    for name, variable in found.items():
        item = group.create_dataset(name, data=np.asarray(variable.values, np.float32))
        for dim in ("sample", "time"):
            item.attrs[f"{dim}_varying"] = dim in variable.dims


def _write_fields(
    group: Any,
    schema: Schema,
    space: Sequence[str],
    fields: Sequence[_Field],
    values: Callable[[str, int], np.ndarray],
) -> None:
    import h5py

    group.attrs["field_names"] = np.array([field.name for field in fields], h5py.string_dtype())
    for field in fields:
        variable = schema.variables[field.components[0]]
        shape = tuple(schema.sizes[dim] for dim in variable.dims)
        tail = (len(space),) * field.order
        # Contiguous and never pre-filled: every byte is written below.
        item = group.create_dataset(field.name, (*shape, *tail), "float32", fill_time="never")
        item.attrs["dim_varying"] = [dim in variable.dims for dim in space]
        item.attrs["sample_varying"] = True
        item.attrs["time_varying"] = "time" in variable.dims
        if field.order == 2:
            kind = variable.attributes.get("tensor")
            item.attrs["symmetric"], item.attrs["antisymmetric"] = (
                kind == "symmetric",
                kind == "antisymmetric",
            )
        for sample in range(shape[0]):
            parts = [values(name, sample) for name in field.components]
            item[sample] = np.stack(parts, -1).reshape(*shape[1:], *tail) if field.order else parts[0]
