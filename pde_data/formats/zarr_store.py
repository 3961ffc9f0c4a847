"""Zarr folders, versions 2 and 3: the arrays at the root, by the names of their dimensions.

The folder is looked through before it is opened: metadata of a size that fits what is stored, codecs that
cannot run code, and no link that leads out of it. Arrays of several axes stay there. Dimensions come from
`dimension_names` (v3) or `_ARRAY_DIMENSIONS` (v2); where there are none, from the coordinates among the
arrays (`pde_data.formats.named`).

PDEArena's shallow-water sets are one such folder for each split: `u`, `v`, `vor` (b, time, lev, lat, lon)
with a single level, which is dropped, and `pres` (b, time, lat, lon).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from pde_data.arrays import FieldArray
from pde_data.composed import channel
from pde_data.formats import named
from pde_data.formats.cf import assemble
from pde_data.formats.recognition import Verdict
from pde_data.safety import MAX_CHUNK, MAX_RATIO, SMALL
from pde_data.storage import DatasetError, Schema, Variable
from pde_data.zarr_array import ZarrArray

_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_LARGEST_METADATA = 2**24
_PLAIN = "blosc zstd gzip zlib bz2 lzma lz4 shuffle delta bitround fixedscaleoffset quantize packbits astype"
_CHECKS = "crc32 crc32c adler32 fletcher32 jenkins_lookup3"
# What is not here is not run: codecs that unpickle, or that a package of the user brings.
_CODECS = {*_PLAIN.split(), *_CHECKS.split(), "bytes", "transpose", "sharding_indexed", "endian"}


@final
@dataclass(frozen=True)
class _Described:
    """An array as its metadata describe it."""

    shape: tuple[int, ...]
    dtype: np.dtype
    dims: tuple[str, ...] | None
    attributes: Mapping[str, Any]


def recognises(path: Path) -> Verdict:
    """Whether this is a folder with the metadata of a Zarr group."""
    kind = _group(path)
    return Verdict(kind is not None, f"folder with {kind}" if kind else "no folder with zarr.json or .zgroup")


def read(path: Path) -> Schema:
    """Describe the arrays at the root of the group."""
    arrays = _arrays(path)
    attributes = _attributes(_json(path / (_group(path) or "")), path)
    stored: dict[str, FieldArray] = {
        name: ZarrArray(path, name, found.shape, found.dtype) for name, found in arrays.items() if found.shape
    }
    if not any(found.dims for found in arrays.values()):
        return named.describe(stored, str(path), attributes)
    variables = {}
    for name, array in stored.items():
        dims = arrays[name].dims or tuple(f"{name}_dim{axis}" for axis in range(len(array.shape)))
        small = len(dims) == 1 and array.shape[0] * array.dtype.itemsize <= SMALL
        variables[name] = Variable(dims, array[:] if small else array, arrays[name].attributes)
    schema = assemble(variables, attributes, str(path))
    if not schema.fields:
        held = ", ".join(f"{name} {v.dims}" for name, v in schema.variables.items()) or "no arrays"
        raise DatasetError(f"{path} has no array over a dimension of space; it holds {held}")
    return schema


def recognises_pdearena(path: Path) -> Verdict:
    """Whether the root of the group holds the four arrays of PDEArena's shallow-water sets."""
    if _group(path) is None:
        return Verdict(False, "no Zarr folder")
    ranks = {name: len(found.shape) for name, found in _arrays(path).items()}
    expected = {"u": 5, "v": 5, "vor": 5, "pres": 4}
    fits = all(ranks.get(name) == rank for name, rank in expected.items())
    return Verdict(fits, f"arrays with ranks {ranks}; expected {expected}")


def read_pdearena(path: Path) -> Schema:
    """Describe the file as `u`, `v`, `vor`, `pres(sample, time, lat, lon)`."""
    schema = read(path)
    variables = {name: variable for name, variable in schema.variables.items() if name != "lev"}
    for name, variable in variables.items():
        if "lev" in variable.dims and schema.sizes["lev"] == 1:
            axis = variable.dims.index("lev")
            dims = variable.dims[:axis] + variable.dims[axis + 1 :]
            variables[name] = replace(variable, dims=dims, values=channel(variable.values, 0, axis))
    return Schema(variables, {"source": "PDEArena Zarr", **schema.attributes})


