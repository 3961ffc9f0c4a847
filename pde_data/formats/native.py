"""Our own files: netCDF-4 with a `sample` dimension. Those of others go through `pde_data.formats.netcdf`.

The samples are rows of arrays, or lie on meshes of their own (see `pde_data.ugrid`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pde_data import ugrid
from pde_data.arrays import FileArray
from pde_data.formats.recognition import Verdict, hdf5_layout
from pde_data.safety import safe_open
from pde_data.storage import NO_COORDINATE, DatasetError, Schema, Variable

# Written by the netCDF layer for itself.
_INTERNAL = {
    "CLASS",
    "NAME",
    "DIMENSION_LIST",
    "REFERENCE_LIST",
    "_Netcdf4Dimid",
    "_Netcdf4Coordinates",
    "_NCProperties",
}
_FIRST = {"sample": 0, "time": 1}  # the place of these axes, whatever it is in the file


def recognises(path: Path) -> Verdict:
    """Whether this is HDF5 with the attribute `schema` that we write and a dimension `sample`."""
    layout = hdf5_layout(path)
    if layout is None:
        return Verdict(False, "no HDF5 file")
    schema = layout.attributes.get("schema")
    ours = str(schema).startswith("pde_data ") and "sample" in layout.scales
    scales = ", ".join(sorted(layout.scales)) or "none"
    return Verdict(ours, f"schema is {schema!r}, expected 'pde_data 1'; dimensions {scales}")


def read(path: Path) -> Schema:
    """Describe the file; variables over `sample` and more, or over nodes of meshes, stay on disk."""
    with safe_open(path) as file:
        items = {name: item for name, item in file.items() if is_variable(item)}
        ragged = {str(attributes_of(item).get("sample_dimension")) for item in items.values()}
        variables = {name: _variable(path, name, item, ragged) for name, item in items.items()}
        schema = Schema(variables, attributes_of(file))
    for name, variable in variables.items():
        for dim, size in zip(variable.dims, variable.values.shape):
            if size != schema.sizes[dim]:
                raise DatasetError(
                    f"{path}: variable {name!r} has {size} entries along {dim!r}, where another one has "
                    f"{schema.sizes[dim]}; the file is unfinished or damaged"
                )
    if not schema.fields and not ugrid.is_mesh(schema):
        held = ", ".join(f"{name} {tuple(v.values.shape)}" for name, v in variables.items()) or "no variables"
        raise DatasetError(
            f"{path} has no variable over a dimension named 'sample' and one of space; it holds {held}. "
            "Read it with h5py and hand the arrays to FieldDataset.from_arrays"
        )
    return schema


def is_variable(item: Any) -> bool:
    """Whether this is a variable of netCDF-4."""
    # A dimension without coordinates is a scale of zeros, marked by its name.
    name = np.bytes_(item.attrs.get("NAME", b""))
    return hasattr(item, "dims") and not name.startswith(NO_COORDINATE.encode())


def _variable(path: Path, name: str, dataset: Any, ragged: set) -> Variable:
    where = f"{path}: variable {name!r}"
    dims = axis_names(name, dataset)
    attributes = attributes_of(dataset)
    if "scale_factor" in attributes or "add_offset" in attributes:
        raise DatasetError(f"{where} is packed (scale_factor, add_offset); unpack it with xarray first")
    if ("sample" in dims and len(dims) > 1) or (dims and dims[0] in ragged):
        if dataset.dtype.kind not in "fiub":
            raise DatasetError(f"{where} has type {dataset.dtype}, expected real numbers")
        axes = sorted(range(len(dims)), key=lambda axis: _FIRST.get(dims[axis], len(_FIRST)))
        count, *inner = (dataset.shape[axis] for axis in axes)
        return Variable(
            tuple(dims[axis] for axis in axes),
            FileArray([path], name, [count], inner, dataset.dtype, axes),
            attributes,
        )
    if dataset.shape is None:
        raise DatasetError(f"{where} is empty (a null dataspace)")
    return Variable(
        dims, np.asarray(dataset.asstr()[()] if dataset.dtype.kind == "O" else dataset[()]), attributes
    )


def axis_names(name: str, dataset: Any) -> tuple[str, ...]:
    """Names of the dimensions of a variable."""
    if dataset.is_scale and len(dataset.shape) == 1:
        return (name,)
    # Not by `dataset.dims`: HDF5's own reader of this attribute crashes when it holds something else.
    attached = np.atleast_1d(dataset.attrs.get("DIMENSION_LIST", ()))
    scales = [_scale(dataset, references) for references in attached[: dataset.ndim]]
    scales += [None] * (dataset.ndim - len(scales))
    return tuple(scale or f"{name}_dim{index}" for index, scale in enumerate(scales))


def _scale(dataset: Any, references: Any) -> str | None:
    """Name of the scale that an axis refers to."""
    import h5py

    first = next(iter(np.atleast_1d(references)), None)
    if not isinstance(first, h5py.Reference):
        return None
    try:
        return dataset.file[first].name.rsplit("/", 1)[-1]
    except (ValueError, KeyError, RuntimeError, AttributeError):
        return None  # a reference to nothing


def attributes_of(item: Any) -> dict[str, Any]:
    """Attributes of a file or variable, but those that the netCDF layer wrote for itself."""
    attributes = {}
    for key in item.attrs:
        if key not in _INTERNAL:
            value = item.attrs[key]
            value = (
                value.item()
                if isinstance(value, np.generic) or getattr(value, "shape", None) == (1,)
                else value
            )
            attributes[key] = value.decode() if isinstance(value, bytes) else value
    return attributes
