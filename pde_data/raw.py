"""Numbers that lie in a file as they lie in memory, mapped and never copied whole."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from pde_data.arrays import FieldArray
from pde_data.storage import DatasetError


@final
class RawArray(FieldArray):
    """A block of numbers at `offset` in a file, mapped by each process that reads it; pickles hold the path.

    `strides` are in bytes and positive, by default those of C order. Raises `DatasetError` when the file ends
    before the block does, or has changed since it was described.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        shape: Sequence[int],
        dtype: Any,
        offset: int = 0,
        strides: Sequence[int] | None = None,
    ):
        self.path = Path(path)
        self.shape = tuple(int(size) for size in shape)
        self.dtype = np.dtype(dtype)
        self.offset = offset
        self.strides = tuple(strides or contiguous(self.shape, self.dtype.itemsize))
        reach = sum((size - 1) * stride for size, stride in zip(self.shape, self.strides))
        self._end = offset + (reach + self.dtype.itemsize if 0 not in self.shape else 0)
        self._stamp = _stamp(self.path)
        if self._end > self._stamp[0]:
            raise DatasetError(
                f"{self.path} is truncated: values of shape {self.shape} and type {self.dtype} end at byte "
                f"{self._end:,}, the file has {self._stamp[0]:,}; download or write it again"
            )
        self._values: np.ndarray | None = None

    def sample(self, index: int) -> np.ndarray:
        """See `FieldArray`."""
        return self._mapped()[index]

    @property
    def rows(self) -> np.ndarray | None:
        """See `FieldArray`."""
        values = self._mapped()
        return values if values.flags.c_contiguous else None

    def _mapped(self) -> np.ndarray:
        if self._values is None:
            if _stamp(self.path) != self._stamp:
                raise DatasetError(f"{self.path} has changed since it was opened; open it again")
            if 0 in self.shape:
                return np.empty(self.shape, self.dtype)
            block = np.memmap(self.path, np.uint8, "r", self.offset, (self._end - self.offset,))
            # From a plain array, since every slice of a memmap costs a microsecond more.
            self._values = np.ndarray(self.shape, self.dtype, np.asarray(block), strides=self.strides)
        return self._values

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_values": None}


def contiguous(shape: Sequence[int], itemsize: int, order: str = "C") -> tuple[int, ...]:
    """Strides in bytes of an array without gaps, its last axis (C) or its first (F) fastest.

    >>> contiguous((2, 3, 4), 8), contiguous((2, 3, 4), 8, "F")
    ((96, 32, 8), (8, 16, 48))
    """
    strides, step = [], itemsize
    for size in reversed(shape) if order == "C" else shape:
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides) if order == "C" else strides)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise DatasetError(f"cannot open {path}: {error}") from error
    return status.st_size, status.st_mtime_ns
