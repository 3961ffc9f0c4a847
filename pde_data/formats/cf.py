"""From variables as a file has them to ours: the CF conventions, then the order (sample, time, x, y, z).

What is missing (`_FillValue`, `missing_value`) becomes NaN, packed values (`scale_factor`, `add_offset`)
are unpacked, descending coordinates are turned round with everything that lies on them, complex variables
become two. Dimensions are known by `axis`, `standard_name`, `units` or name; that of time is then called
`time`, that of realizations `sample`, and a file of one realization gets a `sample` dimension of size 1.
Times stay numbers with their units (`days since 2000-01-01`). Axes x, y, z are put in this order; latitude
and longitude, and axes of unknown meaning, keep that of the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np

from pde_data.arrays import FieldArray
from pde_data.composed import DerivedArray, alone, reordered
from pde_data.formats import axes as coordinates
from pde_data.storage import DatasetError, Schema, Variable

_PACKING = ("_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned")
_ROLES = {
    "axis": {"T": "time", "X": "x", "Y": "y", "Z": "z"},
    "standard_name": {
        "realization": "sample",
        "time": "time",
        "longitude": "lon",
        "latitude": "lat",
        "projection_x_coordinate": "x",
        "projection_y_coordinate": "y",
        "height": "z",
        "depth": "z",
        "altitude": "z",
    },
    "units": {
        **dict.fromkeys(("degrees_north", "degree_north"), "lat"),
        **dict.fromkeys(("degrees_east", "degree_east"), "lon"),
    },
    "name": {
        **dict.fromkeys(
            ("sample", "realization", "member", "ensemble", "batch", "b", "trajectory"), "sample"
        ),
        **dict.fromkeys(("time", "t"), "time"),
        **{name: name for name in ("x", "y", "z", "lat", "lon")},
        "latitude": "lat",
        "longitude": "lon",
    },
}
_ORDER = {"sample": 0, "time": 1, "x": 2, "y": 3, "z": 4}


def assemble(variables: Mapping[str, Variable], attributes: Mapping[str, Any], where: str) -> Schema:
    """Bring variables, whose axes are those of the file, into our order and meaning; see the module.

    Raises `DatasetError` for variables that disagree on the size of a dimension, and for two dimensions that
    both look like time or like samples.
    """
    variables = {name: _decoded(name, variable, where) for name, variable in variables.items()}
    _check_sizes(variables, where)
    variables, roles = _with_our_names(variables, where)
    turned = {
        name
        for name, variable in variables.items()
        if variable.dims == (name,) and name != "sample" and _descends(variable.values)
    }
    fields = _without_samples(variables)
    result: dict[str, Variable] = {}
    for name, variable in variables.items():
        variable = _ordered(variable, roles, name in fields)
        variable = _turned(variable, turned)
        result |= _real_parts(name, variable)
    if fields and "sample" not in result:
        result = {**coordinates.samples(1), **result}
    return Schema(result, attributes)


@final
class _Decode:
    """Values as CF means them, from those stored."""

    def __init__(self, packing: Mapping[str, Any]):
        self.packing = dict(packing)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        import warnings

        import xarray
        from xarray import conventions

        variable = xarray.Variable([f"axis_{n}" for n in range(values.ndim)], values, self.packing)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that two different values mark what is missing
            decoded = conventions.decode_cf_variable(
                "values", variable, decode_times=False, decode_timedelta=False
            )
            return np.asarray(decoded.values)


def _decoded(name: str, variable: Variable, where: str) -> Variable:
    packing = {key: variable.attributes[key] for key in _PACKING if key in variable.attributes}
    attributes = {key: value for key, value in variable.attributes.items() if key not in packing}
    if variable.values.dtype.kind not in "fiu" or not packing:
        return replace(variable, attributes=attributes)
    try:
        marks = [float(mark) for key in _PACKING[:2] for mark in np.ravel(packing.get(key, []))]
        marks = [mark for mark in dict.fromkeys(marks) if not math.isnan(mark)]  # NaN is its own mark
        if not marks and not set(packing) & set(_PACKING[2:]):
            return replace(variable, attributes=attributes)
        decode = _Decode(packing)
        dtype = decode(np.zeros((1,) * len(variable.values.shape), variable.values.dtype)).dtype
        if marks:
            listed = ", ".join(f"{mark:g}" for mark in marks)
            attributes["missing_values"] = f"stored as {listed}, read as NaN"
        if not isinstance(variable.values, FieldArray):
            return Variable(variable.dims, decode(np.asarray(variable.values)), attributes)
    except (TypeError, ValueError, OverflowError) as error:
        raise DatasetError(f"{where}: {name!r} cannot be unpacked with {packing}: {error}") from error
    source = variable.values
    return Variable(
        variable.dims, DerivedArray([source], decode, source.shape[1:], dtype, elementwise=True), attributes
    )


def _check_sizes(variables: Mapping[str, Variable], where: str) -> None:
    sizes: dict[str, int] = {}
    for name, variable in variables.items():
        for dim, size in zip(variable.dims, variable.values.shape):
            if sizes.setdefault(dim, size) != size:
                raise DatasetError(
                    f"{where}: variable {name!r} has {size} entries along {dim!r}, where another one has "
                    f"{sizes[dim]}; the file is unfinished or damaged"
                )


def _role(name: str, attributes: Mapping[str, Any]) -> str | None:
    for key in ("standard_name", "units", "axis"):
        value = attributes.get(key)
        if isinstance(value, str):
            if key == "units" and " since " in value:
                return "time"
            if value in _ROLES[key]:
                return _ROLES[key][value]
    return _ROLES["name"].get(name.lower())


def _with_our_names(
    variables: Mapping[str, Variable], where: str
) -> tuple[dict[str, Variable], dict[str, str | None]]:
    """Variables with the dimensions of time and of samples called so, and the role of each dimension."""
    dims = dict.fromkeys(dim for variable in variables.values() for dim in variable.dims)
    names = dict.fromkeys(variables)  # old name: new name, where it changes
    roles: dict[str, str | None] = {}
    for dim in dims:
        described = [name for name, v in variables.items() if v.dims == (dim,) and _described(v.attributes)]
        coordinate = (
            dim if dim in variables and variables[dim].dims == (dim,) else next(iter(described), None)
        )
        given = variables[coordinate].attributes if coordinate else {}
        roles[dim] = _role(dim, given)
        if coordinate and coordinate != dim and dim not in variables:
            names[coordinate] = dim
    renamed = {}
    for role in ("sample", "time"):
        having = [dim for dim, found in roles.items() if found == role]
        if len(having) > 1:
            raise DatasetError(
                f"{where}: dimensions {', '.join(map(repr, having))} all look like {role}; rename those that "
                "are not, with xarray: ds.rename(...)"
            )
        renamed |= {dim: role for dim in having}
    result = {}
    for name, variable in variables.items():
        own = renamed.get(names[name] or name, names[name] or name)
        result[own] = replace(variable, dims=tuple(renamed.get(dim, dim) for dim in variable.dims))
    if len(result) < len(variables):
        raise DatasetError(f"{where}: two variables would be called the same; it has {', '.join(variables)}")
    return result, {renamed.get(dim, dim): role for dim, role in roles.items()}


def _described(attributes: Mapping[str, Any]) -> bool:
    return "axis" in attributes or attributes.get("standard_name") in _ROLES["standard_name"]


def _descends(values: Any) -> bool:
    values = np.asarray(values)
    return len(values) > 1 and values.dtype.kind in "fiu" and bool(np.all(values[1:] < values[:-1]))


def _without_samples(variables: Mapping[str, Variable]) -> set[str]:
    """Names of the fields of a file that has no samples."""
    if any("sample" in variable.dims for variable in variables.values()):
        return set()
    bounds = {str(variable.attributes.get("bounds")) for variable in variables.values()}
    found = {
        name: len(variable.dims)
        for name, variable in variables.items()
        if set(variable.dims) - {"time", name}
        and variable.values.dtype.kind in "fiubc"
        and name not in bounds
    }
    most = max(found.values(), default=0)
    return {name for name, rank in found.items() if rank > 1 or most == 1}


def _is_numeric(dtype: np.dtype) -> bool:
    return dtype.kind in "fiubc" or dtype.names is not None


def _ordered(variable: Variable, roles: Mapping[str, str | None], lone: bool) -> Variable:
    space = [roles.get(dim) for dim in variable.dims if dim not in ("sample", "time")]
    known = all(role in _ORDER for role in space)

    def place(axis: int) -> tuple[int, int]:
        dim = variable.dims[axis]
        rank = _ORDER[dim] if dim in ("sample", "time") else 2
        return (_ORDER[roles[dim] or ""] if known and rank == 2 else rank), axis

    axes = sorted(range(len(variable.dims)), key=place)
    dims = tuple(variable.dims[axis] for axis in axes)
    values = variable.values
    if isinstance(values, FieldArray):
        values = reordered(values, axes)
        values = alone(values) if lone else values
    else:
        values = np.asarray(values).transpose(axes)
        values = values[None] if lone else values
    return replace(variable, dims=("sample", *dims) if lone else dims, values=values)


def _turned(variable: Variable, turned: set[str]) -> Variable:
    axes = [axis for axis, dim in enumerate(variable.dims) if dim in turned]
    values = variable.values
    if not axes:
        return variable
    if isinstance(values, FieldArray):
        flip = _Flip([axis - 1 for axis in axes])
        return replace(variable, values=DerivedArray([values], flip, values.shape[1:], values.dtype))
    return replace(variable, values=np.flip(values, tuple(axes)))


@final
class _Flip:
    def __init__(self, axes: Sequence[int]):
        self.axes = tuple(axes)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return np.flip(values, self.axes)


def _real_parts(name: str, variable: Variable) -> dict[str, Variable]:
    """The variable, or one each for the real and the imaginary part of complex values."""
    values = variable.values
    if not (values.dtype.kind == "c" or values.dtype.names):
        return {name: variable}
    parts = {}
    for part, function in (("real", _real), ("imag", _imag)):
        if isinstance(values, FieldArray):
            dtype = function(np.zeros(1, values.dtype)).dtype
            array = DerivedArray([values], function, values.shape[1:], dtype)
        else:
            array = function(values)
        parts[f"{name}_{part}"] = replace(variable, values=array)
    return parts


def _real(values: np.ndarray) -> np.ndarray:
    return values[values.dtype.names[0]] if values.dtype.names else np.real(values)


def _imag(values: np.ndarray) -> np.ndarray:
    return values[values.dtype.names[1]] if values.dtype.names else np.imag(values)
