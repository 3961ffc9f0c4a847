"""Rows of several files one after another, for samples of different lengths."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import Any, final

import numpy as np

from pde_data.arrays import FieldArray


@final
class JoinedRows(FieldArray):
    """Arrays of one inner shape and type, one after another, each with a number added to its values."""

    def __init__(self, parts: Sequence[FieldArray], offsets: Sequence[int]):
        self.parts = list(parts)
        self.offsets = list(offsets)
        self.shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
        self.dtype = parts[0].dtype
        self._starts = [0, *itertools.accumulate(len(part) for part in parts)]

    def sample(self, index: int) -> np.ndarray:
        """One row."""
        return self[index : index + 1][0]

    def __getitem__(self, key: Any) -> np.ndarray:
        """Consecutive rows are read part by part, others one by one."""
        rows, *rest = key if isinstance(key, tuple) else (key,)
        if not isinstance(rows, slice) or rows.indices(self.shape[0])[2] != 1:
            return super().__getitem__(key)
        start, stop, _ = rows.indices(self.shape[0])
        first = bisect.bisect_right(self._starts, start) - 1
        found = []
        for part in range(first, len(self.parts)):
            low, high = start - self._starts[part], stop - self._starts[part]
            if part > first and high <= 0:
                break
            values = self.parts[part][(slice(max(low, 0), max(high, 0)), *rest)]
            found.append(values + self.dtype.type(self.offsets[part]) if self.offsets[part] else values)
        return np.concatenate(found)
