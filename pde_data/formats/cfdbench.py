"""CFDBench: folders `{bc,geo,prop}/caseNNNN` with `u.npy`, `v.npy` (time, height, width) and `case.json`.

The path may be that of a problem, of one of its subsets or of a case. Rows of the arrays go along y,
columns along x. The files do not say how far apart records are, and a case has its own width and height
(`case.json`): time is in records, and positions are fractions of width and height, at centres of cells.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from pde_data.composed import JoinedArray, alone, reordered
from pde_data.formats import axes
from pde_data.formats.numpy_arrays import Header, header, mapped
from pde_data.formats.recognition import Verdict
from pde_data.grids import Grid
from pde_data.sources import coordinate_variables
from pde_data.storage import DatasetError, Schema, Variable, read_json

_FILES = ("case.json", "u.npy", "v.npy")
_LONG_NAMES = {"u": "velocity along x", "v": "velocity along y"}
_LARGEST = 2**20  # bytes of a JSON file


def recognises(path: Path) -> Verdict:
    """Whether there is a case in this folder, or one or two levels below."""
    if not path.is_dir():
        return Verdict(False, "no folder")
    found = next(_cases(path), None)
    if found is None:
        return Verdict(False, f"no folder with {', '.join(_FILES)} up to two levels below")
    return Verdict(True, f"{found} holds {', '.join(_FILES)}")


def read(path: Path) -> Schema:
    """Describe the cases as samples of `u`, `v(sample, time, x, y)`, their parameters as `(sample,)`.

    Raises `DatasetError` for cases of several shapes, naming them.
    """
    cases = sorted(_cases(path), key=_by_number)
    headers = {name: [_header(case / f"{name}.npy") for case in cases] for name in "uv"}
    groups: dict[tuple, list[str]] = {}
    for name, found in headers.items():
        for case, one in zip(cases, found):
            groups.setdefault((one.shape, one.dtype), []).append(f"{case.relative_to(path)}/{name}.npy")
    if len(groups) > 1:
        shapes = "; ".join(
            f"{shape} {dtype} in {len(files)} files ({', '.join([*files[:3], *['...'][: len(files) - 3]])})"
            for (shape, dtype), files in groups.items()
        )
        raise DatasetError(
            f"{path} has cases of several shapes, one set needs one: {shapes}; open them apart"
        )
    ((frames, height, width), _), *_ = groups
    fields = {
        name: Variable(
            ("sample", "time", "x", "y"),
            reordered(
                JoinedArray([alone(mapped(case / f"{name}.npy", h)) for case, h in zip(cases, found)]),
                (0, 1, 3, 2),
            ),
            {"units": "m s-1", "long_name": _LONG_NAMES[name]},
        )
        for name, found in headers.items()
    }
    subsets = dict.fromkeys(case.parent.name for case in cases)
    return Schema(
        {
            **axes.samples(len(cases)),
            "time": Variable(
                ("time",), np.arange(float(frames)), {"units": "1", "long_name": "record number"}
            ),
            **coordinate_variables(Grid((width, height), periodic=False, location="cell")),
            **_parameters(cases),
            **fields,
        },
        {"source": "CFDBench", "title": path.name, "subsets": " ".join(subsets), "inputs": "u v"},
    )


def _cases(path: Path) -> Any:
    root = path.resolve()
    for pattern in ("case.json", "*/case.json", "*/*/case.json"):
        for found in path.glob(pattern):
            case = found.parent
            if all(
                (case / name).resolve().is_relative_to(root) and (case / name).is_file() for name in _FILES
            ):
                yield case


def _by_number(case: Path) -> tuple[str, int, str]:
    digits = re.search(r"\d+$", case.name)
    return case.parent.name, int(digits[0]) if digits else -1, case.name


def _header(path: Path) -> Header:
    found = header(path)
    if found is None or len(found.shape) != 3 or found.dtype.kind != "f" or 0 in found.shape:
        held = "no NumPy array" if found is None else f"an array of {found.dtype}, shape {found.shape}"
        raise DatasetError(f"{path} holds {held}, expected real numbers (time, height, width)")
    return found


def _parameters(cases: list[Path]) -> dict[str, Variable]:
    contents = []
    for case in cases:
        if (case / "case.json").stat().st_size > _LARGEST:
            raise DatasetError(
                f"{case / 'case.json'} is larger than {_LARGEST:,} bytes; it is no list of parameters"
            )
        contents.append(read_json(case / "case.json"))
    numbers = dict.fromkeys(
        key
        for content in contents
        for key, value in content.items()
        if isinstance(value, int | float) and key not in (*_LONG_NAMES, "sample", "time", "x", "y")
    )
    return {
        key: Variable(
            ("sample",),
            np.array([_number(content.get(key)) for content in contents]),
            {"long_name": f"{key} of case.json"},
        )
        for key in numbers
    }


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
