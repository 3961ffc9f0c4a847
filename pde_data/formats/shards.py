"""Folders that `pde_data.generate` writes: one netCDF-4 file for each shard, and a manifest."""

from __future__ import annotations

import bisect
import itertools
from pathlib import Path
from typing import Any, final

import numpy as np

from pde_data import ugrid
from pde_data.arrays import FieldArray, FileArray
from pde_data.formats import native
from pde_data.formats.recognition import Verdict
from pde_data.ragged import JoinedRows
from pde_data.storage import DatasetError, Schema, Variable, read_json, sha256

MANIFEST = "manifest.json"
_KEYS = {"request": dict, "shard_count": int, "shards": list}
_SHARD_KEYS = {"file": str, "first": int, "sha256": str}


def recognises(path: Path) -> Verdict:
    """Whether this is a folder with a manifest."""
    found = (path / MANIFEST).is_file()
    return Verdict(found, f"folder with {MANIFEST}" if found else f"no folder with {MANIFEST}")


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest; `DatasetError` when it is not one that `pde_data.generate` wrote."""
    content = read_json(path)
    checks = [("", content, _KEYS)]
    if isinstance(content.get("shards"), list):
        checks += [(f"shards[{i}].", shard, _SHARD_KEYS) for i, shard in enumerate(content["shards"])]
    for where, part, keys in checks:
        for key, kind in keys.items():
            value = part.get(key) if isinstance(part, dict) else None
            if not isinstance(value, kind):
                raise DatasetError(
                    f"{path} is not a manifest of pde_data.generate: {where}{key} is {value!r}, expected "
                    f"{kind.__name__}; move it away or name another place"
                )
    return content


def read(path: Path) -> Schema:
    """Join the shards along `sample`, or along nodes and faces; `DatasetError` while some are missing."""
    manifest = read_manifest(path / MANIFEST)
    files = [path / Path(shard["file"]).name for shard in manifest["shards"]]
    expected = max(1, manifest["shard_count"])
    missing = [file.name for file in files if not file.is_file()]
    if len(files) < expected or missing:
        raise DatasetError(
            f"{path} has {len(files) - len(missing)} of {expected} shards; run the same generate command "
            "again, it makes only those that are missing"
        )
    parts = [native.read(file) for file in files]
    checksums = _Checksums(files, [shard["sha256"] for shard in manifest["shards"]])
    variables = parts[0].variables
    return Schema(
        {name: _join(name, variable, files, parts, checksums) for name, variable in variables.items()},
        parts[0].attributes,
    )


@final
class _Checksums:
    """SHA-256 of the shards as the manifest has them, compared with each file once in a process."""

    def __init__(self, files: list[Path], digests: list[str]):
        self._files = files
        self._digests = digests
        self._sound: set[int] = set()

    def verify(self, part: int) -> None:
        if part not in self._sound:
            file = self._files[part]
            if not file.is_file() or sha256(file) != self._digests[part]:
                raise DatasetError(
                    f"{file} is not what {MANIFEST} recorded (SHA-256 differs): it was damaged or changed; "
                    "delete it and run the same generate command again, which makes only what is missing"
                )
            self._sound.add(part)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_sound": set()}


@final
class _Verified(FieldArray):
    """Values of shards, each of which is compared with its checksum before its first value is given out."""

    def __init__(self, source: FieldArray, counts: list[int], checksums: _Checksums, first: int = 0):
        self.source = source
        self.shape = source.shape
        self.dtype = source.dtype
        self._starts = [0, *itertools.accumulate(counts)]
        self._checksums = checksums
        self._first = first

    def sample(self, index: int) -> Any:
        """See `FieldArray`."""
        self._checksums.verify(self._first + bisect.bisect_right(self._starts, index) - 1)
        return self.source.sample(index)

    def block(self, start: int, stop: int) -> np.ndarray | None:
        """See `FieldArray`."""
        first, last = (
            bisect.bisect_right(self._starts, index) - 1 for index in (start, max(stop - 1, start))
        )
        for part in range(first, min(last, len(self._starts) - 2) + 1):
            self._checksums.verify(self._first + part)
        return self.source.block(start, stop)

    @property
    def costly(self) -> bool:
        """See `FieldArray`."""
        return self.source.costly

    @property
    def rows(self) -> np.ndarray | None:
        """See `FieldArray`."""
        values = self.source.rows
        for part in range(len(self._starts) - 1 if values is not None else 0):
            self._checksums.verify(self._first + part)
        return values


def _join(
    name: str, first: Variable, files: list[Path], parts: list[Schema], checksums: _Checksums
) -> Variable:
    ragged = bool(first.dims) and first.dims[0] in ugrid.ragged_dimensions(parts[0])
    along = ragged or first.dims[:1] == ("sample",)
    for file, part in zip(files, parts):
        same = name in part.variables and part.variables[name].dims == first.dims
        inner = slice(1 if along else 0, None)
        if not same or _layout(part.variables[name], inner) != _layout(first, inner):
            raise DatasetError(
                f"{file}: variable {name!r} differs in shape or type from {files[0]}; a set has one grid"
            )
        if not along and not np.array_equal(part.variables[name].values, first.values):
            raise DatasetError(f"{file}: {name!r} has other values than in {files[0]}; a set has one grid")
    if not along:
        return first
    values = [part.variables[name].values for part in parts]
    if ragged:
        nodes = [part.sizes["node"] if name == ugrid.FACES else 0 for part in parts]
        verified = [_Verified(value, [len(value)], checksums, part) for part, value in enumerate(values)]
        joined = JoinedRows(verified, [0, *itertools.accumulate(nodes[:-1])])
    elif isinstance(first.values, FileArray):
        counts = [len(value) for value in values]
        array = first.values
        plain = FileArray(files, name, counts, array.shape[1:], array.dtype, array.axes)
        joined = _Verified(plain, counts, checksums)
    else:
        joined = np.concatenate(values)
    return Variable(first.dims, joined, first.attributes)


def _layout(variable: Variable, inner: slice) -> tuple:
    values = variable.values
    return values.shape[inner], values.dtype, getattr(values, "axes", None)
