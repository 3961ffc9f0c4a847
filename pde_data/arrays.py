"""Where values of a field come from: memory, files, or another grid; always by sample and frame."""

from __future__ import annotations

import bisect
import itertools
import os
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from pde_data.chunks import MappedChunks, Row, Selection, arranged, map_chunks
from pde_data.safety import safe_open
from pde_data.storage import DatasetError


class FieldArray(ABC):
    """Numeric values with the sample axis first, read when asked and safe to pickle and to fork."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @abstractmethod
    def sample(self, index: int) -> Any:
        """Values of one sample, as an ndarray or something that slices into one."""

    @property
    def rows(self) -> np.ndarray | None:
        """All samples as one C-contiguous array, where memory or a mapped file holds such."""
        return None

    def block(self, start: int, stop: int) -> np.ndarray | None:
        """Consecutive samples in one read, where a file allows that."""
        return None

    @property
    def costly(self) -> bool:
        """Whether a read costs more than copying, so that one of more frames is better than two."""
        return False

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Read by integers, slices and lists of integers, each axis on its own (outer indexing)."""
        key = key if isinstance(key, tuple) else (key,)
        key += (slice(None),) * (len(self.shape) - len(key))
        first, rest = key[0], key[1:]
        if isinstance(first, int | np.integer):
            return _outer(self.sample(range(self.shape[0])[first]), rest)
        if isinstance(first, slice):
            if (whole := self.rows) is not None:
                return np.array(_outer(whole, key))
            start, stop, step = first.indices(self.shape[0])
            everything = all(isinstance(k, slice) and k == slice(None) for k in rest)
            if step == 1 and everything and (block := self.block(start, max(start, stop))) is not None:
                return block
        indices = range(self.shape[0])[first] if isinstance(first, slice) else np.asarray(first)
        parts = [_outer(self.sample(int(index)), rest) for index in indices]
        if parts:
            return np.stack(parts)
        return np.empty(
            (0, *_outer(np.broadcast_to(np.zeros((), self.dtype), self.shape[1:]), rest).shape), self.dtype
        )


def _outer(values: Any, key: tuple) -> np.ndarray:
    # h5py takes one list at most, so slices go first and lists after, from the last axis on.
    simple = tuple(k if isinstance(k, int | np.integer | slice) else slice(None) for k in key)
    lists = [k for k in key if not isinstance(k, int | np.integer)]
    values = np.asarray(values[simple])
    for axis, k in enumerate(lists):
        if not isinstance(k, slice):
            values = np.take(values, k, axis=axis)
    return values


@final
class MemoryArray(FieldArray):
    """Values in memory."""

    def __init__(self, values: np.ndarray):
        self._values = values
        self.shape = values.shape
        self.dtype = values.dtype

    def sample(self, index: int) -> np.ndarray:
        """See `FieldArray`."""
        return self._values[index]

    @property
    def rows(self) -> np.ndarray | None:
        """See `FieldArray`."""
        return self._values if self._values.flags.c_contiguous else None


