"""netCDF files of others: netCDF-4 (HDF5 with dimension scales), the classic format, and Poseidon's sets.

Dimensions, missing and packed values and the order of axes follow the CF conventions: `pde_data.formats.cf`.
A netCDF-4 file is opened after a look at all that is in it (`pde_data.safety`), variables of several axes
stay on disk. Variables in groups are passed over.

Poseidon's files have no dimension coordinates: `velocity` or `solution`, (N, time, C, n, n), with C = 2 or 3
for the velocity along x and y and a passive tracer; periodic on [0, 1)^2, times equally spaced in [0, 1].
The set NS-SL was stored with x and y exchanged, which its file does not say.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pde_data.arrays import FileArray
from pde_data.formats import axes, native
from pde_data.formats.cf import assemble
from pde_data.formats.hdf5 import lazily
from pde_data.formats.recognition import Verdict, hdf5_layout
from pde_data.grids import Grid
from pde_data.raw import RawArray
from pde_data.safety import SMALL, safe_open
from pde_data.sources import coordinate_variables
from pde_data.storage import DatasetError, Schema, Variable

_CLASSIC = {b"CDF\x01": "netCDF-3 classic", b"CDF\x02": "netCDF-3 with 64-bit offsets"}
MAX_IN_MEMORY = 2**28  # bytes of a coordinate
_CHANNELS = ("u", "v", "tracer")
_LONG_NAMES = {"u": "velocity along x", "v": "velocity along y", "tracer": "passive tracer"}


def recognises(path: Path) -> Verdict:
    """Whether this is HDF5 with dimension scales, written by another program than ours."""
    layout = hdf5_layout(path)
    if layout is None:
        return Verdict(False, "no HDF5 file")
    if str(layout.attributes.get("schema", "")).startswith("pde_data "):
        return Verdict(False, "written by pde_data itself")
    scales = ", ".join(sorted(layout.scales)[:8])
    return Verdict(
        bool(layout.scales), f"dimension scales {scales}" if scales else f"no dimension scales: {layout}"
    )


def read(path: Path) -> Schema:
    """Describe the variables at the root of a netCDF-4 file."""
    with safe_open(path) as file:
        variables = {
            name: _variable(path, name, item) for name, item in file.items() if native.is_variable(item)
        }
        attributes = native.attributes_of(file)
    return _with_fields(assemble(variables, attributes, str(path)), path)


def recognises_classic(path: Path) -> Verdict:
    """Whether the file begins as classic netCDF does."""
    kind = _CLASSIC.get(_first_bytes(path))
    return Verdict(kind is not None, f"signature of {kind}" if kind else "no signature CDF\\x01 or CDF\\x02")


def read_classic(path: Path) -> Schema:
    """Describe the variables of a classic netCDF file, which stay there."""
    from scipy.io import netcdf_file

    try:
        with path.open("rb") as stream:
            # Of a stream that is ours to close: one that SciPy opens stays open when the header is damaged.
            file = netcdf_file(stream, "r", mmap=True, maskandscale=False)
            variables = {name: _classic_variable(path, file.variables[name]) for name in file.variables}
            attributes = {key: _text(value) for key, value in file._attributes.items()}
    except DatasetError:
        raise
    except Exception as error:  # what a damaged header ends in depends on the byte that is wrong
        raise DatasetError(f"cannot read {path} as netCDF-3: {error}; write or download it again") from error
    return _with_fields(assemble(variables, attributes, str(path)), path)


def recognises_poseidon(path: Path) -> Verdict:
    """Whether this is HDF5 with `velocity` or `solution` in the shape of Poseidon's fluid sets."""
    layout = hdf5_layout(path)
    if layout is None:
        return Verdict(False, "no HDF5 file")
    found = [name for name in ("velocity", "solution") if _is_poseidon(layout.datasets.get(name, ()))]
    if len(found) == 1:
        return Verdict(True, f"{found[0]} {layout.datasets[found[0]]}")
    return Verdict(False, f"no velocity or solution of shape (N, time, 2 or 3, n, n): {layout}")


def read_poseidon(path: Path) -> Schema:
    """Describe the file as `u`, `v` and perhaps `tracer(sample, time, x, y)`."""
    with safe_open(path) as file:
        name = next(
            name for name in ("velocity", "solution") if _is_poseidon(getattr(file.get(name), "shape", ()))
        )
        item = file[name]
        if item.dtype.kind != "f":
            raise DatasetError(f"{path}: {name!r} has type {item.dtype}, expected floating-point numbers")
        count, frames, channels, *space = item.shape
        parts = [lazily(path, item, (0, 1, 3, 4), {2: part}) for part in range(channels)]
        attributes = native.attributes_of(file)
    time = {"units": "1", "long_name": "time"}
    fields = {
        name: Variable(("sample", "time", "x", "y"), part, {"units": "1", "long_name": _LONG_NAMES[name]})
        for name, part in zip(_CHANNELS, parts)
    }
    return Schema(
        {
            **axes.samples(count),
            "time": Variable(("time",), np.linspace(0.0, 1.0, frames), time),
            **coordinate_variables(Grid(tuple(space))),
            **fields,
        },
        {**attributes, "source": "Poseidon netCDF", "title": path.stem, "inputs": " ".join(fields)},
    )


def _is_poseidon(shape: tuple[int, ...]) -> bool:
    return len(shape) == 5 and shape[2] in (2, 3) and shape[3] == shape[4] > 3 and shape[1] > 1


def _first_bytes(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(4)


def _variable(path: Path, name: str, item: Any) -> Variable:
    dims, attributes = native.axis_names(name, item), native.attributes_of(item)
    if item.shape is None:
        raise DatasetError(f"{path}: variable {name!r} is empty (a null dataspace)")
    numeric = item.dtype.kind in "fiubc" or _is_complex(item.dtype)
    if numeric and (len(dims) > 1 or item.nbytes > SMALL) and dims != (name,):
        return Variable(dims, FileArray([path], name, item.shape[:1], item.shape[1:], item.dtype), attributes)
    if item.nbytes > MAX_IN_MEMORY:
        raise DatasetError(f"{path}: variable {name!r} has {item.nbytes:,} bytes, too many for a coordinate")
    return Variable(dims, np.asarray(item.asstr()[()] if item.dtype.kind == "O" else item[()]), attributes)


def _is_complex(dtype: np.dtype) -> bool:
    return (
        dtype.names is not None
        and len(dtype.names) == 2
        and all(dtype[name].kind == "f" for name in dtype.names)
    )


def _classic_variable(path: Path, item: Any) -> Variable:
    values, attributes = item.data, {key: _text(value) for key, value in item._attributes.items()}
    if values.ndim < 2 or values.dtype.kind not in "fiu":
        return Variable(tuple(item.dimensions), np.array(values), attributes)
    whole = values
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    offset = values.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    stored = RawArray(path, values.shape, values.dtype, offset, values.strides)
    return Variable(tuple(item.dimensions), stored, attributes)


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value.item() if getattr(value, "size", 0) == 1 else value


def _with_fields(schema: Schema, path: Path) -> Schema:
    if schema.fields:
        return schema
    held = ", ".join(f"{name} {v.dims}" for name, v in schema.variables.items()) or "no variables"
    raise DatasetError(f"{path} has no variable over a dimension of space; it holds {held}")
