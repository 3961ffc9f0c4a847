"""Quantities that the equation conserves, over time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pde_data.checks.base import Row, Subject, judged, skipped
from pde_data.checks.known import Known
from pde_data.equations import Evolution
from pde_data.grids import Grid

_OURS, _FOREIGN = 2e-3, 2e-2  # schemes of low order lose more of what is not linear
_BLOCK = 2**22  # values at a time


def budgets(subject: Subject) -> Iterator[Row]:
    """Largest change of each budget of the equation, relative to its size."""
    known = subject.known
    if isinstance(known, str):
        yield skipped("budget", "fields", known)
        return
    if not isinstance(known.equation, Evolution):
        yield skipped("budget", "fields", "the problem is steady")
        return
    if isinstance(subject.grid, str):
        yield skipped("budget", "fields", subject.grid)
        return
    worst: dict[str, float] = {}
    place: dict[str, int] = {}
    for sample in subject.chosen.tolist():
        for name, drift in _drifts(subject, known, subject.grid, sample).items():
            if not drift <= worst.get(name, -1.0):
                worst[name], place[name] = drift, sample
    if not worst:
        yield skipped("budget", "fields", f"{known.equation.name} conserves nothing that is known here")
    for name, drift in worst.items():
        remedy = (
            f"sample {place[name]} does not keep it: a frame is wrong, or the solver was not accurate enough"
        )
        yield judged("budget", name, drift, _OURS if subject.ours else _FOREIGN, remedy)


def _drifts(subject: Subject, known: Known, grid: Grid, sample: int) -> dict[str, float]:
    equation = known.of_sample(sample)
    assert isinstance(equation, Evolution)
    frames = max(subject.frames(name) for name in known.names.values())
    step = max(1, _BLOCK // int(np.prod(grid.sizes)))
    values: dict[str, list[np.ndarray]] = {}
    sizes: dict[str, list[np.ndarray]] = {}
    for start in range(0, frames, step):
        block = {
            name: np.stack([subject.frame(held, sample, f) for f in range(start, min(start + step, frames))])
            for name, held in known.names.items()
        }
        for name, value in equation.budgets(block, grid).items():
            values.setdefault(name, []).append(np.asarray(value))
        # What it would be without cancellation.
        for name, value in equation.budgets({k: np.abs(v) for k, v in block.items()}, grid).items():
            sizes.setdefault(name, []).append(np.abs(value))
    result = {}
    for name, parts in values.items():
        budget, size = np.concatenate(parts), np.concatenate(sizes[name])
        scale = max(np.abs(budget).max(), size.max(), 1e-300)
        result[name] = float(np.abs(budget - budget[0]).max() / scale)
    return result
