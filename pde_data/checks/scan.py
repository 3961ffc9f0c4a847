"""One pass over all values: numbers of every frame, in memory that does not grow with the fields."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from pde_data.arrays import FieldArray

BUCKETS = 32
_BLOCK = 2**23  # values in memory at a time


@final
@dataclass(frozen=True)
class FrameNumbers:
    """What is remembered of one field: arrays `(sample, frame)`, with one frame where it has no time axis.

    `bad` counts NaN and infinity, `low`, `high`, `mean_square` are of the finite values, `digest` is a hash
    of the bytes, and `change` `(sample, frame - 1)` the root mean square of the difference to the frame
    before. `sketch` `(sample, 3 * BUCKETS)` are random projections of the first, middle and last frame that
    keep distances.
    """

    bad: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mean_square: np.ndarray
    digest: np.ndarray
    change: np.ndarray
    sketch: np.ndarray

    @property
    def constant(self) -> np.ndarray:
        """Frames with one and the same value everywhere."""
        return (self.low == self.high) & (self.bad == 0)


Scan = dict[str, FrameNumbers]


def scan(
    fields: Mapping[str, FieldArray], over_time: Mapping[str, bool], progress: Callable[[int], None]
) -> Scan:
    """Read every field once, sample by sample; `progress` is told of each finished sample of a field."""
    return {name: _field(array, over_time[name], progress) for name, array in fields.items()}


def _field(array: FieldArray, over_time: bool, progress: Callable[[int], None]) -> FrameNumbers:
    count = array.shape[0]
    frames = array.shape[1] if over_time else 1
    size = int(np.prod(array.shape[1 + over_time :]))
    shape = (count, frames)
    result = FrameNumbers(
        bad=np.zeros(shape, np.int64),
        low=np.full(shape, np.nan),
        high=np.full(shape, np.nan),
        mean_square=np.full(shape, np.nan),
        digest=np.zeros(shape, np.uint64),
        change=np.full((count, max(frames - 1, 0)), np.nan),
        sketch=np.zeros((count, 3 * BUCKETS)),
    )
    # Count sketch (Charikar, Chen and Farach-Colton, 2002): a random bucket and sign for each point.
    rng = np.random.default_rng(0)
    bucket, sign = rng.integers(0, BUCKETS, size), rng.integers(0, 2, size) * 2.0 - 1.0
    step = max(1, _BLOCK // max(size, 1))
    for sample in range(count):
        values = array.sample(sample)
        before = None
        for start in range(0, frames, step):
            block = _block(values, over_time, start, step)
            _measure(result, sample, start, block, before)
            for part, frame in enumerate((0, frames // 2, frames - 1)):
                if start <= frame < start + len(block):
                    weights = sign * np.nan_to_num(block[frame - start])
                    place = slice(part * BUCKETS, (part + 1) * BUCKETS)
                    result.sketch[sample, place] = np.bincount(bucket, weights, BUCKETS)
            before = block[-1].copy()
        progress(1)
    return result


def _block(values: Any, over_time: bool, start: int, step: int) -> np.ndarray:
    """Frames `(frame, point)` in their own type."""
    block = np.asarray(values[start : start + step] if over_time else values)
    return np.ascontiguousarray(block).reshape(block.shape[0] if over_time else 1, -1)


def _measure(
    result: FrameNumbers, sample: int, start: int, block: np.ndarray, before: np.ndarray | None
) -> None:
    place = (sample, slice(start, start + len(block)))
    result.digest[place] = [
        int.from_bytes(hashlib.blake2b(frame.tobytes(), digest_size=8).digest(), "little") for frame in block
    ]
    values = block.astype(np.float64)
    finite = np.isfinite(values)
    result.bad[place] = (~finite).sum(1)
    if not finite.all():
        values[~finite] = np.nan
    good = finite.any(1)
    part = values[good]
    rows = start + np.flatnonzero(good)
    result.low[sample, rows] = np.nanmin(part, axis=1)
    result.high[sample, rows] = np.nanmax(part, axis=1)
    result.mean_square[sample, rows] = np.nanmean(part**2, axis=1)
    if len(values) > 1:
        result.change[sample, start : start + len(values) - 1] = _rms(np.diff(values, axis=0))
    if before is not None:
        result.change[sample, start - 1] = _rms((values[0] - before.astype(np.float64))[None])[0]


def _rms(difference: np.ndarray) -> np.ndarray:
    # NaN stays NaN: such frames are reported as such, and not compared.
    return np.sqrt((difference**2).mean(axis=1))
