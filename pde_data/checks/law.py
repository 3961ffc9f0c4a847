"""The data against the equation that the file names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from pde_data.checks.base import Row, Subject, judged, skipped
from pde_data.checks.explain import explain
from pde_data.checks.known import Known
from pde_data.checks.problems import EvolutionProblem, Problem, SteadyProblem
from pde_data.equations import Evolution, Steady
from pde_data.grids import Grid
from pde_data.integrate import SolverError

_EVOLUTION = {True: 0.02, False: 0.3}  # of the change between records; schemes of low order are far off
_STEADY = {True: 1e-4, False: 0.05}
_SUSPECT = 1e-3  # below this a misfit needs no explanation
_LEFT, _NOTHING_LEFT = 0.5, 0.1  # parts of the misfit, after an explanation
_NOT_YET = {True: 0.005, False: 0.1}  # errors of a factor that a solver may have on its own
_PARAMETER = {True: 0.05, False: 0.1}  # relative


def law(subject: Subject) -> Iterator[Row]:
    """Residual of a steady equation, or frames against a re-simulation, and the parameters that fit best."""
    known = subject.known
    name = known.equation.name if isinstance(known, Known) else "fields"
    reason = _cannot(subject)
    if reason or isinstance(known, str) or isinstance(subject.grid, str):
        yield skipped("equation", name, reason)
        return
    try:
        if isinstance(known.equation, Steady):
            yield from _steady(subject, known, known.equation, subject.grid)
        else:
            yield from _evolution(subject, known, subject.grid)
    except SolverError as error:
        yield skipped("equation", name, f"it cannot be solved from these values: {error}")


def _cannot(subject: Subject) -> str:
    known = subject.known
    if isinstance(known, str):
        return known
    if isinstance(subject.grid, str):
        return subject.grid
    if not all(map(subject.on_grid, known.names.values())):
        return "its variables lie on different grids"
    if isinstance(known.equation, Steady):
        return ""
    if not isinstance(known.equation, Evolution):
        return "it is neither steady nor an initial value problem"
    if subject.times(0) is None:
        return "no times"
    if not any(map(subject.over_time, known.names.values())) or subject.schema.sizes.get("time", 0) < 2:
        return "fewer than two frames"
    return ""


def _steady(subject: Subject, known: Known, equation: Steady, grid: Grid) -> Iterator[Row]:
    problem = SteadyProblem(subject, known, equation, grid)
    samples = subject.chosen.tolist()
    misfit = problem.misfit(samples)
    tolerance = max(_STEADY[subject.ours], 4 * problem.rounding(samples[:4]))
    yield _verdict(subject, known, problem, samples, misfit, tolerance, "relative residual")


def _evolution(subject: Subject, known: Known, grid: Grid) -> Iterator[Row]:
    problem = EvolutionProblem(subject, known, grid)
    samples = subject.chosen.tolist()
    misfit = problem.misfit(samples)
    row = _verdict(subject, known, problem, samples, misfit, _EVOLUTION[subject.ours], "re-simulation")
    yield row
    if row.verdict == "pass":
        for name in known.parameters:
            yield _parameter(subject, known, problem, samples, name)


def _verdict(
    subject: Subject,
    known: Known,
    problem: Problem,
    samples: Sequence[int],
    misfit: np.ndarray,
    tolerance: float,
    how: str,
) -> Row:
    finite = np.isfinite(misfit)
    if not finite.any():
        return skipped("equation", known.equation.name, "no two finite frames in a row")
    worst = float(misfit[finite].max())
    note = f"{how}, {int(finite.sum())} of {subject.count} samples"
    if worst <= min(tolerance, _SUSPECT):
        return judged("equation", known.equation.name, worst, tolerance, "", note)
    far = worst > tolerance
    wrong = [s for s, m in zip(samples, misfit) if m > (tolerance if far else 0.5 * worst)]
    # What is within the tolerance of a crude solver fails only if another reading makes it vanish.
    equation = known.of_sample(wrong[0])
    left, beyond = (_LEFT, 0.0) if far else (_NOTHING_LEFT, _NOT_YET[subject.ours])
    reasons = explain(problem, equation, known.parameters, wrong, left, beyond)
    if not far and not reasons:
        return judged("equation", known.equation.name, worst, tolerance, "", note)
    several = f"{len(wrong)} of {int(finite.sum())} samples, sample {wrong[0]} first"
    remedy = f"{several}: {reasons or 'no wrong parameter, time step or order of axes explains it'}"
    return judged("equation", known.equation.name, worst, tolerance if far else _SUSPECT, remedy)


def _parameter(
    subject: Subject, known: Known, problem: EvolutionProblem, samples: Sequence[int], name: str
) -> Row:
    """The samples whose own best value of a parameter is known well enough to compare it."""
    tolerance = _PARAMETER[subject.ours]
    found = problem.estimate(samples, name)
    error = np.abs(found.factor - 1)
    # Of what the solver cannot resolve, such as a shock, every parameter would explain a little.
    telling = np.flatnonzero(
        (found.bound < tolerance) & ((error <= tolerance) | (found.left < _NOTHING_LEFT))
    )
    if not len(telling):
        return skipped("parameter", name, "the data hardly depend on it")
    error = error[telling]
    worst = int(telling[np.argmax(error)])
    stated = known.of_sample(samples[worst]).parameters()[name]
    remedy = (
        f"{int((error > tolerance).sum())} of {len(telling)} samples differ; sample {samples[worst]} behaves "
        f"like {name}={stated * found.factor[worst]:.4g}, the file says {stated:.4g}"
    )
    return judged("parameter", name, float(error.max()), tolerance, remedy, f"{len(telling)} samples tell it")
