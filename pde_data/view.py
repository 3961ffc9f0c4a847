"""Data sets as `xarray.Dataset`s that read their files only when values are used, and back."""

from __future__ import annotations

from typing import Any, final

import numpy as np
import xarray
from xarray.backends import BackendArray
from xarray.core import indexing

from pde_data.arrays import FieldArray
from pde_data.storage import DatasetError, Schema, Variable


@final
class _Lazy(BackendArray):
    """What xarray asks of an array that is read in pieces."""

    def __init__(self, array: FieldArray):
        self.array = array
        self.shape = array.shape
        self.dtype = array.dtype

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(
            key, self.shape, indexing.IndexingSupport.OUTER, self.array.__getitem__
        )


def to_xarray(schema: Schema) -> xarray.Dataset:
    """View variables as an `xarray.Dataset`; those that are `FieldArray`s stay where they are until used."""
    coordinates, data = {}, {}
    named = _coordinates(schema)
    for name, variable in schema.variables.items():
        values = variable.values
        if isinstance(values, FieldArray):
            values = indexing.LazilyIndexedArray(_Lazy(values))
        target = coordinates if name in named else data
        target[name] = xarray.Variable(variable.dims, values, dict(variable.attributes))
    return xarray.Dataset(data, coordinates, dict(schema.attributes))


def _coordinates(schema: Schema) -> set[str]:
    """Coordinates of dimensions, and positions of the nodes of meshes."""
    found = {name for name, variable in schema.variables.items() if variable.dims == (name,)}
    for variable in schema.variables.values():
        found |= set(str(variable.attributes.get("node_coordinates", "")).split())
    return found & schema.variables.keys()


def from_xarray(dataset: xarray.Dataset) -> Schema:
    """Describe an `xarray.Dataset`, its axes ordered `(sample, time, *space)`, its values in memory."""
    if "sample" not in dataset.dims:
        raise DatasetError(
            f"the xarray.Dataset has dimensions {tuple(dataset.dims)}, expected 'sample' among them; "
            "rename one with ds.rename(...), or add it with ds.expand_dims('sample')"
        )
    variables = {}
    for name, variable in dataset.variables.items():
        front = [dim for dim in ("sample", "time") if dim in variable.dims]
        variable = variable.transpose(*front, ...)
        dims = tuple(str(dim) for dim in variable.dims)
        variables[str(name)] = Variable(dims, np.asarray(variable.values), dict(variable.attrs))
    return Schema(variables, dict(dataset.attrs))
