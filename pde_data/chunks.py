"""Samples of HDF5 variables that are stored in chunks, with little between the file and the array."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np

from pde_data.storage import DatasetError


def read(dataset: Any, key: Any, sample: int) -> np.ndarray:
    """Values of an open HDF5 variable; `DatasetError` where a checksum or a compressed chunk is wrong."""
    try:
        return dataset[key]
    except OSError as error:
        raise _damaged(dataset, sample, error) from error


def _damaged(dataset: Any, sample: int, error: OSError) -> DatasetError:
    return DatasetError(
        f"{dataset.file.filename}: {dataset.name.lstrip('/')!r} of sample {sample} cannot be read, its "
        f"checksum or its compressed bytes are wrong ({error}); the file is damaged, copy it again or leave "
        "the sample out"
    )


@final
class Row:
    """One sample of an open HDF5 variable, read when sliced."""

    def __init__(self, dataset: Any, index: int):
        self._dataset = dataset
        self._index = index

    def __getitem__(self, key: Any) -> np.ndarray:
        key = key if isinstance(key, tuple) else (key,)
        return read(self._dataset, (self._index, *key), self._index)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(read(self._dataset, self._index, self._index), dtype)


def arranged(values: np.ndarray, axes: Sequence[int | None], shape: Sequence[int]) -> np.ndarray:
    """View `values`, whose axes are those in `axes` in increasing order, in the order of `axes`.

    `None` stands for an axis along which the values repeat.
    """
    kept = sorted(axis for axis in axes if axis is not None)
    values = values.transpose([kept.index(axis) for axis in axes if axis is not None])
    if len(kept) == len(axes):
        return values
    return np.broadcast_to(values[tuple(None if a is None else slice(None) for a in axes)], shape)


@final
class Selection:
    """One sample of an open HDF5 variable whose axes have another order, or are not all used."""

    def __init__(
        self,
        dataset: Any,
        fixed: Mapping[int, int],
        axes: Sequence[int | None],
        shape: Sequence[int],
        sample: int,
    ):
        self._dataset = dataset
        self._fixed = fixed
        self._axes = axes
        self._shape = shape
        self._sample = sample

    def __getitem__(self, key: Any) -> np.ndarray:
        key = key if isinstance(key, tuple) else (key,)
        key += (slice(None),) * (len(self._axes) - len(key))
        selection: dict[int, Any] = dict(self._fixed)
        left, shape = [], []
        for axis, size, k in zip(self._axes, self._shape, key):
            if axis is not None:
                selection[axis] = k
            if isinstance(k, slice):
                left.append(axis)
                shape.append(len(range(size)[k]))
        key = tuple(selection[axis] for axis in range(len(selection)))
        return arranged(read(self._dataset, key, self._sample), left, shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[()], dtype)


@final
class MappedChunks:
    """A variable whose chunks, each a sample or a frame, are stored as they are: the mapped file, and where.

    Reading is copying, as for contiguous variables.
    """

    def __init__(self, buffer: mmap.mmap, offsets: np.ndarray, block: tuple[int, ...], dtype: np.dtype):
        self._buffer = buffer
        self._offsets = offsets
        self._block = block
        self._dtype = dtype

    def __getitem__(self, sample: int) -> Any:
        offsets = self._offsets[sample]
        return self.block(offsets) if offsets.ndim == 0 else _Frames(self, offsets)

    def block(self, offset: int) -> np.ndarray:
        """Read-only view of the chunk at an offset."""
        return np.ndarray(self._block, self._dtype, self._buffer, offset)


@final
class _Frames:
    """One sample of `MappedChunks`, a frame to a chunk."""

    def __init__(self, source: MappedChunks, offsets: np.ndarray):
        self._source = source
        self._offsets = offsets

    def __getitem__(self, key: Any) -> np.ndarray:
        first, *rest = key if isinstance(key, tuple) else (key,)
        if isinstance(first, int | np.integer):
            return self._source.block(self._offsets[first])[tuple(rest)]
        frames = [self._source.block(offset)[tuple(rest)] for offset in self._offsets[first].tolist()]
        return np.stack(frames) if frames else np.asarray(self)[key]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        frames = [self._source.block(offset) for offset in self._offsets.tolist()]
        return np.stack(frames).astype(dtype, copy=False)


def map_chunks(path: str | os.PathLike, dataset: Any) -> MappedChunks | None:
    """Map the chunks of a variable; None where they are filtered, missing, or no whole samples or frames.

    Raises `DatasetError` for chunks beyond the end of the file.
    """
    if dataset.id.get_create_plist().get_nfilters() or dataset.file.userblock_size or not dataset.size:
        return None
    leading = 1 if dataset.chunks == (1, *dataset.shape[1:]) else 2
    if dataset.chunks != (1,) * leading + dataset.shape[leading:]:
        return None
    offsets = np.full(dataset.shape[:leading], -1, np.int64)

    def place(chunk: Any) -> None:
        offsets[chunk.chunk_offset[:leading]] = chunk.byte_offset

    dataset.id.chunk_iter(place)
    if (offsets < 0).any():  # HDF5 gives the fill value there
        return None
    size = dataset.dtype.itemsize * int(np.prod(dataset.chunks))
    with open(path, "rb") as file:
        if int(offsets.max()) + size > os.fstat(file.fileno()).st_size:
            raise DatasetError(f"{path}: {dataset.name!r} goes on beyond the end of the file; it is damaged")
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return MappedChunks(buffer, offsets, dataset.shape[leading:], dataset.dtype)
