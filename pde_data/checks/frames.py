"""Frames that are not finite, constant, or the same as another one of their sample."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pde_data.checks.base import Row, Subject, judged, skipped
from pde_data.checks.scan import FrameNumbers

_STILL = 1e-4  # relative change below which a solution may have come to rest in float32


def finite(subject: Subject) -> Iterator[Row]:
    """NaN and infinity."""
    for name, numbers in subject.scan.items():
        bad = np.argwhere(numbers.bad > 0)
        remedy = f"{_place(bad, subject.over_time(name))}; leave the sample out, or make it again"
        yield judged("finite", name, len(bad), 0, remedy)


def constant(subject: Subject) -> Iterator[Row]:
    """Frames with the same value everywhere, but for rest at the beginning and a decayed end."""
    for name, numbers in subject.scan.items():
        flat = numbers.constant
        if flat.all():
            yield judged(
                "constant", name, len(flat), 0, "every frame has one value everywhere; drop the field"
            )
            continue
        suspect = flat.copy()
        if subject.over_time(name):
            if flat[:, 0].all():
                suspect[:, 0] = False  # all samples start from rest
            # Constant from some frame to the end: the solution has decayed, if it did so gradually.
            ended = np.logical_and.accumulate(flat[:, ::-1], axis=1)[:, ::-1]
            suspect &= ~(ended & _gradual(numbers))
        remedy = f"one value everywhere in {_place(np.argwhere(suspect), subject.over_time(name))}"
        yield judged("constant", name, int(suspect.sum()), 0, f"{remedy}; leave it out, or make it again")


def _gradual(numbers: FrameNumbers) -> np.ndarray:
    """Frames whose change from the frame before is a small part of the largest one of their sample."""
    change = np.nan_to_num(numbers.change)
    largest = change.max(axis=1, keepdims=True, initial=0.0)
    return np.concatenate([np.zeros((len(change), 1), bool), change < 0.1 * largest], axis=1)


def repeated(subject: Subject) -> Iterator[Row]:
    """A frame that is, bit for bit, another one of its sample, while the solution moves."""
    for name, numbers in subject.scan.items():
        if not subject.over_time(name) or numbers.digest.shape[1] < 3:
            yield skipped("repeated", name, "fewer than three frames in a sample")
            continue
        found = [
            (sample, frame)
            for sample in range(len(numbers.digest))
            for frame in _repeats(numbers.digest[sample], numbers.change[sample], numbers.mean_square[sample])
        ]
        remedy = f"{_place(np.array(found), True)} is the same as another frame; make the sample again"
        yield judged("repeated", name, len(found), 0, remedy)


def _repeats(digest: np.ndarray, change: np.ndarray, mean_square: np.ndarray) -> Iterator[int]:
    """Frames that equal an earlier one, unless the solution rests there or comes back in all its frames."""
    moving = np.nan_to_num(change) > _STILL * np.sqrt(np.nanmax(mean_square, initial=0.0))
    first: dict[int, int] = {}
    for frame, value in enumerate(digest.tolist()):
        earlier = first.setdefault(value, frame)
        if earlier == frame:
            continue
        if frame == earlier + 1:
            neighbours = [moving[k] for k in (earlier - 1, frame) if 0 <= k < len(change)]
            # At rest, the changes before and after are nothing as well.
            if any(neighbours):
                yield frame
        elif moving[earlier:frame].any():
            # A periodic motion repeats its neighbours too, at least where there are any.
            pairs = [(earlier + d, frame + d) for d in (-1, 1)]
            inside = [(a, b) for a, b in pairs if 0 <= a and b < len(digest)]
            if inside and all(digest[a] != digest[b] for a, b in inside):
                yield frame


def _place(found: np.ndarray, over_time: bool) -> str:
    if not len(found):
        return ""
    sample, frame = found[0].tolist()
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return f"sample {sample}{f', frame {frame}' if over_time else ''}{more}"
