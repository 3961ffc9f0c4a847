"""What several seeds say: mean, standard error, and whether one model is better than another."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Estimate(NamedTuple):
    """A mean with its standard error; that of a single number is not known."""

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + (f" ± {self.error:.4f}" if math.isfinite(self.error) else "")


def estimate(values: Sequence[float]) -> Estimate:
    """Return the mean and its standard error, s / sqrt(n) with the n - 1 of the sample deviation s.

    >>> estimate([1.0, 3.0])
    Estimate(mean=2.0, error=1.0)
    """
    if len(values) < 2:
        return Estimate(values[0], math.nan)
    return Estimate(statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values)))


def verdict(candidate: Sequence[float], baseline: Sequence[float]) -> str:
    """Say how errors compare: the distance of the means against the standard error of that distance.

    >>> verdict([0.10, 0.11], [0.20, 0.21])
    'below by more than two standard errors (14.1), -49 %'
    >>> verdict([0.1], [0.2])
    'below, -50 %; one seed has no standard error'
    """
    ours, theirs = estimate(candidate), estimate(baseline)
    change = f"{100 * (ours.mean / theirs.mean - 1):+.0f} %"
    side = "below" if ours.mean < theirs.mean else "above"
    error = math.hypot(ours.error, theirs.error)
    if math.isnan(error):
        return f"{side}, {change}; one seed has no standard error"
    distance = abs(ours.mean - theirs.mean)
    ratio = distance / error if error else math.inf
    if ratio > 2:
        return f"{side} by more than two standard errors ({ratio:.1f}), {change}"
    return f"within two standard errors ({ratio:.1f}), {change}"


def table(
    finals: Sequence[Mapping[str, str]], models: Sequence[str], pilots: Sequence[Mapping[str, str]] = ()
) -> list[str]:
    """Return the lines of a Markdown table: a model a row, its errors, and the verdict on the first error.

    Args:
        finals: rows of trainings, one for each metric, as `Records` gives them.
        models: order of the rows, the baseline first.
        pilots: rows of pilots, for the note of the learning rates that were tried.
    """
    newest = {(row["model"], row["seed"], row["metric"]): row for row in finals}
    rows = list(newest.values())
    metrics = [m for m in dict.fromkeys(row["metric"] for row in rows) if m != "valid"]

    def values(model: str, metric: str) -> list[float]:
        return [float(row["value"]) for row in rows if (row["model"], row["metric"]) == (model, metric)]

    lines = [
        "| model | parameters | learning rate | steps | " + " | ".join(metrics) + " | against the first |",
        "|---" * (5 + len(metrics)) + "|",
    ]
    for model in models:
        own = [row for row in rows if row["model"] == model]
        if not own:
            continue
        steps = " / ".join(dict.fromkeys(row["steps"] for row in own))
        cells = [model, f"{int(own[0]['parameters']):,}", own[0]["learning_rate"], steps]
        cells += [str(estimate(found)) if (found := values(model, m)) else "" for m in metrics]
        first = values(models[0], metrics[0])
        cells.append("" if model == models[0] or not first else verdict(values(model, metrics[0]), first))
        lines.append("| " + " | ".join(cells) + " |")
    tried = {(row["model"], row["learning_rate"]): float(row["value"]) for row in pilots}
    if tried:
        notes = "; ".join(f"{model} at {rate}: {value:.4f}" for (model, rate), value in tried.items())
        lines += ["", f"Validation errors of the pilots: {notes}."]
    return lines
