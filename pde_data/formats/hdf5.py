"""What the readers of HDF5 files share: looking inside, checking what they find, and leaving it on disk."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pde_data.arrays import FileArray
from pde_data.storage import DatasetError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MOST_IN_MEMORY = 2**28  # bytes of a coordinate or parameter, which are read at once


def is_hdf5(path: Path) -> bool:
    """Whether the signature of HDF5 stands at byte 0, or after a user block of 512, 1024, 2048, ... bytes."""
    if not path.is_file():
        return False
    size = path.stat().st_size
    with path.open("rb") as file:
        for start in (0, *(512 << shift for shift in range(12))):
            if start + len(SIGNATURE) > size:
                return False
            file.seek(start)
            if file.read(len(SIGNATURE)) == SIGNATURE:
                return True
    return False


def texts(value: Any) -> list[str]:
    """The strings in an attribute that lists some; text alone is a list of one."""
    listed = [value] if isinstance(value, str | bytes) else np.asarray(value).ravel().tolist()
    return [item.decode() if isinstance(item, bytes) else str(item) for item in listed]


def number(attribute: Any) -> float | None:
    """A finite real number, or `None` for anything else."""
    if isinstance(attribute, bool) or not isinstance(attribute, int | float | np.number):
        return None
    return float(attribute) if math.isfinite(attribute) else None


def holds(group: Any, *names: str) -> bool:
    """Whether all of these are variables of a file or group."""
    return all(hasattr(group.get(name), "shape") for name in names)


def variable(group: Any, name: str, path: Path, layout: str, ranks: Iterable[int] = ()) -> Any:
    """A variable of real numbers; `DatasetError` when it is missing, of another kind or another rank."""
    found = group.get(name)
    where = f"{path}: {group.name.rstrip('/')}/{name}"
    if getattr(found, "shape", None) is None:
        listed = ", ".join(group) or "nothing"
        raise DatasetError(f"{where} is missing, which belongs to {layout}; there is {listed[:300]}")
    if found.dtype.kind not in "fiub":
        raise DatasetError(f"{where} has type {found.dtype}, expected real numbers")
    ranks = tuple(ranks)
    if ranks and found.ndim not in ranks:
        raise DatasetError(
            f"{where} has shape {found.shape}, expected {' or '.join(map(str, ranks))} axes in {layout}"
        )
    if 0 in found.shape:
        raise DatasetError(f"{where} has shape {found.shape}, so no values; write or download it again")
    return found


def values(group: Any, name: str, path: Path, layout: str, ranks: Iterable[int] = ()) -> np.ndarray:
    """Values of a small variable, in memory; raises like `variable`, and when it is not small."""
    found = variable(group, name, path, layout, ranks)
    if found.nbytes > _MOST_IN_MEMORY:
        raise DatasetError(
            f"{path}: {found.name} has {found.nbytes:,} bytes, too many for a coordinate or parameter"
        )
    return found[()]


def lazily(
    path: Path,
    item: Any,
    axes: Sequence[int | None] | None = None,
    fixed: Mapping[int, int] | None = None,
    sizes: Sequence[int] = (),
) -> FileArray:
    """Leave a variable on disk, samples first; `axes` and `fixed` as in `FileArray`.

    `sizes` are those of the axes that are `None`, in their order.
    """
    axes = tuple(range(item.ndim) if axes is None else axes)
    missing = iter(sizes)
    count, *inner = (next(missing) if axis is None else item.shape[axis] for axis in axes)
    return FileArray([path], item.name, [count], inner, item.dtype, axes, fixed)
