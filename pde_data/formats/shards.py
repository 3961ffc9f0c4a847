"""Folders that `pde_data.generate` writes: one netCDF-4 file for each shard, and a manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pde_data.arrays import FileArray
from pde_data.formats import native
from pde_data.storage import DatasetError, Schema, Variable, read_json

MANIFEST = "manifest.json"


def recognises(path: Path) -> bool:
    """Whether this is a folder with a manifest."""
    return (path / MANIFEST).is_file()


def read(path: Path) -> Schema:
    """Join the shards along `sample`; raises `DatasetError` while some are missing."""
    manifest = read_json(path / MANIFEST)
    try:
        files = [path / Path(shard["file"]).name for shard in manifest["shards"]]
        expected = manifest["shard_count"]
    except (KeyError, TypeError) as error:
        raise DatasetError(f"{path / MANIFEST} is not a manifest of pde_data.generate: {error!r}") from error
    missing = [file.name for file in files if not file.is_file()]
    if len(files) < expected or missing:
        raise DatasetError(
            f"{path} has {len(files) - len(missing)} of {expected} shards; run the same generate command "
            "again, it makes only those that are missing"
        )
    parts = [native.read(file) for file in files]
    return Schema(
        {name: _join(name, variable, files, parts) for name, variable in parts[0].variables.items()},
        parts[0].attributes,
    )


def _join(name: str, first: Variable, files: list[Path], parts: list[Schema]) -> Variable:
    for file, part in zip(files, parts):
        same = name in part.variables and part.variables[name].dims == first.dims
        inner = slice(1 if first.dims[:1] == ("sample",) else 0, None)
        if not same or part.variables[name].values.shape[inner] != first.values.shape[inner]:
            raise DatasetError(
                f"{file}: variable {name!r} differs in shape from {files[0]}; a set has one grid"
            )
        if inner.start == 0 and not np.array_equal(part.variables[name].values, first.values):
            raise DatasetError(f"{file}: {name!r} has other values than in {files[0]}; a set has one grid")
    if first.dims[:1] != ("sample",):
        return first
    values = [part.variables[name].values for part in parts]
    if isinstance(first.values, FileArray):
        counts = [len(value) for value in values]
        joined = FileArray(files, name, counts, first.values.shape[1:], first.values.dtype)
    else:
        joined = np.concatenate(values)
    return Variable(first.dims, joined, first.attributes)
