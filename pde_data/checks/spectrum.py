"""Spectra that rise, or do not fall, towards the finest scales: fields that the grid does not resolve."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pde_data.checks.base import Row, Subject, judged, skipped
from pde_data.grids import Grid

_FLATTEST = 0.9  # a jump has 0.3; noise has 1
_NOTHING = 1e-5  # part of the variance below which the tail does not matter


def tails(subject: Subject) -> Iterator[Row]:
    """Energy per mode at the end of the resolved band, against that in its middle."""
    grid = subject.box
    if isinstance(grid, str):
        yield skipped("spectrum", "fields", grid)
        return
    for name in subject.fields:
        if not subject.on_grid(name):
            yield skipped("spectrum", name, "on another grid than the other fields")
            continue
        for axis, dim in enumerate(subject.space):
            label = f"{name} along {dim}"
            if grid.sizes[axis] < 16:
                yield skipped("spectrum", label, "fewer than 16 points")
                continue
            worst = max((_tail(power) for power in _spectra(subject, name, grid, axis)), default=0.0)
            remedy = (
                "the spectrum does not fall towards the finest scales: solve on a finer grid, or filter noise"
            )
            yield judged("spectrum", label, worst, _FLATTEST, remedy)


def _spectra(subject: Subject, name: str, grid: Grid, axis: int) -> Iterator[np.ndarray]:
    """Spectra along an axis of the first, middle and last frames, each averaged over samples."""
    frames = subject.frames(name)
    for frame in sorted({0, frames // 2, frames - 1}):
        parts = []
        for sample in subject.chosen.tolist():
            u = subject.frame(name, sample, frame)
            if np.isfinite(u).all():
                parts.append(_power(np.moveaxis(u, axis, -1), grid.periodic[axis]))
        if parts:
            yield np.sum(parts, axis=0)


def _power(u: np.ndarray, periodic: bool) -> np.ndarray:
    if not periodic:
        # A window, so that a jump between the two ends does not leak into the tail.
        u = (u - u.mean(-1, keepdims=True)) * np.hanning(u.shape[-1])
    power = np.abs(np.fft.rfft(u, axis=-1)) ** 2
    return power.reshape(-1, power.shape[-1]).sum(0)


def _tail(power: np.ndarray) -> float:
    """Ratio of the mean energy in the last tenth of the resolved modes to that in their middle."""
    power = power[1:]
    total = power.sum()
    if not total > 0:
        return 0.0
    # What a dealiased solver cut away, float32 rounding apart, is not part of the band.
    resolved = np.flatnonzero(power > 1e-11 * total)
    band = power[: resolved[-1] + 1] if len(resolved) else power[:0]
    if len(band) < 6:
        return 0.0
    last = band[-max(2, len(band) // 10) :]
    middle = band[int(0.4 * len(band)) : int(0.6 * len(band)) + 1]
    return float(last.mean() / middle.mean()) if last.sum() > _NOTHING * total else 0.0
