"""Arrays with names but without dimensions: which axis is which follows from the coordinates among them.

An array of one axis (in MATLAB: a row or a column) called `t`, `time`, `x`, `y`, `z`, `r`, `theta`, `lat` or
`lon` is a coordinate. An axis of another array that has its length carries it; one axis left over is that of
the samples. Where lengths alone leave a choice, the order sample, time, x, y, z decides; where that leaves
one as well, or more than one axis is left over, the array is refused, with what is known of it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from pde_data.arrays import FieldArray
from pde_data.formats import axes
from pde_data.formats.cf import assemble
from pde_data.storage import DatasetError, Schema, Variable

_COORDINATES = {
    "t": "time",
    "time": "time",
    **{name: name for name in ("x", "y", "z", "r", "theta", "lat", "lon")},
}
_MOST_AXES = 6


def describe(arrays: Mapping[str, FieldArray], where: str, attributes: Mapping[str, Any]) -> Schema:
    """Give every array its dimensions; raises `DatasetError` where those of a field stay open."""
    coordinates = {
        _COORDINATES[name.lower()]: np.asarray(array[:]).reshape(-1)
        for name, array in arrays.items()
        if name.lower() in _COORDINATES and max(array.shape) == math.prod(array.shape) > 1
    }
    lengths = {dim: len(values) for dim, values in coordinates.items()}
    known = {
        name: array for name, array in arrays.items() if _COORDINATES.get(name.lower()) not in coordinates
    }
    more: dict[str, Any] = {}
    variables = {dim: Variable((dim,), values) for dim, values in coordinates.items()}
    rest: dict[str, FieldArray] = {}
    for name, array in known.items():
        size = math.prod(array.shape)
        if size == 1:
            more[name] = np.asarray(array[:]).reshape(-1)[0].item()
        elif sum(n > 1 for n in array.shape) > 1:
            dims = _dims(name, array.shape, lengths, where)
            variables[name] = Variable(dims, array)
        else:
            rest[name] = array
    samples = {v.values.shape[v.dims.index("sample")] for v in variables.values() if "sample" in v.dims}
    if len(samples) == 1:
        variables = {**axes.samples(*samples), **variables}
    for name, array in rest.items():
        values = np.asarray(array[:]).reshape(-1)
        dim = "sample" if {len(values)} == samples else f"{name}_0"
        variables[name] = Variable((dim,), values)
    if not any(set(v.dims) - {"sample", "time"} for name, v in variables.items() if name not in lengths):
        raise DatasetError(f"{where} has no array over space; it holds {_listed(arrays)}")
    return assemble(variables, {**attributes, **more}, where)


def _dims(name: str, shape: tuple[int, ...], lengths: Mapping[str, int], where: str) -> tuple[str, ...]:
    dims = ["sample", *sorted(lengths, key=["time", *_COORDINATES].index)]
    fits = [
        choice
        for choice in (itertools.permutations(dims, len(shape)) if len(shape) <= _MOST_AXES else ())
        if all(dim == "sample" or lengths[dim] == size for dim, size in zip(choice, shape))
    ]
    with_most = max((sum(dim != "sample" for dim in choice) for choice in fits), default=0)
    fits = [choice for choice in fits if sum(dim != "sample" for dim in choice) == with_most]
    ordered = [choice for choice in fits if list(choice) == sorted(choice, key=dims.index)]
    best = fits if len(fits) == 1 else ordered
    if len(best) == 1 and set(best[0]) - {"sample", "time"}:
        return best[0]
    found = ", ".join(f"{dim} {size}" for dim, size in lengths.items()) or "none"
    choices = " or ".join(str(choice) for choice in fits[:4]) or "no order of them fits"
    raise DatasetError(
        f"{where}: the axes of {name!r} {tuple(shape)} are not known; coordinates: {found}; {choices}. Give "
        "the arrays to pde_data.FieldDataset.from_arrays(inputs=..., targets=...) or (trajectories=...), "
        "samples first"
    )


def _listed(arrays: Mapping[str, FieldArray]) -> str:
    return ", ".join(f"{name} {tuple(array.shape)}" for name, array in list(arrays.items())[:12]) or "nothing"
