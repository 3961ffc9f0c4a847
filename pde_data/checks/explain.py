"""What a misfit comes from: the reading of the data, among those people have got wrong, that removes it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from pde_data.checks.problems import Change, EvolutionProblem, Problem, scaled
from pde_data.equations import Equation
from pde_data.integrate import SolverError

_FACTORS = (1 / math.pi, 1 / 2, 1.0, 2.0, math.pi)  # where the search for the best one begins
_AROUND = 0.6  # and how far it goes from there, in natural logarithms
_USED = 2  # samples
_GONE = 0.02  # an explanation that leaves such a part of the misfit is as good as any


def explain(
    problem: Problem,
    equation: Equation,
    parameters: Sequence[str],
    samples: Sequence[int],
    left: float,
    beyond: float,
) -> str:
    """The best explanations of the misfit of some samples in words, or the empty string.

    Tried are the arrangements of the arrays that the problem knows, and every parameter, the time step and
    the length of the domain, by a factor that is fitted. None is given that leaves more than a part `left` of
    the misfit, or whose factor differs from 1 by less than `beyond`.
    """
    used = list(samples)[:_USED]

    def size(change: Change) -> float:
        return _size(problem, used, change)

    before = size(Change("as it is"))
    found = [(size(change), change.words) for change in problem.readings()]
    complete: float | None = None
    if min((value for value, _ in found), default=math.inf) > _GONE * before:
        for words, change in _factors(problem, equation, parameters):
            of_factor = lambda f, change=change: size(change(f))  # noqa: E731
            if complete is not None:
                # Speed, time and length stand for each other: of what is left, only that is of interest.
                found += [(of_factor(f), words(f)) for f in (complete, 1 / complete)]
                continue
            for value, factor in _fits(of_factor, before):
                if abs(factor - 1) < beyond:
                    continue
                found.append((value, words(factor)))
                complete = factor if value <= _GONE * before else complete
    best = min((value for value, _ in found), default=math.inf)
    if not best < left * before:
        return ""
    texts = [text for value, text in found if value <= max(2 * best, _GONE * before)]
    return "the data behave like " + ", or ".join(texts[:3])


def _factors(
    problem: Problem, equation: Equation, parameters: Sequence[str]
) -> Iterator[tuple[Callable[[float], str], Callable[[float], Change]]]:
    """What may be wrong by a factor: how to say it, and the change."""
    for name in parameters:
        yield _stated(name, equation), lambda f, name=name: scaled(name, f)
    if isinstance(problem, EvolutionProblem):
        yield lambda f: f"times {f:.4g} as far apart as the file says", lambda f: Change("", interval=f)
    if isinstance(equation.parameters().get("length"), float):
        yield _stated("length", equation), lambda f: scaled("length", f)


def _stated(name: str, equation: Equation) -> Callable[[float], str]:
    value = equation.parameters()[name]
    return lambda factor: f"{name}={value * factor:.4g} (the file says {value:.4g})"


def _fits(size: Callable[[float], float], before: float) -> list[tuple[float, float]]:
    """Least misfits and the factors that reach them: a positive one, and -1 where it does some good."""
    from scipy.optimize import minimize_scalar

    if size(1.3) == before:  # it has no effect
        return []
    found = [(value, -1.0) for value in (size(-1.0),) if value < before]
    start = min(_FACTORS, key=size)
    result: Any = minimize_scalar(
        lambda log: size(math.exp(log)),
        bounds=(math.log(start) - _AROUND, math.log(start) + _AROUND),
        method="bounded",
        options={"xatol": 1e-3, "maxiter": 16},
    )
    return [*found, min((float(result.fun), math.exp(float(result.x))), (size(start), start))]


def _size(problem: Problem, samples: Sequence[int], change: Change) -> float:
    """Root mean square of the misfit, infinite where the equation cannot be solved with this change."""
    try:
        values = problem.misfit(samples, change)
    except (SolverError, ValueError, ArithmeticError):
        return math.inf
    size = float(np.sqrt(np.nanmean(values**2))) if np.isfinite(values).any() else math.inf
    return size if math.isfinite(size) else math.inf
