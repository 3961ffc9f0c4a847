"""How much of what happens a law explains, with and without a symmetry forced on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

_RIDGE = 1e-7
_DRAWS = 2000


@final
@dataclass(frozen=True)
class Moments:
    """Products summed over points, for each trajectory: of terms, of terms and targets, and of targets.

    Shapes `(trajectory, term, term)`, `(trajectory, term, field)`, `(trajectory, field)`.
    """

    terms: np.ndarray
    mixed: np.ndarray
    targets: np.ndarray

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.terms + other.terms, self.mixed + other.mixed, self.targets + other.targets)

    def fit(self, rows: np.ndarray, keep: np.ndarray) -> np.ndarray:
        """Coefficients `(term, field)` of least squares over some trajectories, with the terms in `keep`."""
        gram, mixed = self.terms[rows].sum(0), self.mixed[rows].sum(0)
        scale = np.sqrt(np.maximum(np.diag(gram), 1e-300))[keep]
        inner = gram[np.ix_(keep, keep)] / np.outer(scale, scale)
        inner[np.diag_indices(len(inner))] += _RIDGE
        result = np.zeros_like(mixed)
        result[keep] = np.linalg.solve(inner, mixed[keep] / scale[:, None]) / scale[:, None]
        return result

    def errors(self, coefficients: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """`(row, field)`: sums of squared errors in each of some trajectories."""
        quadratic = np.einsum("tf,rtu,uf->rf", coefficients, self.terms[rows], coefficients, optimize=True)
        return self.targets[rows] - 2 * np.einsum("tf,rtf->rf", coefficients, self.mixed[rows]) + quadratic


@final
@dataclass(frozen=True)
class Defect:
    """Part of what a free law explains of one field that a symmetric law does not, with its bounds.

    `explained` is the part of the changes that the free law explains in trajectories it was not fitted to.
    """

    value: float
    low: float
    high: float
    explained: float


def defects(
    elements: list[Moments], keep: np.ndarray, confidence: float, rng: np.random.Generator
) -> list[Defect]:
    """For each field, compare one law for all elements of a group, with the terms in `keep`, to one for each.

    Each half of the trajectories is predicted with the laws fitted to the other. The bounds come from drawing
    trajectories with replacement; the upper one is raised by what the free laws lose by overfitting, since a
    violation could hide there.
    """
    count, fields = elements[0].targets.shape
    every = np.arange(elements[0].terms.shape[1])
    joint = sum(elements[1:], elements[0])
    free, fitted, symmetric, total = np.zeros((4, count, fields))
    order = rng.permutation(count)
    halves = order[: count // 2], order[count // 2 :]
    for test, train in (halves, halves[::-1]):
        common = joint.fit(train, keep)
        for element in elements:
            own = element.fit(train, every)
            free[test] += element.errors(own, test)
            fitted[train] += element.errors(own, train)
            symmetric[test] += element.errors(common, test)
            total[test] += element.targets[test]
    explained, lost = total - free, symmetric - free
    draws = rng.integers(0, count, (_DRAWS, count))
    ratio = lost[draws].sum(1) / np.maximum(explained[draws].sum(1), 1e-300)
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratio, [tail, 1 - tail], axis=0)
    whole = np.maximum(explained.sum(0), 1e-300)
    high += np.maximum((free - fitted).sum(0), 0) / whole
    value, share = lost.sum(0) / whole, explained.sum(0) / np.maximum(total.sum(0), 1e-300)
    return [Defect(*map(float, numbers)) for numbers in zip(value, low, high, share)]


def same_distribution(plain: Moments, moved: Moments, rng: np.random.Generator) -> float:
    """P-value of the means of all terms being the same before and after an action, by changing signs.

    The difference of each trajectory to its own image is as likely as its negative when both have one
    distribution.
    """
    difference = moved.terms[:, 0] - plain.terms[:, 0]
    size = np.sqrt((difference**2).mean(0))
    changed = size > 1e-9 * np.sqrt(np.diagonal(plain.terms, axis1=1, axis2=2).sum(0))
    if not changed.any():
        return 1.0
    difference = difference[:, changed] / size[changed]
    signs = rng.choice([-1.0, 1.0], (_DRAWS, len(difference)))
    observed = (difference.mean(0) ** 2).sum()
    drawn = ((signs @ difference / len(difference)) ** 2).sum(1)
    return float((1 + (drawn >= observed).sum()) / (1 + _DRAWS))
