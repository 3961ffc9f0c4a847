"""APEBench's scraped sets: `NAME_train.npy` and `NAME_test.npy`, (N, T + 1, C, *space), beside `NAME.json`.

The JSON tells the number of space axes and the scenario; fields are periodic, on [0, L) with L the
`domain_extent` of a scenario in physical units and 1 of others. Time is in units of `dt` of a physical
scenario, in records of others.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from pde_data.composed import channel
from pde_data.formats import axes
from pde_data.formats.numpy_arrays import header, mapped
from pde_data.formats.recognition import Verdict
from pde_data.grids import Grid
from pde_data.sources import coordinate_variables, space_names
from pde_data.storage import Schema, Variable

_LARGEST = 2**20  # bytes of a JSON file


def recognises(path: Path) -> Verdict:
    """Whether this is an array with the description of an APEBench scenario beside it."""
    found = header(path)
    if found is None:
        return Verdict(False, "no NumPy file")
    info = _scenario(path)
    if info is None:
        return Verdict(False, "no NAME.json with 'name' and 'info' beside NAME_train.npy or NAME_test.npy")
    dims = info.get("num_spatial_dims", 1)
    fits = dims in (1, 2, 3) and len(found.shape) == 3 + dims and found.dtype.kind == "f"
    return Verdict(fits, f"array of {found.dtype}, shape {found.shape}, and a scenario in {dims} dimensions")


def read(path: Path) -> Schema:
    """Describe the file as `u(sample, time, *space)`, or `u_0`, `u_1`, ... for several channels."""
    found, info = header(path), _scenario(path)
    assert found is not None and info is not None
    values = mapped(path, found)
    count, frames, channels, *space = found.shape
    names = space_names(len(space))
    extent, step = (_positive(info.get(key)) for key in ("domain_extent", "dt"))
    time = {"units": "1", "long_name": "time" if step else "record number"}
    fields = {
        "u" if channels == 1 else f"u_{c}": Variable(
            ("sample", "time", *names), channel(values, c, 2), {"units": "1", "long_name": f"channel {c}"}
        )
        for c in range(channels)
    }
    plain = {key: value for key, value in info.items() if isinstance(value, str | int | float)}
    return Schema(
        {
            **axes.samples(count),
            "time": Variable(("time",), np.arange(frames) * (step or 1.0), time),
            **coordinate_variables(Grid(tuple(space), lengths=extent or 1.0)),
            **fields,
        },
        {**plain, "source": "APEBench", "title": path.stem, "inputs": " ".join(fields)},
    )


def _scenario(path: Path) -> dict[str, Any] | None:
    base, _, split = path.stem.rpartition("_")
    beside = path.with_name(f"{base}.json")
    if split not in ("train", "test") or not beside.is_file() or beside.stat().st_size > _LARGEST:
        return None
    try:
        content = json.loads(beside.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or "name" not in content or not isinstance(content.get("info"), dict):
        return None
    return content["info"]


def _positive(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 < value < float("inf") else None
