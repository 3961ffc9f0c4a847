"""Which samples are for training, validation and test."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from hashlib import blake2b

import numpy as np

SPLITS = ("train", "valid", "test")
_DIGITS = 6


def split_mask(ids: Iterable[int], split: str, fractions: Sequence[float], seed: int) -> np.ndarray:
    """Mark the samples of one split; a sample keeps its split when the set grows.

    Each sample number becomes a point of [0, 1) and the fractions cut that interval. The points are a van der
    Corput sequence in base 10 under nested (Owen) scrambling keyed by the seed: as random as a hash to the eye,
    but every ten samples in a row hold one point in each tenth, so that small sets are split evenly too.
    Source: A. B. Owen, Randomly permuted (t,m,s)-nets and (t,s)-sequences, 1995.

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
    points = np.array([_point(int(number), seed) for number in ids])
    place = SPLITS.index(split)
    # Half of the last digit keeps points off the edges.
    return (edges[place] <= points) & (points < edges[place + 1])


def _point(number: int, seed: int) -> float:
    value, prefix = 0.5 * 10.0**-_DIGITS, ()
    for place in range(_DIGITS):
        number, digit = divmod(number, 10)
        value += _permutation(seed, prefix)[digit] * 10.0 ** -(place + 1)
        prefix += (digit,)
    return value


@cache
def _permutation(seed: int, prefix: tuple[int, ...]) -> tuple[int, ...]:
    # By hash and not by a random generator, whose streams may change between NumPy versions.
    return tuple(
        np.argsort([blake2b(repr((seed, prefix, d)).encode(), digest_size=8).hexdigest() for d in range(10)])
    )
