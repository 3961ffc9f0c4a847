"""The file of results: one row for each number of each training, appended as soon as it is known.

Columns of ``operators.csv``
    date, machine, versions    of the run
    scale                      default or full
    task, stage, model         stage is data, pilot or final
    width, parameters          of the model; real numbers, a complex weight counting as two
    seed, learning_rate        of the training
    budget, clock              seconds of the training, and whether CPU time or wall time was counted
    steps                      optimiser steps that fitted into it
    metric, value              valid: least validation error of one step; test, ...: errors of those weights
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

COLUMNS = (
    *("date", "machine", "versions", "scale", "task", "stage", "model", "width", "parameters", "seed"),
    *("learning_rate", "budget", "clock", "steps", "metric", "value"),
)


class Records:
    """The rows of a file, and those of this run among them.

    Args:
        path: the CSV file; it is made with the first row.
        same: columns and values that a row must have to count as a result of this run: machine, versions.
    """

    def __init__(self, path: Path, same: dict[str, str]):
        self.path, self.same = path, same

    def rows(self, **wanted: Any) -> list[dict[str, str]]:
        """Return the rows of this machine and these versions that have the wanted values, oldest first."""
        if not self.path.exists():
            return []
        wanted = {key: _text(value) for key, value in (self.same | wanted).items()}
        with self.path.open(newline="", encoding="utf-8") as file:
            return [row for row in csv.DictReader(file) if wanted.items() <= row.items()]

    def newest(self, **wanted: Any) -> dict[str, str]:
        """Return machine and versions of the last row with the wanted values, or of this run."""
        every = Records(self.path, {}).rows(**wanted)
        return {key: every[-1][key] for key in self.same} if every else self.same

    def append(self, rows: Iterable[dict[str, Any]]) -> None:
        """Write rows, in one go, so that a killed run leaves none or all of a training."""
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
            if new:
                writer.writeheader()
            for row in rows:
                writer.writerow({key: _text(value) for key, value in (self.same | row).items()})


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
