"""Arrays made of other arrays, lazily: joined, changed on the way, their axes in another order."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np

from pde_data.arrays import FieldArray, FileArray, MemoryArray
from pde_data.raw import RawArray
from pde_data.zarr_array import ZarrArray


@final
class JoinedArray(FieldArray):
    """Arrays of one inner shape and type, one after the other along the sample axis."""

    def __init__(self, parts: Sequence[FieldArray]):
        self.parts = list(parts)
        self.shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
        self.dtype = parts[0].dtype
        self._starts = [0, *itertools.accumulate(len(part) for part in parts)]

    def sample(self, index: int) -> Any:
        """See `FieldArray`."""
        part = bisect.bisect_right(self._starts, index) - 1
        return self.parts[part].sample(index - self._starts[part])

    @property
    def costly(self) -> bool:
        """See `FieldArray`."""
        return any(part.costly for part in self.parts)


@final
class DerivedArray(FieldArray):
    """A function of the samples of other arrays, computed each time that a sample is read.

    `function` takes one sample of each source, as an ndarray, and gives one of shape `inner`; it must pickle.
    `elementwise` says that it treats each number of a single source alike, so that axes may be exchanged
    before it.
    """

    def __init__(
        self,
        sources: Sequence[FieldArray],
        function: Callable[..., np.ndarray],
        inner: Sequence[int],
        dtype: Any,
        elementwise: bool = False,
    ):
        self.sources = list(sources)
        self.elementwise = elementwise
        self.function = function
        self.shape = (len(sources[0]), *inner)
        self.dtype = np.dtype(dtype)

    def sample(self, index: int) -> np.ndarray:
        """See `FieldArray`."""
        return self.function(*(np.asarray(source.sample(index)) for source in self.sources))

    @property
    def costly(self) -> bool:
        """See `FieldArray`."""
        return True


def channel(source: FieldArray, index: int, axis: int) -> FieldArray:
    """One entry of an inner axis, counted with the sample axis as 0."""
    inner = source.shape[1:axis] + source.shape[axis + 1 :]
    return DerivedArray([source], _Take(index, axis - 1), inner, source.dtype)


def reordered(source: FieldArray, axes: Sequence[int]) -> FieldArray:
    """An array with its axes in another order, `axes[0]` being that of the samples.

    Lazy where the samples stay the first axis, and for arrays of a single file, which know how to do it.
    """
    shape = [source.shape[axis] for axis in axes]
    if list(axes) == sorted(axes):
        return source
    if isinstance(source, MemoryArray):
        return MemoryArray(np.ascontiguousarray(source[:].transpose(axes)))
    if isinstance(source, RawArray):
        strides = [source.strides[axis] for axis in axes]
        return RawArray(source.path, shape, source.dtype, source.offset, strides)
    if isinstance(source, FileArray) and len(source.paths) == 1:
        order = [source.axes[axis] for axis in axes]
        return FileArray(source.paths, source.names, shape[:1], shape[1:], source.dtype, order, source.fixed)
    if isinstance(source, ZarrArray):
        order = [source.axes[axis] for axis in axes]
        return ZarrArray(source.root, source.name, shape, source.dtype, order)
    if isinstance(source, DerivedArray) and source.elementwise:
        inner = reordered(source.sources[0], axes)
        return DerivedArray([inner], source.function, shape[1:], source.dtype, elementwise=True)
    if axes[0] == 0:
        return DerivedArray([source], _Transpose([axis - 1 for axis in axes[1:]]), shape[1:], source.dtype)
    return MemoryArray(np.ascontiguousarray(source[:].transpose(axes)))


def alone(source: FieldArray) -> FieldArray:
    """An array without a sample axis as the only sample of a set."""
    shape = (1, *source.shape)
    if isinstance(source, RawArray):
        strides = (source.dtype.itemsize, *source.strides)
        return RawArray(source.path, shape, source.dtype, source.offset, strides)
    if isinstance(source, FileArray) and len(source.paths) == 1:
        axes = (None, *source.axes)
        return FileArray(source.paths, source.names, [1], source.shape, source.dtype, axes, source.fixed)
    if isinstance(source, ZarrArray):
        return ZarrArray(source.root, source.name, shape, source.dtype, (None, *source.axes))
    if isinstance(source, DerivedArray) and source.elementwise:
        inner = alone(source.sources[0])
        return DerivedArray([inner], source.function, source.shape, source.dtype, elementwise=True)
    return MemoryArray(source[:][None])


# Named, since lambdas do not pickle.
@final
class _Take:
    def __init__(self, index: int, axis: int):
        self.key = (slice(None),) * axis + (index,)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return values[self.key]


@final
class _Transpose:
    def __init__(self, axes: Sequence[int]):
        self.axes = tuple(axes)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return values.transpose(self.axes)
