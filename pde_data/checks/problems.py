"""How far data are from an equation: the residual of a steady one, a re-simulation of one in time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch

from pde_data.checks.base import Subject
from pde_data.checks.known import Known
from pde_data.equations import Equation, Evolution, Steady
from pde_data.grids import Grid, resample

Fields = dict[str, np.ndarray]
_INTERVALS = 3  # of each sample
_BLOCK = 2**22  # values of one field at a time
_ROUNDING = 8  # units in the last place of the stored values


@final
@dataclass(frozen=True)
class Change:
    """Another reading of the same data."""

    words: str
    equation: Callable[[Equation], Equation] = lambda equation: equation
    fields: Callable[[Fields], Fields] = lambda fields: fields
    interval: float = 1.0


AS_STATED = Change("as the file says")


@final
@dataclass(frozen=True)
class Estimate:
    """Per sample: the best value of a parameter over the stated one, and how much that says.

    `bound` is the part of the misfit that no value explains, in units of the effect of the parameter: the
    factor may be wrong by as much. `left` is that part relative to the whole misfit.
    """

    factor: np.ndarray
    bound: np.ndarray
    left: np.ndarray


class Problem(ABC):
    """Data of some samples and the equation that they should solve."""

    @abstractmethod
    def misfit(self, samples: Sequence[int], change: Change = AS_STATED) -> np.ndarray:
        """`(sample,)`: 0 for data that solve the equation, of order 1 for data that do not."""

    @abstractmethod
    def readings(self) -> list[Change]:
        """Faults in the arrangement of the arrays that would explain a misfit."""


@final
class SteadyProblem(Problem):
    """A relative residual; with `rounding`, what the precision of the stored values makes of it."""

    def __init__(self, subject: Subject, known: Known, equation: Steady, grid: Grid):
        self._subject, self._known, self._grid = subject, known, grid
        targets = str(subject.schema.attributes.get("targets", "")).split()
        self._targets = [n for n, held in known.names.items() if held in targets] or list(known.names)

    def misfit(self, samples: Sequence[int], change: Change = AS_STATED) -> np.ndarray:
        """See :class:`Problem`."""
        return np.concatenate([self._residual(sample, change) for sample in samples])

    def rounding(self, samples: Sequence[int]) -> float:
        """The part of the residual that rounding to the stored type may make up, from a larger rounding."""
        rng, factor = np.random.default_rng(0), 64

        def rounded(fields: Fields) -> Fields:
            return {
                name: values * (1 + factor * self._unit(name) * rng.uniform(-1, 1, values.shape))
                if name in self._targets
                else values
                for name, values in fields.items()
            }

        rough = self.misfit(samples, Change("rounded", fields=rounded))
        exact = self.misfit(samples)
        return float(np.sqrt(np.maximum(rough**2 - exact**2, 0).max()) / factor)

    def _unit(self, name: str) -> float:
        dtype = self._subject.fields[self._known.names[name]].dtype
        return float(np.finfo(dtype).eps) / 2 if dtype.kind == "f" else 0.0

    def _residual(self, sample: int, change: Change) -> np.ndarray:
        fields = {n: self._subject.frame(held, sample)[None] for n, held in self._known.names.items()}
        equation = change.equation(self._known.of_sample(sample))
        assert isinstance(equation, Steady)
        return np.asarray(equation.residual(change.fields(fields), self._grid), np.float64).reshape(1)

    def readings(self) -> list[Change]:
        """Axes of the solution in another order or direction than those of the other fields."""
        return _arrangements(self._grid, self._targets)


@final
class EvolutionProblem(Problem):
    """Stored frames as initial values: solved to the next record, they should be the next frame.

    The misfit is the root mean square of the difference over that of the change between the frames, with the
    fields in units of their usual change. Compared are the parts that the solver can represent.
    """

    def __init__(self, subject: Subject, known: Known, grid: Grid):
        self._subject, self._known, self._grid = subject, known, grid
        self.moving = [n for n, held in known.names.items() if subject.over_time(held)]
        self._still = [n for n in known.names if n not in self.moving]
        self._rng = np.random.default_rng(subject.seed)
        self._starts: dict[int, np.ndarray] = {}
        self._units, rounding = zip(*map(self._unit, self.moving))
        self._rounding = float(np.sqrt(np.mean(np.square(rounding))))

    def _unit(self, name: str) -> tuple[float, float]:
        """Usual change of a field between records, and its rounding in units of that."""
        held = self._known.names[name]
        numbers, dtype = self._subject.scan[held], self._subject.fields[held].dtype
        size = np.sqrt(np.nanmean(numbers.mean_square))
        change = np.sqrt(np.nanmean(numbers.change**2))
        eps = float(np.finfo(dtype).eps) if dtype.kind == "f" else 1e-7
        unit = change if change > 0 else max(size, 1e-300)
        return unit, _ROUNDING * eps * size / unit

    def misfit(self, samples: Sequence[int], change: Change = AS_STATED) -> np.ndarray:
        """See :class:`Problem`; NaN for samples without two finite frames in a row."""
        result = []
        for block in self._blocks(samples):
            difference, moved, owner = self._compare(block, change)
            for sample in block:
                mine = owner == sample
                size = np.hypot(np.linalg.norm(moved[mine]), self._rounding * np.sqrt(moved[mine].size))
                result.append(np.linalg.norm(difference[mine]) / size if mine.any() else np.nan)
        return np.asarray(result)

    def estimate(self, samples: Sequence[int], name: str, step: float = 0.02) -> Estimate:
        """The value of a parameter that fits each sample best.

        One step of Gauss and Newton from the stated value. Samples without two finite frames in a row have an
        infinite bound.
        """
        factors, bounds, left = [], [], []
        nearby = scaled(name, 1 + step)
        for block in self._blocks(samples):
            difference, _, owner = self._compare(block, AS_STATED)
            other, _, _ = self._compare(block, nearby)
            effect = (difference - other) / step
            for sample in block:
                d, e = difference[owner == sample].ravel(), effect[owner == sample].ravel()
                square = float(e @ e)
                change = float(d @ e) / square if square > 0 else 0.0
                rest = float(np.linalg.norm(d - change * e))
                factors.append(1 + change)
                bounds.append(rest / np.sqrt(square) if square > 0 else np.inf)
                left.append(rest / max(float(np.linalg.norm(d)), 1e-300))
        return Estimate(np.asarray(factors), np.asarray(bounds), np.asarray(left))

    def readings(self) -> list[Change]:
        """Axes in another order or direction, and points half a cell away."""
        changes = _arrangements(self._grid, self.moving)
        if all(self._grid.periodic):
            for sign, words in ((0.5, "after"), (-0.5, "before")):
                shift = tuple(sign * h for h in self._grid.spacing)
                changes.append(
                    Change(
                        f"values half a spacing {words} the stated points (cell centres and nodes confused)",
                        fields=lambda fields, shift=shift: {
                            n: translated(v, self._grid, tuple(-s for s in shift)) if n in self.moving else v
                            for n, v in fields.items()
                        },
                    )
                )
        return changes

    def _blocks(self, samples: Sequence[int]) -> list[list[int]]:
        size = max(1, _BLOCK // (_INTERVALS * int(np.prod(self._grid.sizes))))
        listed = list(samples)
        return [listed[i : i + size] for i in range(0, len(listed), size)]

    def _intervals(self, sample: int) -> np.ndarray:
        """Frames from which to solve: the same at each call."""
        if sample not in self._starts:
            names = [self._known.names[n] for n in self.moving]
            good = np.all([self._subject.scan[n].bad[sample] == 0 for n in names], axis=0)
            starts = np.flatnonzero(good[:-1] & good[1:])
            rng = np.random.default_rng([self._subject.seed, sample])
            self._starts[sample] = np.sort(rng.choice(starts, min(_INTERVALS, len(starts)), replace=False))
        return self._starts[sample]

    def _steps(self, sample: int) -> np.ndarray:
        """Times between frames: their mean where they differ by rounding only."""
        times = self._subject.times(sample)
        assert times is not None
        steps = np.diff(times)
        return np.full_like(steps, steps.mean()) if np.ptp(steps) < 1e-3 * steps.mean() else steps

    def _compare(self, samples: Sequence[int], change: Change) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`(interval, value)` of the next frame less its prediction, of its change, and the sample of each.

        Fields are divided by their usual changes.
        """
        groups: dict[tuple[Equation, float], list[tuple[int, int]]] = {}
        for sample in samples:
            steps = self._steps(sample)
            equation = change.equation(self._known.of_sample(sample))
            for frame in self._intervals(sample).tolist():
                interval = change.interval * float(f"{steps[frame]:.9g}")
                groups.setdefault((equation, interval), []).append((sample, frame))
        differences, changes, owners = [], [], []
        for (equation, interval), places in groups.items():
            assert isinstance(equation, Evolution)
            now, then = (change.fields(self._read(places, k)) for k in (0, 1))
            solver = _OnGrid(equation, self._grid)
            start, predicted = solver(now, [0.0, interval])
            (end,) = solver(then, [0.0])
            for result, a, b in ((differences, predicted, end), (changes, start, end)):
                parts = [(b[n] - a[n]).reshape(len(places), -1) / u for n, u in zip(self.moving, self._units)]
                result.append(np.concatenate(parts, axis=1))
            owners += [sample for sample, _ in places]
        empty = np.zeros((0, 1))
        return (
            np.concatenate(differences) if differences else empty,
            np.concatenate(changes) if changes else empty,
            np.asarray(owners, int),
        )

    def _read(self, places: list[tuple[int, int]], later: int) -> Fields:
        return {
            name: np.stack([self._subject.frame(held, sample, frame + later) for sample, frame in places])
            for name, held in self._known.names.items()
        }


