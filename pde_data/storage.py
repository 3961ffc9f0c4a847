"""Our files on disk: netCDF-4 written through h5py, whole or not there at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import numpy as np

CONVENTIONS = "CF-1.11"
SCHEMA = "pde_data 1"
_ROWS = 2**14  # in a chunk
NO_COORDINATE = "This is a netCDF dimension but not a netCDF variable"


@final
class DatasetError(ValueError):
    """A file, folder or array cannot be used as a data set; the message says why and what to do."""


@final
@dataclass(frozen=True)
class Variable:
    """A named array with its dimensions and attributes.

    `values` is an ndarray, or a `FieldArray` that reads when asked. To be written later, block by block along
    its first dimension, a variable has no values but a `dtype`.
    """

    dims: tuple[str, ...]
    values: Any = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"


@final
@dataclass(frozen=True)
class Schema:
    """Variables over named dimensions, coordinates among them, and global attributes.

    A variable whose only dimension has its own name is the coordinate of that dimension.
    `dimensions` are sizes known from elsewhere: to be written later, a variable has none.
    """

    variables: Mapping[str, Variable]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    dimensions: Mapping[str, int] = field(default_factory=dict)

    @property
    def sizes(self) -> dict[str, int]:
        """Size of each dimension, from the variables that have values, and of `dimensions`."""
        return {
            **self.dimensions,
            **{
                dim: size
                for variable in self.variables.values()
                if variable.values is not None
                for dim, size in zip(variable.dims, variable.values.shape)
            },
        }

    @property
    def fields(self) -> dict[str, Variable]:
        """Variables over `sample` and at least one more dimension than `time`."""
        return {
            name: variable
            for name, variable in self.variables.items()
            if "sample" in variable.dims and set(variable.dims) - {"sample", "time"}
        }


def write(
    path: str | os.PathLike,
    schema: Schema,
    blocks: Iterable[tuple[int, Mapping[str, np.ndarray]]],
    compress: str | None = None,
):
    """Write a netCDF-4 file atomically: afterwards `path` holds all of it, or what it held before.

    `blocks` yields `(first, {variable: values})`, in any order: rows from that number on. The same schema and
    values give the same bytes. Fields are contiguous, so that readers can map them; with `compress="lz4"`
    each frame is a chunk that carries a checksum. Raises `DatasetError` when the disk is full, the values do
    not fit the schema, or the library of the compression is missing; the unfinished file is then removed.
    """
    import h5py

    storage = _compression(compress)
    with replacing(path) as temporary:
        if not storage:
            _reserve(temporary, schema)
        try:
            # Since HDF5 1.10 headers and indices carry checksums; before, a wrong bit there goes unnoticed.
            layout = {"alignment_threshold": 65536, "alignment_interval": 4096, "libver": ("v110", "v110")}
            with h5py.File(temporary, "w", **layout) as file:
                _declare(file, schema, storage)
                for first, values in blocks:
                    for name, block in values.items():
                        _fill(file[name], name, first, block)
        except RuntimeError as error:  # how h5py reports what fails while it closes a file
            raise DatasetError(f"cannot write {path}: {error}") from error


def _reserve(path: Path, schema: Schema) -> None:
    """Ask the file system for room, so that a full disk is met here and not while HDF5 closes the file."""
    sizes = schema.sizes
    fields = [v for v in schema.variables.values() if v.values is None]
    total = sum(np.dtype(v.dtype).itemsize * math.prod(sizes[dim] for dim in v.dims) for v in fields)
    with path.open("wb") as file:
        if total and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, total)


def _compression(name: str | None) -> dict[str, Any]:
    """Return the keyword arguments of `h5py.Group.create_dataset` for a compression."""
    if name is None:
        return {}
    if name != "lz4":
        raise ValueError(f"compress={name!r} is unknown; expected 'lz4' or None")
    try:
        import hdf5plugin
    except ImportError as error:
        raise DatasetError(
            "compress='lz4' needs the package hdf5plugin; pip install hdf5plugin, or leave it out"
        ) from error
    # Without the transposition of bits LZ4 finds next to nothing in floating-point fields.
    return {**hdf5plugin.Bitshuffle(cname="lz4"), "fletcher32": True}


def _declare(file: Any, schema: Schema, storage: Mapping[str, Any]) -> None:
    file.attrs["Conventions"] = CONVENTIONS
    file.attrs["schema"] = SCHEMA
    for name, value in schema.attributes.items():
        file.attrs[name] = as_attribute(value)
    sizes = schema.sizes
    for name, variable in schema.variables.items():
        shape = tuple(sizes[dim] for dim in variable.dims)
        if variable.values is None:
            # Never pre-filled: every byte is written by a block.
            chunks = _chunks(variable.dims, shape) if storage else None
            target = file.create_dataset(
                name, shape, variable.dtype, chunks=chunks, fill_time="never", track_times=False, **storage
            )
        else:
            if variable.values.shape != shape:
                raise DatasetError(
                    f"variable {name!r} has shape {variable.values.shape}, its dimensions say {shape}"
                )
            target = file.create_dataset(name, data=variable.values, track_times=False)
        for key, value in variable.attributes.items():
            target.attrs[key] = as_attribute(value)
    for dim in {dim: None for variable in schema.variables.values() for dim in variable.dims}:
        if dim not in schema.variables:
            # How netCDF-4 stores a dimension without coordinates; the values are never written.
            scale = file.create_dataset(dim, (sizes[dim],), ">f4", track_times=False)
            scale.make_scale(f"{NO_COORDINATE}. {sizes[dim]:10d}")
    for name, variable in schema.variables.items():
        if variable.dims == (name,):
            file[name].make_scale(name)
    for name, variable in schema.variables.items():
        if variable.dims != (name,):
            for axis, dim in enumerate(variable.dims):
                file[name].dims[axis].attach_scale(file[dim])


def _chunks(dims: tuple[str, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """A frame of a sample; of what has no samples, such as nodes of meshes, many rows."""
    if dims[0] != "sample":
        return (min(shape[0], _ROWS), *shape[1:])
    leading = 1 + ("time" in dims)
    return (1,) * leading + shape[leading:]


def _fill(target: Any, name: str, first: int, block: np.ndarray) -> None:
    room = (len(target) - first, *target.shape[1:])
    if block.shape[1:] != room[1:] or len(block) > room[0]:
        raise DatasetError(f"a block of {name!r} from row {first} has shape {block.shape}, room is {room}")
    target[first : first + len(block)] = block


def as_attribute(value: Any) -> Any:
    """Turn a JSON-able value into what netCDF attributes can hold: text, numbers, lists of numbers."""
    if isinstance(value, bool) or value is None or isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    if isinstance(value, list | tuple):
        numbers = all(isinstance(item, int | float) and not isinstance(item, bool) for item in value)
        return np.asarray(value) if value and numbers else json.dumps(value, sort_keys=True)
    return value


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success its bytes are flushed to disk and take that name.

    A process killed at any moment leaves `path` as it was, and at most a file `.NAME.HOST.PID.tmp` beside it.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise DatasetError(f"cannot write {path}: there is no folder {path.parent}; create it first")
    # The host too: several may write to one shared disk, and in containers all have the same process ids.
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise DatasetError(f"cannot write {path}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """Read a JSON object; `DatasetError` when it is not one."""
    try:
        content = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise DatasetError(f"cannot read {path} as JSON: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path} should hold a JSON object, it holds a {type(content).__name__}")
    return content


def sha256(path: str | os.PathLike) -> str:
    """SHA-256 of a file, as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
