"""Validate a data set: recompute what can be recomputed, and say what is wrong and what to do about it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from pde_data import remote, ugrid
from pde_data.checks import CHECKS, MESH_CHECKS, Row, Subject
from pde_data.formats import read
from pde_data.storage import DatasetError

_WIDTH = 118


@final
@dataclass(frozen=True)
class Report:
    """The rows of a validation, as a table when printed."""

    path: str
    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        """Whether no row failed."""
        return not self.failures

    @property
    def failures(self) -> list[Row]:
        """The rows that failed."""
        return [row for row in self.rows if row.verdict == "fail"]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"path": self.path, "passed": self.passed, "rows": [row.to_dict() for row in self.rows]}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        subjects = min(max((len(row.subject) for row in self.rows), default=0), 32)
        for row in self.rows:
            number = "" if row.number is None else f"{row.number:.3g}"
            limit = "" if row.tolerance is None else f"<= {row.tolerance:.3g}"
            head = f"{row.verdict:<8}{row.check:<12}{row.subject:<{subjects}}  {number:>9} {limit:<9} "
            first = len(head) + len(row.remark) <= _WIDTH
            yield (head + row.remark if first else head).rstrip()
            if not first:
                indent = " " * 8
                yield from textwrap.wrap(row.remark, _WIDTH, initial_indent=indent, subsequent_indent=indent)
        counts = {v: sum(row.verdict == v for row in self.rows) for v in ("pass", "fail", "skipped")}
        yield f"{self.path}: {counts['pass']} passed, {counts['fail']} failed, {counts['skipped']} skipped"


def validate(
    path: str | os.PathLike,
    against: str | os.PathLike | None = None,
    *,
    samples: int | None = 16,
    seed: int = 0,
) -> Report:
    """Check a data set of any known format against itself, its description and its equation.

    Every value is read once: NaN, constant and repeated frames, duplicated samples, leakage between splits,
    checksums, units and coordinates. `samples` of them, drawn with `seed`, are looked at more closely: the
    step across periodic boundaries, boundary values, spectra, divergence or continuity, budgets, and the
    equation itself. Where the attributes name one of `pde_data.EQUATIONS`, stored frames are solved to the
    next record and compared with it, or the residual of a steady problem is computed; when they disagree, the
    parameter, time step, domain or order of axes that would explain it is looked for. What cannot be checked
    is reported as skipped, with the reason.

    Args:
        path: file or folder of any known format.
        against: another set with which it must share no sample, such as the test set of a training set.
        samples: number of samples for the expensive checks, `None` for all.
        seed: seed of their choice.

    Samples on meshes are looked at for triangles, weights, values and the discrete equations.

    Raises `DatasetError` when there is nothing at `path`; a file that cannot be read fails its first row.

    >>> import pde_data, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pde_data.generate("advection", folder + "/a.h5", samples=3, resolution=32, processes=1)
    ...     validate(file).passed
    True
    """
    from tqdm import tqdm

    if samples is not None and samples < 1:
        raise ValueError(f"samples={samples}, expected at least 1, or None for all")
    for given in filter(None, (path, against)):
        if not remote.is_address(given) and not Path(given).exists():
            read(given)  # raises the error that names what there is
    try:
        schema = read(path)
        other = None if against is None else read(against)
    except (DatasetError, OSError) as error:
        return Report(os.fspath(path), (Row("readable", "file", "fail", remark=_words(error)),))
    with tqdm(desc=Path(path).name, unit="sample", disable=None, leave=False) as bar:
        options: dict[str, Any] = {"samples": samples, "seed": seed, "progress": bar.update}
        compared = (
            None if other is None or against is None else Subject(against, other, against=None, **options)
        )
        subject = Subject(path, schema, against=compared, **options)
        checks = MESH_CHECKS if ugrid.is_mesh(schema) else CHECKS
        bar.total = sum(s.count * len(s.schema.fields) for s in (subject, compared) if s) + len(checks)
        rows = [Row("readable", "file", "pass")]
        for name, check in checks:
            bar.set_postfix_str(name)
            rows += _run(name, check, subject)
            bar.update(1)
    return Report(os.fspath(path), tuple(rows))


def _run(name: str, check: Any, subject: Subject) -> Iterator[Row]:
    try:
        with np.errstate(all="ignore"):  # what is not finite is a row of the report
            yield from check(subject)
    except (DatasetError, OSError) as error:
        yield Row(name, "file", "fail", remark=f"cannot be read: {_words(error)}")


def _words(error: Exception) -> str:
    return " ".join(str(error).split())
