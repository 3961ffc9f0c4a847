"""MATLAB files: v5 through SciPy, v7.3 as the HDF5 file it is; numeric variables only.

HDF5 shows the axes of a v7.3 variable in reverse; here they are in MATLAB's order, as SciPy gives those of
v5. Cells, structures, text and sparse matrices are passed over. A v5 file is read into memory (its variables
are compressed, or stored with the sample axis fastest), a v7.3 file stays on disk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pde_data.arrays import FieldArray, FileArray, MemoryArray
from pde_data.formats import mat5, named
from pde_data.formats.recognition import Verdict, hdf5_layout, once_per_file
from pde_data.safety import MAX_RATIO, safe_open
from pde_data.storage import DatasetError, Schema

_V5 = (b"\x00\x01IM", b"\x01\x00MI")  # version and byte order, at the end of the header
_NUMERIC = {
    "double",
    "single",
    "logical",
    *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)),
}


def recognises(path: Path) -> Verdict:
    """Whether this is a MATLAB file with numbers in it."""
    shapes = contents(path)
    if shapes is None:
        return Verdict(False, "no header of MATLAB v5, and no HDF5 variables with the attribute MATLAB_class")
    return Verdict(bool(shapes), f"MATLAB file with numeric variables {listed(shapes)}")


def read(path: Path) -> Schema:
    """Describe the variables by the coordinates among them; see `pde_data.formats.named`."""
    return named.describe(variables(path), str(path), {"source": "MATLAB", "title": path.stem})


@once_per_file
def contents(path: Path) -> Mapping[str, tuple[int, ...]] | None:
    """Shapes of the numeric variables in MATLAB's order of axes; `None` when this is no MATLAB file."""
    if _is_v5(path):
        return _v5_shapes(path)
    layout = hdf5_layout(path)
    if layout is None or not (layout.matlab or _header(path).startswith(b"MATLAB 7.3")):
        return None
    return {name: shape[::-1] for name, shape in layout.datasets.items()}


def variables(path: Path) -> dict[str, FieldArray]:
    """Numeric variables with the axes that MATLAB gives them; complex ones of v7.3 as pairs (real, imag)."""
    return _v5(path) if _is_v5(path) else _v73(path)


def listed(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Names and shapes, for messages."""
    return ", ".join(f"{name} {tuple(shape)}" for name, shape in list(shapes.items())[:12]) or "none"


def _header(path: Path) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(128)


def _is_v5(path: Path) -> bool:
    return _header(path)[124:128] in _V5


def _v5_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    return {name: shape for name, shape, _ in _v5_contents(path)}


def _v5_kinds(path: Path) -> dict[str, str]:
    return {name: kind for name, _, kind in _v5_contents(path)}


def _v5_contents(path: Path) -> list[tuple[str, tuple[int, ...], str]]:
    import scipy.io

    mat5.check(path, "little" if _header(path)[126:128] == b"IM" else "big")
    try:
        found = scipy.io.whosmat(path)
    except Exception as error:  # what a damaged file ends in depends on the byte that is wrong
        raise DatasetError(_damaged(path, error)) from error
    found = [(name, tuple(shape), kind) for name, shape, kind in found if kind in _NUMERIC]
    total = sum(math.prod(shape) for _, shape, _ in found)
    if total > MAX_RATIO * path.stat().st_size or any(size < 0 for _, shape, _ in found for size in shape):
        raise DatasetError(f"{path} declares {total:,} numbers; it is damaged or forged")
    return found


def _v5(path: Path) -> dict[str, FieldArray]:
    import scipy.io

    kinds = _v5_kinds(path)
    try:
        found = scipy.io.loadmat(path, variable_names=list(kinds))
    except Exception as error:
        raise DatasetError(_damaged(path, error)) from error
    arrays: dict[str, FieldArray] = {}
    for name, kind in kinds.items():
        if name in found:
            values = found[name]
            # MATLAB stores whole numbers of type double in fewer bytes.
            if values.dtype.kind in "iu" and kind in ("double", "single"):
                values = values.astype(np.float64 if kind == "double" else np.float32)
            # In memory with the sample axis slowest, as it is read.
            arrays[name] = MemoryArray(np.ascontiguousarray(values))
    return arrays


def _damaged(path: Path, error: Exception) -> str:
    return (
        f"cannot read {path} as a MATLAB file ({type(error).__name__}: {error}); download or write it again"
    )


def _v73(path: Path) -> dict[str, FieldArray]:
    arrays: dict[str, FieldArray] = {}
    with safe_open(path) as file:
        for name, item in file.items():
            shape = getattr(item, "shape", None)
            if not shape or not _is_number(item.dtype) or item.attrs.get("MATLAB_empty", 0):
                continue
            kind = item.attrs.get("MATLAB_class", b"double")
            if kind not in {word.encode() for word in _NUMERIC}:
                continue
            *inner, count = shape
            axes = range(len(shape) - 1, -1, -1)
            arrays[name] = FileArray([path], name, [count], inner[::-1], item.dtype, axes)
    return arrays


def _is_number(dtype: np.dtype) -> bool:
    if dtype.names is not None:
        return dtype.names == ("real", "imag") and all(dtype[name].kind in "fiu" for name in dtype.names)
    return dtype.kind in "fiubc"
