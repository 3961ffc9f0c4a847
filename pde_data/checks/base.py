"""What a check is given and what it returns."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, final

import numpy as np

from pde_data import sources
from pde_data.arrays import FieldArray
from pde_data.checks.known import Known, recognise
from pde_data.checks.scan import Scan, scan
from pde_data.grids import Grid
from pde_data.storage import DatasetError, Schema

Verdict = Literal["pass", "fail", "skipped"]


@final
@dataclass(frozen=True)
class Row:
    """One line of the report: what was looked at, what was measured, and what to do about it.

    `number` must not exceed `tolerance`; both are `None` where nothing could be measured.
    """

    check: str
    subject: str
    verdict: Verdict
    number: float | None = None
    tolerance: float | None = None
    remark: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: numbers that are not finite become text."""
        values = asdict(self)
        for key in ("number", "tolerance"):
            if values[key] is not None:
                value = float(values[key])
                values[key] = value if np.isfinite(value) else str(value)
        return values


def judged(check: str, subject: str, number: float, tolerance: float, remedy: str, remark: str = "") -> Row:
    """Pass with `remark` where `number` is within `tolerance`; fail with `remedy` otherwise, also for NaN."""
    fine = number <= tolerance
    return Row(check, subject, "pass" if fine else "fail", number, tolerance, remark if fine else remedy)


def skipped(check: str, subject: str, reason: str) -> Row:
    """Nothing measured, and why."""
    return Row(check, subject, "skipped", remark=reason)


@final
class Subject:
    """An opened data set and what the checks share of it, each made when first asked for."""

    def __init__(
        self,
        path: str | os.PathLike,
        schema: Schema,
        *,
        against: Subject | None,
        samples: int | None,
        seed: int,
        progress: Callable[[int], None],
    ):
        self.path = Path(path)
        self.name = os.fspath(path)
        self.schema = schema
        self.against = against
        self.seed = seed
        self._limit = samples
        self._progress = progress

    @cached_property
    def fields(self) -> dict[str, FieldArray]:
        """Values of each variable over samples and space."""
        return {n: sources.field_array(v, n, self.name) for n, v in self.schema.fields.items()}

    @property
    def count(self) -> int:
        """Number of samples."""
        return self.schema.sizes.get("sample", 0)

    def over_time(self, name: str) -> bool:
        """Whether a field has a time axis."""
        return "time" in self.schema.fields[name].dims

    def frame(self, name: str, sample: int, frame: int = 0) -> np.ndarray:
        """One frame of one sample, `(*space)`, float64."""
        values = self.fields[name].sample(sample)
        return np.asarray(values[frame] if self.over_time(name) else values[:], np.float64)

    def frames(self, name: str) -> int:
        """Number of frames of a field, 1 where it has no time axis."""
        return self.fields[name].shape[1] if self.over_time(name) else 1

    def on_grid(self, name: str) -> bool:
        """Whether a field lies on `space`."""
        dims = self.schema.fields[name].dims
        return tuple(d for d in dims if d not in ("sample", "time")) == self.space

    @cached_property
    def chosen(self) -> np.ndarray:
        """Samples for the expensive checks: all, or so many at random with the seed, in order."""
        if self._limit is None or self._limit >= self.count:
            return np.arange(self.count)
        rng = np.random.default_rng(self.seed)
        return np.sort(rng.choice(self.count, self._limit, replace=False))

    @cached_property
    def scan(self) -> Scan:
        """Numbers of every frame, from one pass over the whole set."""
        return scan(self.fields, {name: self.over_time(name) for name in self.fields}, self._progress)

    def times(self, sample: int) -> np.ndarray | None:
        """Times of the frames of one sample, float64; `None` where the file has none."""
        variables = self.schema.variables
        if "time" in variables and variables["time"].dims == ("time",):
            return np.asarray(variables["time"].values, np.float64)
        if "t" in variables and variables["t"].dims == ("sample", "time"):
            return np.asarray(variables["t"].values[sample], np.float64)
        return None

    @cached_property
    def space(self) -> tuple[str, ...]:
        """Space dimensions that most fields share."""
        groups: dict[tuple[str, ...], int] = {}
        for variable in self.schema.fields.values():
            dims = tuple(d for d in variable.dims if d not in ("sample", "time"))
            groups[dims] = groups.get(dims, 0) + 1
        return max(groups, key=lambda dims: groups[dims], default=())

    @cached_property
    def grid(self) -> Grid | str:
        """The grid of `space`, of a box or a sphere, or why there is none."""
        missing = [dim for dim in self.space if dim not in self.schema.variables]
        if missing:
            return f"no coordinate for {', '.join(missing)}"
        try:
            return sources.grid_of(self.schema, self.space, self.name)
        except (DatasetError, ValueError, KeyError) as error:
            return f"no uniform grid: {error}"

    @property
    def box(self) -> Grid | str:
        """The grid, where it is one of a box; why not, otherwise."""
        plain = isinstance(self.grid, Grid | str)
        return self.grid if plain else "latitudes and longitudes, where only boxes are looked at"

    @cached_property
    def known(self) -> Known | str:
        """The equation that the attributes name, or why there is none."""
        return recognise(self.schema, self.grid)

    @property
    def ours(self) -> bool:
        """Whether our own solvers made the data, to the accuracy that they promise."""
        return "version_opflow_sciml" in self.schema.attributes


Check = Callable[[Subject], Iterator[Row]]