@final
class _OnGrid:
    """Solves from values at the points of a file, on the points and at the resolution of the equation."""

    def __init__(self, equation: Evolution, grid: Grid):
        self._equation = equation
        self._stored = self._solved = grid
        self._shift = (0.0,) * grid.ndim
        own = equation.grid
        if all(grid.periodic) and all(own.periodic) and own.ndim == grid.ndim:
            nodes = own.with_sizes(grid.sizes)
            self._shift = tuple(there - here for there, here in zip(nodes.first, grid.first))
            n = equation.parameters().get("solve_resolution") or 0
            sizes = tuple(size * n // max(grid.sizes) for size in grid.sizes)
            if n > max(grid.sizes):
                self._solved = grid.with_sizes(sizes)

    def __call__(self, fields: Fields, times: Sequence[float]) -> list[Fields]:
        """Fields at each of `times`, on the points of the file but for a shift to those of the equation."""
        first = {name: torch.from_numpy(self._prepared(values)) for name, values in fields.items()}
        frames = self._equation.solve(first, times)
        return [{name: self._restricted(v.numpy()) for name, v in frame.items()} for frame in frames]

    def _prepared(self, values: np.ndarray) -> np.ndarray:
        if any(self._shift):
            values = translated(values, self._stored, self._shift)
        return np.ascontiguousarray(self._transfer(values, self._stored, self._solved))

    def _restricted(self, values: np.ndarray) -> np.ndarray:
        return self._transfer(values, self._solved, self._stored)

    @staticmethod
    def _transfer(values: np.ndarray, source: Grid, target: Grid) -> np.ndarray:
        return values if source == target else resample(values, source, target)


def translated(values: np.ndarray, grid: Grid, shift: Sequence[float]) -> np.ndarray:
    """Periodic fields `(..., *space)` at points displaced by `shift`, by their Fourier series."""
    axes = tuple(range(-grid.ndim, 0))
    modes = np.fft.fftn(values, axes=axes)
    for axis, distance in zip(axes, shift):
        phase = np.exp(1j * grid.wavenumbers(axis) * distance)
        if grid.sizes[axis] % 2 == 0:
            phase[grid.sizes[axis] // 2] = phase[grid.sizes[axis] // 2].real  # so that real stays real
        modes *= phase.reshape(-1, *(1,) * (-axis - 1))
    return np.fft.ifftn(modes, axes=axes).real


def scaled(name: str, factor: float) -> Change:
    """A parameter of the equation times a factor."""

    def change(equation: Equation) -> Equation:
        return replace(equation, **{name: equation.parameters()[name] * factor})  # type: ignore[type-var]

    return Change(name, equation=change)


def _arrangements(grid: Grid, names: Sequence[str]) -> list[Change]:
    """Other orders and directions of the axes of some fields."""

    def apply(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Fields], Fields]:
        return lambda fields: {
            n: np.ascontiguousarray(function(v)) if n in names else v for n, v in fields.items()
        }

    letters, changes = "xyz", []
    for a in range(grid.ndim):
        for b in range(a + 1, grid.ndim):
            if grid.sizes[a] == grid.sizes[b]:
                words = f"the axes {letters[a]} and {letters[b]} swapped"
                changes.append(Change(words, fields=apply(lambda v, a=a, b=b: np.swapaxes(v, 1 + a, 1 + b))))
        words = f"the axis {letters[a]} reversed"
        changes.append(Change(words, fields=apply(lambda v, a=a: np.flip(v, 1 + a))))
    return changes