def _group(path: Path) -> str | None:
    """File of the metadata of a group, if this is one."""
    if (path / "zarr.json").is_file():
        return "zarr.json" if _json(path / "zarr.json").get("node_type") == "group" else None
    return ".zgroup" if (path / ".zgroup").is_file() else None


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    if path.stat().st_size > _LARGEST_METADATA:
        raise DatasetError(f"{path} has {path.stat().st_size:,} bytes, too many for metadata")
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"cannot read {path} as JSON: {error}") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path} should hold a JSON object, it holds a {type(content).__name__}")
    return content


def _attributes(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    found = content.get("attributes") if "attributes" in content else _json(path / ".zattrs")
    return dict(found) if isinstance(found, Mapping) else {}


def _arrays(root: Path) -> dict[str, _Described]:
    """Arrays of numbers at the root, each checked."""
    _check_links(root)
    found = {}
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir()):
        content = _json(folder / "zarr.json") or _json(folder / ".zarray")
        if content and content.get("node_type", "array") == "array":
            try:
                described = _described(folder, content)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise DatasetError(f"{folder} has damaged metadata: {error!r}") from error
            if described is not None:
                found[folder.name] = described
    return found


def _check_links(root: Path) -> None:
    inside = root.resolve()
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            entry = Path(folder, name)
            if entry.is_symlink() and not entry.resolve().is_relative_to(inside):
                raise DatasetError(
                    f"{entry} is a link to {entry.resolve()}, outside of {root}; copy the data into it"
                )


def _described(folder: Path, content: Mapping[str, Any]) -> _Described | None:
    codecs = list(_codecs(content))
    unknown = [codec for codec in codecs if codec.removeprefix("numcodecs.") not in _CODECS]
    kind = content["data_type"] if "data_type" in content else content["dtype"]
    if not isinstance(kind, str) or kind in ("string", "|O") or kind[:2] in ("|S", "<U", ">U"):
        return None  # text
    if unknown:
        raise DatasetError(
            f"{folder} is stored with {', '.join(map(repr, unknown))}, which is not run because a codec can "
            "be any code; store it with blosc, zstd, gzip or none"
        )
    dtype = np.dtype(kind)
    if dtype.kind not in "fiubc":
        return None
    shape = tuple(int(size) for size in content["shape"])
    grid = content.get("chunk_grid", {}).get("configuration", {}).get("chunk_shape") or content["chunks"]
    chunk = math.prod(int(size) for size in grid) * dtype.itemsize
    if min((*shape, *grid), default=0) < 0 or len(grid) != len(shape):
        raise ValueError(f"shape {shape}, chunks {grid}")
    if chunk > MAX_CHUNK:
        raise DatasetError(f"{folder} has chunks of {chunk:,} bytes, more than {MAX_CHUNK:,}; rechunk it")
    declared = math.prod(shape) * dtype.itemsize
    if declared > SMALL:
        stored = 0
        for size in _file_sizes(folder):
            stored += size
            if stored * MAX_RATIO >= declared:
                break
        else:
            raise DatasetError(
                f"{folder} declares {declared:,} bytes but only {stored:,} are stored; it is unfinished or "
                "forged"
            )
    attributes = _attributes(content, folder)
    dims = content.get("dimension_names") or attributes.pop("_ARRAY_DIMENSIONS", None)
    fill = _missing(content, attributes, dtype)
    if fill is not None:
        attributes["_FillValue"] = fill
    named_all = isinstance(dims, list) and len(dims) == len(shape) and all(isinstance(d, str) for d in dims)
    return _Described(shape, dtype, tuple(dims) if named_all else None, attributes)


def _codecs(content: Mapping[str, Any]) -> Iterator[str]:
    """Names of all codecs, those inside of shards among them."""
    for codec in content.get("codecs") or ():
        yield codec["name"]
        yield from _codecs(codec.get("configuration") or {})
    for codec in content.get("index_codecs") or ():
        yield codec["name"]
    for codec in (content.get("compressor"), *(content.get("filters") or ())):
        if codec is not None:
            yield codec["id"]


def _missing(content: Mapping[str, Any], attributes: dict[str, Any], dtype: np.dtype) -> Any:
    """Value that marks what is missing: in v3 as xarray writes it, in v2 that of absent chunks."""
    given = attributes.pop("_FillValue", None)
    if isinstance(given, str):
        from xarray.backends.zarr import FillValueCoder

        return FillValueCoder.decode(given, dtype)
    if given is None and "dtype" in content:
        fill = content.get("fill_value")
        # Zero is the default of those who mean nothing by it.
        return fill if isinstance(fill, int | float) and fill != 0 else None
    return given


def _file_sizes(folder: Path) -> Iterator[int]:
    for inner, _, files in os.walk(folder):
        for name in files:
            if name not in _METADATA:
                yield os.path.getsize(os.path.join(inner, name))
