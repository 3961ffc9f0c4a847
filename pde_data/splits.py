"""Which samples are for training, validation and test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

SPLITS = ("train", "valid", "test")
_DIGITS = 6


def split_mask(ids: Iterable[int], split: str, fractions: Sequence[float], seed: int) -> np.ndarray:
    """Mark the samples of one split; a sample keeps its split when the set grows.

    Each sample number is hashed to a point of [0, 1), which the fractions cut. The hash is stratified: of
    ten samples from a multiple of ten on, each tenth of the interval gets one, of a hundred each hundredth,
    and so on, so that small sets are divided evenly too. (Nested random permutation of digits, as in A. B.
    Owen's scrambled nets of 1995, but with other permutations in each block.)

    >>> [int(split_mask(range(30), name, (0.8, 0.1, 0.1), seed=0).sum()) for name in SPLITS]
    [24, 3, 3]
    """
    if split not in SPLITS:
        raise ValueError(
            f"split={split!r} is unknown; expected one of {', '.join(map(repr, SPLITS))} or None"
        )
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-9:
        raise ValueError(
            f"fractions={tuple(fractions)} should be three numbers (train, valid, test) that sum to 1"
        )
    edges = np.concatenate([[0.0], np.cumsum(fractions)])
    edges[-1] = 1.0
    points = _points(np.asarray(list(ids), dtype=np.int64), seed)
    place = SPLITS.index(split)
    return (edges[place] <= points) & (points < edges[place + 1])


def _points(numbers: np.ndarray, seed: int) -> np.ndarray:
    # Half of a unit in the last digit keeps points off the edges.
    values = np.full(len(numbers), 0.5 * 10.0**-_DIGITS)
    prefix = np.zeros(len(numbers), dtype=np.uint64)
    key = _mix(np.asarray([seed], dtype=np.int64).astype(np.uint64))
    for place in range(_DIGITS):
        numbers, digits = np.divmod(numbers, 10)
        # Keyed by the block of ten, so that no residue of the sample number is always in one split.
        block = _mix(_mix(key + prefix) + numbers.astype(np.uint64))
        hashes = _mix(block[:, None] + np.arange(10, dtype=np.uint64))
        ranks = (hashes < np.take_along_axis(hashes, digits[:, None], axis=1)).sum(axis=1)
        values += ranks * 10.0 ** -(place + 1)
        prefix = prefix * np.uint64(10) + ranks.astype(np.uint64) + np.uint64(1)
    return values


def _mix(x: np.ndarray) -> np.ndarray:
    """Hash of unsigned 64-bit integers: the SplitMix64 step (Steele, Lea and Flood, OOPSLA 2014)."""
    # An own hash and not a random generator, whose streams may change between NumPy versions.
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
