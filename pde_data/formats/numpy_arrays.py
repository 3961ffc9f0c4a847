"""NumPy files: `.npz` archives of named arrays, and the one kind of bare `.npy` that says what it is.

A bare array does not say which of its axes is which, and is given to `FieldDataset.from_arrays`. One layout
is known by its shape: the Kolmogorov flow of the physics-informed neural operator, vorticity (window,
2^k + 1 records, n, n) on [0, 2 pi)^2, where each window continues the one before and repeats its last record.

Pickled objects are never loaded, and no more bytes are read than the header and the file agree on.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, final

import numpy as np

from pde_data.arrays import FieldArray, MemoryArray
from pde_data.formats import axes, named
from pde_data.formats.recognition import Verdict, once_per_file
from pde_data.grids import Grid
from pde_data.raw import RawArray, contiguous
from pde_data.safety import MAX_RATIO, SMALL
from pde_data.sources import coordinate_variables
from pde_data.storage import DatasetError, Schema, Variable

_MAGIC = b"\x93NUMPY"
_FEWEST_RECORDS = 16  # fewer of them on the second axis may well be channels


@final
@dataclass(frozen=True)
class Header:
    """What the first bytes of an `.npy` say."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype
    offset: int

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes], where: str) -> Header:
    """Read the header of an `.npy`; `DatasetError` when it is damaged or announces Python objects."""
    try:
        version = np.lib.format.read_magic(file)
        reader = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran_order, dtype = reader(file, max_header_size=10_000)
    except Exception as error:  # the header is a Python literal: a wrong byte ends anywhere
        raise DatasetError(f"{where} has a damaged header ({error}); write or download it again") from error
    if dtype.hasobject:
        raise DatasetError(
            f"{where} holds pickled Python objects, which are not loaded because that can run code hidden in "
            "the file; save an array of numbers"
        )
    if dtype.kind not in "fiubc":
        raise DatasetError(f"{where} has type {dtype}, expected numbers")
    if any(size < 0 for size in shape):
        raise DatasetError(f"{where} has shape {shape}; its header is damaged")
    return Header(shape, fortran_order, dtype, file.tell())


@once_per_file
def header(path: Path) -> Header | None:
    """Header of an `.npy` file, or `None` for another file; raises like `read_header`."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return None
        file.seek(0)
        return read_header(file, str(path))


def mapped(path: Path, found: Header) -> RawArray:
    """Values of an `.npy` file, which stay there; `DatasetError` when the file is shorter than it says."""
    order = "F" if found.fortran_order else "C"
    strides = contiguous(found.shape, found.dtype.itemsize, order)
    return RawArray(path, found.shape, found.dtype, found.offset, strides)


def recognises_kolmogorov(path: Path) -> Verdict:
    """Whether this is an array in the shape of the PINO Kolmogorov files."""
    found = header(path)
    if found is None:
        return Verdict(False, "no NumPy file")
    shape = found.shape
    records = shape[1] - 1 if len(shape) == 4 else 0
    fits = records >= _FEWEST_RECORDS and records & (records - 1) == 0 and shape[2] == shape[3]
    return Verdict(
        fits and found.dtype.kind == "f",
        f"array of {found.dtype}, shape {shape}; that layout is (window, 2^k + 1 records, n, n)",
    )


def read_kolmogorov(path: Path) -> Schema:
    """Describe the file as `vorticity(sample, time, x, y)`."""
    found = header(path)
    assert found is not None
    values = mapped(path, found)
    count, records, *space = found.shape
    time = Variable(
        ("time",),
        np.linspace(0.0, 1.0, records),
        {"units": "1", "long_name": "time as a fraction of the window"},
    )
    return Schema(
        {
            **axes.samples(count),
            "time": time,
            **coordinate_variables(Grid(tuple(space), lengths=2 * math.pi)),
            "vorticity": Variable(
                ("sample", "time", "x", "y"), values, {"units": "1", "long_name": "vorticity"}
            ),
        },
        {"source": "PINO Kolmogorov flow .npy", "title": path.stem, "inputs": "vorticity"},
    )


def recognises_npz(path: Path) -> Verdict:
    """Whether this is a zip archive of `.npy` files."""
    names = _members(path)
    if names is None:
        return Verdict(False, "no zip archive, or one with other things than .npy files")
    return Verdict(True, f"NumPy archive with {', '.join(names[:12])}")


def read_npz(path: Path) -> Schema:
    """Describe the arrays by the coordinates among them; see `pde_data.formats.named`."""
    return named.describe(_load(path), str(path), {"source": "NumPy .npz", "title": path.stem})


def _members(path: Path) -> list[str] | None:
    if not path.is_file() or not zipfile.is_zipfile(path):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError):
        return None
    return names if names and all(name.endswith(".npy") for name in names) else None


def _load(path: Path) -> Mapping[str, FieldArray]:
    arrays: dict[str, FieldArray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                where = f"{path}: {member.filename!r}"
                if member.file_size > SMALL and member.file_size > MAX_RATIO * member.compress_size:
                    raise DatasetError(
                        f"{where} declares {member.file_size:,} bytes but only {member.compress_size:,} are "
                        "stored; the file is damaged or forged"
                    )
                with archive.open(member) as file:
                    found = read_header(file, where)
                    if found.offset + found.nbytes != member.file_size:
                        raise DatasetError(
                            f"{where} has {member.file_size - found.offset:,} bytes for values of shape "
                            f"{found.shape} and type {found.dtype}; it is damaged"
                        )
                    values = np.frombuffer(
                        file.read(), found.dtype
                    )  # to the end, where the checksum is compared
                order = "F" if found.fortran_order else "C"
                arrays[member.filename.removesuffix(".npy")] = MemoryArray(
                    np.atleast_1d(values.reshape(found.shape, order=order))
                )
    except DatasetError:
        raise
    except Exception as error:  # zipfile, zlib and bz2 have exceptions of their own
        raise DatasetError(f"cannot read {path}: {error}; write or download it again") from error
    return arrays
