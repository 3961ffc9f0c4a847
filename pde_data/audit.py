"""Symmetries of the law behind data, from the data alone."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np

from pde_data import sources
from pde_data.grids import Grid
from pde_data.storage import DatasetError, Schema
from pde_data.symmetry.actions import KINDS, Action
from pde_data.symmetry.actions import symmetries as listed
from pde_data.symmetry.library import Library
from pde_data.symmetry.regression import Defect, Moments, defects, same_distribution

if TYPE_CHECKING:
    import xarray

__all__ = ["Audit", "Score", "symmetries"]

_LEAST_EXPLAINED = 0.1  # a law that explains less says nothing about its symmetries
_LEAST_SAMPLES = 8


@final
@dataclass(frozen=True)
class Score:
    """The verdict on one symmetry of the law.

    `defect` is the part of the predictable change that is lost when the symmetry is forced on the law, with
    bounds `low` and `high`; `explained` the part of the change that is predictable; `p_value` that of the
    fields themselves being distributed alike before and after. `None` where there was nothing to test.
    """

    symmetry: str
    verdict: Literal["keep", "reject", "undecided", "skipped"]
    defect: float | None = None
    low: float | None = None
    high: float | None = None
    explained: float | None = None
    p_value: float | None = None
    remark: str = ""


@final
@dataclass(frozen=True)
class Audit:
    """Scores by symmetry, as a table when printed.

    A law keeps a symmetry when the upper bound of its defect is below `margin`, and breaks it when the lower
    bound is above.
    """

    scores: Mapping[str, Score]
    margin: float
    confidence: float
    kinds: Mapping[str, str] = field(default_factory=dict)  # how each field turns
    about: Literal["middle", "origin"] = "middle"  # what stays: the middle of the array, or its first point

    def __getitem__(self, symmetry: str) -> Score:
        return self.scores[symmetry]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        scores = {name: asdict(score) for name, score in self.scores.items()}
        numbers = {"margin": self.margin, "confidence": self.confidence}
        return {**numbers, "kinds": dict(self.kinds), "about": self.about, "scores": scores}

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        bounds = f"{self.confidence:.0%} bounds"
        heads = f"{'defect':>8}  {bounds:<18}{'explained':>9}  {'same fields':>11}"
        yield f"{'symmetry':<20}{'verdict':<11}{heads}"
        for name, score in self.scores.items():
            line = f"{name:<20}{score.verdict:<11}"
            if score.defect is not None:
                between = f"{score.low:.3f} .. {score.high:.3f}"
                p_value = "" if score.p_value is None else f"p = {score.p_value:.3f}"
                line += f"{score.defect:>8.3f}  {between:<18}{score.explained:>9.2f}  {p_value:>11}"
            yield f"{line}  {score.remark}".rstrip()


def symmetries(
    source: str | os.PathLike | xarray.Dataset | Schema,
    *,
    fields: list[str] | None = None,
    kinds: Mapping[str, str] | None = None,
    backwards: Mapping[str, int] | None = None,
    samples: int = 64,
    intervals: int = 4,
    points: int = 400,
    margin: float = 0.02,
    confidence: float = 0.99,
    seed: int = 0,
) -> Audit:
    r"""Score translation, rotation by 90 degrees, reflection, Galilean shift and time reversal of a law.

    Of two consecutive frames, the change is predicted from their mean by least squares on a library of local
    terms, products, integrals and terms of the place, in which no direction or place is preferred. Forcing a
    symmetry on that law (fitting it to the data and all their images at once) costs nothing where the law has
    the symmetry; the *defect* is what it costs otherwise, as a part of what a law of its own for every image
    explains. Laws are fitted to one half of the trajectories and tested on the other; the bounds come from
    drawing trajectories with replacement. Rotations and reflections are about the origin of a periodic box
    and the middle of a bounded one.

    The distribution of the fields is compared to that of their images apart from that (`p_value`): where it
    differs, a symmetry of the law was tested on states that the data do not hold.

    Args:
        source: anything that `pde_data.open` reads, or an `xarray.Dataset`, with a time axis.
        fields: names of the fields over time that make up the state; default: all.
        kinds: how fields change when space is turned: "scalar", "pseudoscalar" (changes sign under
            reflection), "vector x", ...; default: their attribute `symmetry`, or scalar.
        backwards: 1 or -1 for fields that keep or change sign when time runs backwards; default: -1 for
            vectors and pseudoscalars, 1 for scalars.
        samples: most trajectories to use.
        intervals: pairs of frames of each.
        points: points of each frame.
        margin: the largest defect of a law that has the symmetry.
        confidence: of the bounds.
        seed: of the choice of trajectories, pairs and points.

    Raises `DatasetError` for data without time or a uniform grid, and `ValueError` for unknown kinds.

    >>> import pde_data, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     options = {"resolution": 32, "records": 10, "samples": 16, "processes": 1}
    ...     file = pde_data.generate("burgers", folder + "/b.h5", viscosity=0.05, **options)
    ...     audit = symmetries(file)
    >>> audit["reflection of x"].verdict, audit["time reversal"].verdict
    ('keep', 'reject')
    """
    schema, where = sources.describe(source)
    names = _state(schema, fields, where)
    dims = sources.common_dims(schema, names, where)
    grid = sources.grid_of(schema, dims[2:], where)
    if not isinstance(grid, Grid):
        raise DatasetError(f"{where} has latitudes and longitudes; symmetries are those of boxes")
    described = {n: str(schema.fields[n].attributes.get("symmetry", "scalar")) for n in names}
    chosen_kinds = {**described, **(kinds or {})}
    signs = {n: 1 if chosen_kinds[n] == "scalar" else -1 for n in names} | dict(backwards or {})
    _check(names, chosen_kinds, signs, where)
    rng = np.random.default_rng(seed)
    pairs = _pairs(schema, names, where, samples, intervals, rng)
    spots = [
        [
            rng.choice(int(np.prod(grid.sizes)), min(points, int(np.prod(grid.sizes))), replace=False)
            for _ in group
        ]
        for group in pairs
    ]
    library = Library(grid, len(names))
    plain, place = _moments(pairs, spots, library, lambda a, b, dt: (a, b))
    every = np.arange(plain.terms.shape[1])
    scores = {}
    for symmetry in listed(grid, names, chosen_kinds, signs, _speed(schema, pairs, names, chosen_kinds)):
        if symmetry.missing:
            scores[symmetry.name] = Score(symmetry.name, "skipped", remark=symmetry.missing)
            continue
        images = [_moments(pairs, spots, library, action)[0] for action in symmetry.actions]
        if symmetry.name == "translation":
            found = defects([plain], every[:-place], confidence, rng)
        else:
            found = defects([plain, *images], every, confidence, rng)
        spatial = symmetry.name.startswith(("translation", "rotation", "reflection"))
        p_value = same_distribution(plain, images[0], rng) if spatial else None
        scores[symmetry.name] = _score(symmetry.name, dict(zip(names, found)), p_value, margin, len(pairs))
    about = "origin" if all(grid.periodic) and grid.location == "node" else "middle"
    return Audit(scores, margin, confidence, {name: chosen_kinds[name] for name in names}, about)


Pair = tuple[np.ndarray, np.ndarray, float]


def _score(
    symmetry: str, defects: Mapping[str, Defect], p_value: float | None, margin: float, count: int
) -> Score:
    """The verdict for all fields together, with the numbers of the field that decides."""
    told = {name: found for name, found in defects.items() if found.explained >= _LEAST_EXPLAINED}
    broken = {name: found for name, found in told.items() if found.low > margin}
    field = max(broken or told or defects, key=lambda name: defects[name].high)
    worst = defects[field]
    verdict, remark = "undecided", ""
    if broken:
        verdict, remark = "reject", f"seen in {field}" if len(defects) > 1 else ""
    elif len(told) < len(defects):
        poor = next(name for name in defects if name not in told)
        remark = f"the change of {poor} can hardly be predicted: store frames closer in time"
    elif count < _LEAST_SAMPLES:
        remark = f"{count} trajectories, at least {_LEAST_SAMPLES} are needed"
    elif worst.high < margin:
        verdict = "keep"
    else:
        remark = "more trajectories, or frames closer in time, would narrow the bounds"
    return Score(symmetry, verdict, worst.value, worst.low, worst.high, worst.explained, p_value, remark)


def _state(schema: Schema, fields: list[str] | None, where: str) -> list[str]:
    moving = [name for name, variable in schema.fields.items() if "time" in variable.dims]
    names = moving if fields is None else list(fields)
    unknown = [name for name in names if name not in moving]
    if unknown or not names:
        missing = f"no field {unknown[0]!r} over time" if unknown else "no fields over time"
        raise DatasetError(f"{where} has {missing}; it has {', '.join(moving) or 'none'}")
    return names


def _check(names: list[str], kinds: Mapping[str, str], signs: Mapping[str, int], where: str) -> None:
    for given in (kinds, signs):
        for name in given:
            if name not in names:
                raise ValueError(f"{name!r} is not among the fields {', '.join(names)} of {where}")
    for name, kind in kinds.items():
        if kind not in KINDS:
            raise ValueError(f"{name!r} is called {kind!r}, expected one of {', '.join(KINDS)}")
    for name, sign in signs.items():
        if sign not in (1, -1):
            raise ValueError(f"backwards[{name!r}]={sign!r}, expected 1 or -1")


def _pairs(
    schema: Schema, names: list[str], where: str, samples: int, intervals: int, rng: np.random.Generator
) -> list[list[Pair]]:
    """Consecutive frames and the times between them, some for each trajectory."""
    arrays = [sources.field_array(schema.fields[name], name, where) for name in names]
    count, frames = arrays[0].shape[:2]
    if frames < 2:
        raise DatasetError(f"{where} has {frames} frame, a law needs at least two")
    coordinate = schema.variables.get("time")
    times = np.arange(frames) if coordinate is None else np.asarray(coordinate.values, np.float64)
    result = []
    for sample in np.sort(rng.choice(count, min(samples, count), replace=False)).tolist():
        starts = np.sort(rng.choice(frames - 1, min(intervals, frames - 1), replace=False))
        values = [array.sample(sample) for array in arrays]
        group = []
        for start in starts.tolist():
            first, second = (
                np.stack([np.asarray(v[k], np.float64) for v in values]) for k in (start, start + 1)
            )
            if np.isfinite(first).all() and np.isfinite(second).all():
                group.append((first, second, float(times[start + 1] - times[start])))
        if group:
            result.append(group)
    if len(result) < 2:
        raise DatasetError(f"{where} has {len(result)} trajectories of finite values, at least 2 are needed")
    return result


def _speed(
    schema: Schema, pairs: list[list[Pair]], names: list[str], kinds: Mapping[str, str]
) -> float | None:
    """Root mean square of one component of the velocity, where the fields hold one."""
    about = {n: f"{n} {schema.fields[n].attributes.get('long_name', '')}".lower() for n in names}
    velocity = [i for i, n in enumerate(names) if kinds[n].startswith("vector") and "velocity" in about[n]]
    if not velocity:
        return None
    return float(
        np.sqrt(np.mean([(first[velocity] ** 2).mean() for group in pairs for first, _, _ in group]))
    )


def _moments(
    pairs: list[list[Pair]], spots: list[list[np.ndarray]], library: Library, action: Action
) -> tuple[Moments, int]:
    """Moments of terms and rates of change of all pairs after an action, and how many are of the place."""
    terms, mixed, targets, place = [], [], [], 0
    for group, chosen in zip(pairs, spots):
        x, y = [], []
        for (first, second, dt), points in zip(group, chosen):
            a, b = action(first, second, dt)
            values, place = library.terms((a + b) / 2, points)
            x.append(values)
            y.append(((b - a) / dt).reshape(len(a), -1)[:, points].T)
        x, y = np.concatenate(x), np.concatenate(y)
        terms.append(x.T @ x)
        mixed.append(x.T @ y)
        targets.append((y**2).sum(0))
    return Moments(np.stack(terms), np.stack(mixed), np.stack(targets)), place
