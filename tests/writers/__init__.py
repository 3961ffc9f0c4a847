"""Files in the exact layout of each format, by writers that know nothing of the readers.

Each module has `CASES`; a new format is one module, and its cases join the test and the printed table.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr


@dataclass(frozen=True)
class Case:
    """A file or folder to write, and the dataset that should be read from it.

    `write(path, rng)` makes what is at `path`, in a folder that is empty but for it, and returns the dataset
    with dimensions in our order. `file` is the name, where that belongs to the format.
    """

    name: str
    write: Callable[[Path, np.random.Generator], xr.Dataset]
    file: str = "data"


def every_case() -> tuple[Case, ...]:
    """All cases of all modules here, in the order of their names."""
    modules = (
        importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)
    )
    return tuple(case for module in modules for case in module.CASES)


def differences(found: xr.Dataset, expected: xr.Dataset) -> list[str]:
    """Where a dataset is not the expected one: names, axes, types, values, and the attributes expected."""
    problems = [
        f"{role} {sorted(set(a) ^ set(b))} on one side only"
        for role, a, b in (
            ("variables", found.data_vars, expected.data_vars),
            ("coordinates", found.coords, expected.coords),
        )
        if set(a) != set(b)
    ]
    for name in sorted(set(found.variables) & set(expected.variables)):
        a, b = found[name], expected[name]
        if a.dims != b.dims or a.shape != b.shape:
            problems.append(
                f"{name} has axes {dict(zip(a.dims, a.shape))}, expected {dict(zip(b.dims, b.shape))}"
            )
        elif a.dtype.newbyteorder("=") != b.dtype:
            problems.append(f"{name} has type {a.dtype}, expected {b.dtype}")
        elif not _equal(a, b):
            wrong = int((a.values != b.values).sum())
            problems.append(f"{name} differs in {wrong} of {b.size} values")
        problems += _attributes(f"{name}:", a.attrs, b.attrs)
    return problems + _attributes(":", found.attrs, expected.attrs)


def _equal(found: xr.DataArray, expected: xr.DataArray) -> bool:
    if found.dims == (found.name,):
        # Where a reader makes coordinates, i (L/n) and (i/n) L differ by rounding.
        return np.allclose(found.values, expected.values, rtol=1e-14, atol=1e-14)
    return np.array_equal(found.values, expected.values, equal_nan=found.dtype.kind == "f")


def _attributes(where: str, found: dict, expected: dict) -> list[str]:
    return [
        f"{where}{key} is {found.get(key)!r}, expected {value!r}"
        for key, value in expected.items()
        if not np.array_equal(found.get(key), value)
    ]
