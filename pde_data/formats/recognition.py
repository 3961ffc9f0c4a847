"""What a file is, told from its content: verdicts with reasons, and one look at an HDF5 file for all."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any, TypeVar, final

from pde_data.formats.hdf5 import is_hdf5
from pde_data.safety import safe_open

_ROOT_ITEMS = 200  # of a root with more, the first ones tell the format

Result = TypeVar("Result")


@final
@dataclass(frozen=True)
class Verdict:
    """Whether content is of a format, and what spoke for or against it; true when it is."""

    fits: bool
    reason: str

    def __bool__(self) -> bool:
        return self.fits


@final
@dataclass(frozen=True)
class Layout:
    """What the root of an HDF5 file holds.

    `datasets` gives shapes, `scales` the names that are dimensions of netCDF-4, `matlab` those that MATLAB
    wrote.
    """

    datasets: Mapping[str, tuple[int, ...]]
    groups: tuple[str, ...]
    attributes: Mapping[str, Any]
    scales: frozenset[str]
    matlab: frozenset[str]

    def __str__(self) -> str:
        shown = [f"{name} {shape}" for name, shape in itertools.islice(self.datasets.items(), 8)]
        more = len(self.datasets) - len(shown)
        shown += [f"{more} more"] if more > 0 else []
        groups = [f"group {name}" for name in self.groups[:4]]
        more = len(self.groups) - len(groups)
        return ", ".join(shown + groups + ([f"{more} more groups"] if more > 0 else [])) or "nothing"


def once_per_file(function: Callable[[Path], Result]) -> Callable[[Path], Result]:
    """Keep the last results of a look at a file, until the file is another one."""

    @lru_cache(maxsize=8)
    def look(path: Path, *stamp: int) -> Result:
        return function(path)

    @wraps(function)
    def cached(path: Path) -> Result:
        status = path.stat()
        return look(path, status.st_ino, status.st_size, status.st_mtime_ns)

    return cached


@once_per_file
def hdf5_layout(path: Path) -> Layout | None:
    """Look at the root of an HDF5 file; `None` for other files; raises like `safe_open`."""
    if not is_hdf5(path):
        return None
    with safe_open(path) as file:
        return _layout(file)


def _layout(file: Any) -> Layout:
    import h5py

    datasets, groups, scales, matlab = {}, [], set(), set()
    for name in itertools.islice(file, _ROOT_ITEMS):
        item = file[name]
        if isinstance(item, h5py.Group):
            groups.append(name)
        elif isinstance(item, h5py.Dataset) and item.shape is not None:
            datasets[name] = item.shape
            scales |= {name} if item.is_scale else set()
            matlab |= {name} if "MATLAB_class" in item.attrs else set()
    attributes = {key: file.attrs[key] for key in itertools.islice(file.attrs, _ROOT_ITEMS)}
    return Layout(datasets, tuple(groups), attributes, frozenset(scales), frozenset(matlab))