@final
class FileArray(FieldArray):
    """Variables of one or several HDF5 files, joined along the sample axis.

    What is stored as it is, contiguous or a chunk for each sample or frame, is mapped into memory; the rest
    is read through a handle that each process opens for itself. Only paths are pickled.

    Args:
        paths: files, one for each part; the same file may come several times.
        name: name of the variable in all the parts, or one name for each.
        counts: number of samples in each part.
        inner: sizes of the axes after that of the samples.
        dtype: type of the stored values.
        axes: axes of the variable in the order of this array, by default as they are. `None` stands for an
            axis that the variable lacks, along which its values repeat: a variable with a file's only sample
            has no sample axis and the count 1, one that all `n` samples share has the count `n`.
        fixed: axes of the variable that this array leaves out, and the place along each; such are the axis
            of components and the number of the component.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike],
        name: str | Sequence[str],
        counts: Sequence[int],
        inner: Sequence[int],
        dtype: Any,
        axes: Sequence[int | None] | None = None,
        fixed: Mapping[int, int] | None = None,
    ):
        self.paths = [Path(path) for path in paths]
        self.names = [name] * len(paths) if isinstance(name, str) else list(name)
        self.shape = (sum(counts), *inner)
        self.dtype = np.dtype(dtype)
        self.axes = tuple(range(len(self.shape)) if axes is None else axes)
        self.fixed = dict(fixed or {})
        self._starts = [0, *itertools.accumulate(counts)]
        self._parts_in_a_file = len(self.paths) // max(len(set(self.paths)), 1)
        self._maps: dict[int, np.ndarray | MappedChunks | None] = {}

    def sample(self, index: int) -> Any:
        """See `FieldArray`."""
        part = bisect.bisect_right(self._starts, index) - 1
        local = index - self._starts[part]
        mapped = self._mapped(part)
        if mapped is not None:
            return mapped[local]
        dataset = self._open(part)
        if self._plain:
            return Row(dataset, local)
        first, *inner = self.axes
        fixed = self.fixed if first is None else {**self.fixed, first: local}
        return Selection(dataset, fixed, inner, self.shape[1:], local)

    @property
    def rows(self) -> np.ndarray | None:
        """See `FieldArray`."""
        values = self._mapped(0) if len(self.paths) == 1 else None
        return values if isinstance(values, np.ndarray) and values.flags.c_contiguous else None

    def block(self, start: int, stop: int) -> np.ndarray | None:
        """See `FieldArray`."""
        if len(self.paths) > 1 or not self._plain:
            return None
        try:
            return self._open(0)[start:stop]
        except OSError:  # read one by one, the damaged sample gives an error that names it
            return None

    @property
    def costly(self) -> bool:
        """See `FieldArray`."""
        return not isinstance(self._mapped(0), np.ndarray)

    def _mapped(self, part: int) -> np.ndarray | MappedChunks | None:
        if part not in self._maps:
            self._maps[part] = self._map(part)
        return self._maps[part]

    def _map(self, part: int) -> np.ndarray | MappedChunks | None:
        path = self.paths[part]
        if self._parts_in_a_file > 1:  # not opened for each of ten thousand samples
            return self._view(_HANDLES.get(path).file, part)
        with safe_open(path) as file:
            return self._view(file, part)

    def _view(self, file: Any, part: int) -> np.ndarray | MappedChunks | None:
        path, dataset = self.paths[part], self._variable(file, part)
        plain = dataset.dtype.isnative and not dataset.is_virtual
        if plain and dataset.chunks is not None and self._plain:
            return map_chunks(path, dataset)
        offset = dataset.id.get_offset() if plain and dataset.chunks is None else None
        if offset is None:
            return None
        # asarray drops the memmap class, whose every slice costs a microsecond; the mapping stays alive.
        values = np.asarray(np.memmap(path, dataset.dtype, "r", offset, dataset.shape))
        values = values[tuple(self.fixed.get(axis, slice(None)) for axis in range(values.ndim))]
        return arranged(values, self.axes, self._part_shape(part))

    @property
    def _plain(self) -> bool:
        """Whether the variable has the axes of this array, in their order."""
        return not self.fixed and self.axes == tuple(range(len(self.axes)))

    def _part_shape(self, part: int) -> tuple[int, ...]:
        return (self._starts[part + 1] - self._starts[part], *self.shape[1:])

    def _open(self, part: int) -> Any:
        handle = _HANDLES.get(self.paths[part])
        key = (self.names[part], self._part_shape(part), self.dtype, self.axes, *self.fixed.items())
        return handle.variable(key, lambda: self._variable(handle.file, part))

    def _variable(self, file: Any, part: int) -> Any:
        """The variable in an open file, which may be another file by now than the one described."""
        found = file.get(self.names[part])
        sizes = {a: size for a, size in zip(self.axes, self._part_shape(part)) if a is not None}
        shape = getattr(found, "shape", None) or ()
        same = len(shape) == len(sizes) + len(self.fixed) and getattr(found, "dtype", None) == self.dtype
        if not (
            same
            and all(shape[axis] == size for axis, size in sizes.items())
            and all(place < shape[axis] for axis, place in self.fixed.items())
        ):
            expected = tuple(size for _, size in sorted(sizes.items()))
            raise DatasetError(
                f"{self.paths[part]} has changed: it held {self.names[part]!r} of shape {expected} and type "
                f"{self.dtype} when it was opened; open it again"
            )
        return found

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_maps": {}}


@final
class _Handle:
    """An open file, and the last used of its variables that were found to be what was described.

    Some files have thousands of variables, and each one that is open has a cache.
    """

    limit = 32

    def __init__(self, file: Any):
        self.file = file
        self.variables: OrderedDict[tuple, Any] = OrderedDict()

    def variable(self, key: tuple, find: Callable[[], Any]) -> Any:
        if key not in self.variables:
            self.variables[key] = find()
            if len(self.variables) > self.limit:
                self.variables.popitem(last=False)
        self.variables.move_to_end(key)
        return self.variables[key]


@final
class _Handles:
    """The most recently used open files of this process; a forked child opens its own.

    HDF5 keeps up to `cache` bytes of decompressed chunks for each open variable, and a megabyte or so for
    each file: some 40 MB in all.
    """

    limit = 16
    cache = 2**20

    def __init__(self) -> None:
        self._handles: OrderedDict[tuple, _Handle] = OrderedDict()

    def get(self, path: Path) -> _Handle:
        try:
            name = str(path)  # compares faster than a Path
            status = os.stat(name)
            # A file put in its place is another file.
            key = (os.getpid(), name, status.st_ino, status.st_mtime_ns)
            if key not in self._handles:
                self._handles[key] = _Handle(safe_open(path, self.cache))
        except OSError as error:
            raise DatasetError(f"cannot open {path}: {error}") from error
        while len(self._handles) > self.limit:
            self._handles.popitem(last=False)[1].file.close()
        self._handles.move_to_end(key)
        return self._handles[key]


_HANDLES = _Handles()


def check_finite(
    values: np.ndarray, where: str, name: str, sample: int, over_time: bool, remedy: str
) -> None:
    """Raise `DatasetError` when one sample, `([time,] *space)`, of a variable holds NaN or infinity."""
    bad = ~np.isfinite(values)
    if bad.any():
        frame = f" (first in frame {int(np.argwhere(bad)[0][0])})" if over_time else ""
        raise DatasetError(
            f"{where}: variable {name!r} of sample {sample} holds {int(bad.sum())} values that are NaN or "
            f"infinite{frame}; {remedy}"
        )


@final
class MappedArray(FieldArray):
    """Another array with a function applied to each sample, once; the results stay in memory."""

    def __init__(
        self, source: FieldArray, function: Callable[[np.ndarray], np.ndarray], inner: tuple[int, ...]
    ):
        self.source = source
        self._function = function
        self.shape = (source.shape[0], *inner)
        self.dtype = np.dtype(np.float32)
        self._forget()

    def _forget(self) -> None:
        # Pages of an untouched empty array take no memory.
        self._values = np.empty(self.shape, self.dtype)
        self._ready = np.zeros(self.shape[0], bool)

    def sample(self, index: int) -> np.ndarray:
        """See `FieldArray`."""
        if not self._ready[index]:
            self._values[index] = self._function(np.asarray(self.source.sample(index)))
            self._ready[index] = True
        return self._values[index]

    def __getstate__(self) -> dict:
        return {key: value for key, value in self.__dict__.items() if key not in ("_values", "_ready")}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._forget()
