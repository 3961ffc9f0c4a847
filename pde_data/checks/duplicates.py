"""The same sample twice, within a set, across its splits, or in another set."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pde_data.checks.base import Row, Subject, judged, skipped
from pde_data.checks.scan import Scan
from pde_data.splits import SPLITS, split_mask

_NEAR = 1e-3  # of the typical distance between two samples
_SEED = 0  # the split that FieldDataset makes by default
_FRACTIONS = (0.8, 0.1, 0.1)


def duplicated(subject: Subject) -> Iterator[Row]:
    """Samples nearly equal to another one of the set."""
    if subject.count < 2:
        yield skipped("duplicates", "samples", "a single sample")
        return
    pairs = _pairs(subject)
    remedy = f"{_listed(pairs)} are nearly equal; remove one of each, or draw them with different seeds"
    yield judged("duplicates", "samples", len(pairs), 0, remedy)
    shared = _shared(subject.scan)
    remedy = (
        f"{_frames(shared)}: windows of one trajectory, which overlap; cut them apart, split by trajectory"
    )
    yield judged("duplicates", "frames", len(shared), 0, remedy)


def leaked(subject: Subject) -> Iterator[Row]:
    """Nearly equal samples on both sides of a split, or in the set given with `against`."""
    if subject.count > 1:
        split, words = _split(subject)
        across = [(a, b) for a, b in _pairs(subject) if split[a] != split[b]]
        parts = "; ".join(f"{a} ({split[a]}) and {b} ({split[b]})" for a, b in across[:3])
        remedy = (
            f"samples {parts} are nearly equal but on both sides of the split ({words}); remove one of each"
        )
        yield judged("leakage", "splits", len(across), 0, remedy, words)
    else:
        yield skipped("leakage", "splits", "a single sample")
    if subject.against is None:
        return
    other = subject.against
    if {n: v.shape[1:] for n, v in subject.fields.items()} != {
        n: v.shape[1:] for n, v in other.fields.items()
    }:
        yield skipped("leakage", other.name, "it has other fields or another grid")
        return
    here, there = _sketches([subject.scan, other.scan])
    near = _nearest(here, there, _NEAR * _typical(np.concatenate([here, there])))
    remedy = f"{_listed(near)} are nearly equal in the two sets; remove one of each"
    yield judged("leakage", other.name, len(near), 0, remedy)


def _split(subject: Subject) -> tuple[list[str], str]:
    """The split of each sample, from the file or as `FieldDataset` makes it."""
    stored = subject.schema.variables.get("split")
    if stored is not None and stored.dims == ("sample",):
        meanings = str(stored.attributes.get("flag_meanings", "")).split()
        numbers = np.asarray(stored.values).tolist()
        return [meanings[n] if str(n).isdigit() and n < len(meanings) else str(n) for n in numbers], "its own"
    ids = subject.schema.variables["sample"].values if "sample" in subject.schema.variables else None
    ids = ids if ids is not None and np.asarray(ids).dtype.kind in "iu" else np.arange(subject.count)
    split = np.full(subject.count, SPLITS[0], object)
    for name in SPLITS:
        split[split_mask(ids, name, _FRACTIONS, _SEED)] = name
    return split.tolist(), "FieldDataset's default, 80/10/10 with seed 0"


def _pairs(subject: Subject) -> list[tuple[int, int]]:
    """Pairs `(a, b)` with `a < b` of each sample with its nearest one, where that is near."""
    (sketch,) = _sketches([subject.scan])
    found = {(min(p), max(p)) for p in _nearest(sketch, None, _NEAR * _typical(sketch))}
    # Equal bytes are equal also where random projections have no scale, as between two samples alone.
    digests = np.concatenate([numbers.digest for numbers in subject.scan.values()], axis=1)
    first: dict[bytes, int] = {}
    for sample, row in enumerate(digests):
        earlier = first.setdefault(row.tobytes(), sample)
        if earlier != sample:
            found.add((earlier, sample))
    return sorted(found)


def _sketches(scans: list[Scan]) -> list[np.ndarray]:
    """Projections of all fields side by side, each field in units of its deviation over the samples."""
    parts: list[list[np.ndarray]] = [[] for _ in scans]
    for name in scans[0]:
        joint = np.concatenate([each[name].sketch for each in scans])
        scale = np.sqrt(joint.var(axis=0).mean())
        for part, each in zip(parts, scans):
            part.append(each[name].sketch / scale if scale > 0 else np.zeros_like(each[name].sketch))
    return [np.concatenate(part, axis=1) for part in parts]


def _typical(sketch: np.ndarray) -> float:
    """Median distance of two samples, over at most 1000 pairs."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, len(sketch), (2, 1000))
    distance = np.linalg.norm(sketch[a] - sketch[b], axis=1)[a != b]
    return float(np.median(distance)) if distance.size else 0.0


def _nearest(sketch: np.ndarray, other: np.ndarray | None, within: float) -> list[tuple[int, int]]:
    """Pairs of a sample and the nearest of the others, where that is within a distance."""
    from scipy.spatial import KDTree

    if not within > 0:
        return []
    own = other is None
    tree = KDTree(sketch if own else other)
    found = tree.query(sketch, k=2 if own else 1, distance_upper_bound=within)
    distance, index = np.asarray(found[0]), np.asarray(found[1])
    if own:
        # Of the two nearest one is the sample itself, in either place where they are equal.
        itself = index[:, 0] == np.arange(len(sketch))
        distance = np.where(itself, distance[:, 1], distance[:, 0])
        index = np.where(itself, index[:, 1], index[:, 0])
    return [(a, int(index[a])) for a in np.flatnonzero(np.isfinite(distance)).tolist()]


def _shared(scan: Scan) -> list[tuple[int, int, int, int]]:
    """Frames `(a, i, b, j)`: frame i of sample a is frame j of sample b, at another time, and both move."""
    names = [name for name, numbers in scan.items() if numbers.digest.shape[1] > 1]
    if not names:
        return []
    digests = np.stack([scan[name].digest for name in names], axis=-1)
    still = np.zeros(digests.shape[:2], bool)
    for name in names:
        still |= scan[name].constant
    rest = np.all([np.nan_to_num(scan[name].change) == 0 for name in names], axis=0)
    still[:, 1:] |= rest
    still[:, :-1] |= rest
    first: dict[bytes, tuple[int, int]] = {}
    found = []
    for sample, frame in np.argwhere(~still).tolist():
        a, i = first.setdefault(digests[sample, frame].tobytes(), (sample, frame))
        if a != sample and i != frame:
            found.append((a, i, sample, frame))
    return found


def _listed(pairs: list[tuple[int, int]]) -> str:
    more = f" and {len(pairs) - 3} more pairs" if len(pairs) > 3 else ""
    return "samples " + ", ".join(f"{a} and {b}" for a, b in pairs[:3]) + more


def _frames(found: list[tuple[int, int, int, int]]) -> str:
    return ", ".join(f"frame {i} of sample {a} is frame {j} of sample {b}" for a, i, b, j in found[:2])
