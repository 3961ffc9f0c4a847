"""Arrays of Zarr folders, opened by each process for itself."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, final

import numpy as np

from pde_data.arrays import FieldArray
from pde_data.storage import DatasetError


@final
class ZarrArray(FieldArray):
    """An array of a Zarr group, read a sample at a time; pickles hold the path.

    `axes` are the axes of the store in the order of this array; `None` in front says that all of the array is
    one sample.
    """

    def __init__(
        self,
        root: Path,
        name: str,
        shape: Sequence[int],
        dtype: Any,
        axes: Sequence[int | None] | None = None,
    ):
        self.root = root
        self.name = name
        self.shape = tuple(shape)
        self.dtype = np.dtype(dtype)
        self.axes = tuple(range(len(self.shape)) if axes is None else axes)

    def sample(self, index: int) -> np.ndarray:
        """See `FieldArray`."""
        at, *rest = self.axes
        inner = [axis for axis in rest if axis is not None]
        place = slice(None) if at is None else (slice(None),) * at + (index,)
        try:
            array = _open(self.root, os.getpid())[self.name]
            values = np.asarray(array[place])
        except Exception as error:  # each codec has exceptions of its own
            raise DatasetError(
                f"{self.root}: {self.name!r} cannot be read at {index} ({type(error).__name__}: {error}); a "
                "chunk is damaged, write or download the folder again"
            ) from error
        order = sorted(inner)
        return values.transpose([order.index(axis) for axis in inner])

    @property
    def costly(self) -> bool:
        """See `FieldArray`."""
        return True


@lru_cache(maxsize=8)
def _open(root: Path, process: int) -> Any:
    try:
        import zarr
    except ImportError as error:
        raise DatasetError(f"{root} is a Zarr folder; pip install zarr to read it") from error
    return zarr.open_group(root, mode="r", use_consolidated=False)
