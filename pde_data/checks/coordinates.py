"""Coordinates against themselves, the attributes, and the fields on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pde_data.checks.base import Row, Subject, judged, skipped
from pde_data.storage import Variable

_TOLERANCE = 1e-3  # of a spacing: float32 coordinates pass


def spacing(subject: Subject) -> Iterator[Row]:
    """Coordinates that are finite, increase, and are uniform."""
    for dim in ("time", *subject.space):
        variable = subject.schema.variables.get(dim)
        if dim not in subject.schema.sizes:
            continue
        if variable is None or variable.dims != (dim,):
            yield skipped("coordinates", dim, "no coordinate")
            continue
        dtype = np.asarray(variable.values).dtype
        if dtype.kind in "mM":
            yield skipped("coordinates", dim, "a calendar, no coordinate of numbers")
            continue
        if dtype.kind not in "fiu":
            remark = f"has type {dtype}, expected numbers; write it again"
            yield Row("coordinates", dim, "fail", remark=remark)
            continue
        x = np.asarray(variable.values, np.float64)
        note = str(variable.attributes.get("repaired", ""))
        steps = np.diff(x)
        if not np.isfinite(x).all():
            yield judged(
                "coordinates", dim, int((~np.isfinite(x)).sum()), 0, "NaN or infinity; write it again"
            )
        elif len(x) < 2:
            yield skipped("coordinates", dim, "a single point")
        elif not (steps > 0).all():
            backward = int((steps <= 0).sum())
            yield judged(
                "coordinates", dim, backward, 0, "does not increase; sort it, and the fields with it"
            )
        else:
            yield _uniform(dim, steps, note)


def _uniform(dim: str, steps: np.ndarray, note: str) -> Row:
    typical = float(np.median(steps))
    odd = np.abs(steps - typical) > _TOLERANCE * typical
    deviation = float(np.abs(steps - typical).max() / typical)
    if odd.sum() > max(2, 0.2 * len(steps)):  # one point that moved makes two odd steps
        return Row(
            "coordinates", dim, "pass", None, None, f"increases, with steps of several sizes{_and(note)}"
        )
    place = int(np.argmax(odd))
    remedy = (
        f"step {place} is {steps[place]:.4g}, others are {typical:.4g}: an entry is missing, moved or doubled"
    )
    return judged("coordinates", dim, deviation, _TOLERANCE, remedy, note)


def _and(note: str) -> str:
    return f"; {note}" if note else ""


def consistent(subject: Subject) -> Iterator[Row]:
    """Coordinates against what their attributes and those of the file say of length, location and times."""
    for dim in subject.space:
        variable = subject.schema.variables.get(dim)
        if variable is None or "grid_length" not in variable.attributes:
            yield skipped("domain", dim, "the file does not state the length of the axis")
            continue
        yield _axis(subject, dim, variable)
    times = subject.times(0)
    attributes = subject.schema.attributes
    for key, value in (
        ("t_end", None if times is None or not len(times) else float(times[-1])),
        ("records", None if times is None else len(times) - 1),
    ):
        stated = attributes.get(key)
        if value is None or isinstance(stated, bool) or not isinstance(stated, int | float | np.number):
            continue
        error = abs(value - float(stated)) / max(abs(float(stated)), 1e-300)
        yield judged(
            "domain", key, error, 1e-6, f"the times end so that {key} is {value:g}, the file says {stated:g}"
        )


def _axis(subject: Subject, dim: str, variable: Variable) -> Row:
    x, about = np.asarray(variable.values, np.float64), variable.attributes
    if len(x) < 2:
        return skipped("domain", dim, "a single point")
    h = (x[-1] - x[0]) / (len(x) - 1)
    length, origin = float(about["grid_length"]), float(about.get("grid_origin", 0.0))
    location, periodic = str(about.get("grid_location", "node")), about.get("boundary") == "periodic"
    if location not in ("node", "cell"):
        return Row("domain", dim, "fail", remark=f"grid_location is {location!r}, expected 'node' or 'cell'")
    points = len(x) - (location == "node" and not periodic)
    first = origin + (h / 2 if location == "cell" else 0.0)
    stated = subject.schema.attributes.get("length")
    error, remedy = abs(points * h - length) / h, ""
    if error > _TOLERANCE:
        remedy = f"{len(x)} points {h:.6g} apart span {points * h:.6g}, the file says {length:.6g}"
        if abs((len(x) - 1) * h - length) <= _TOLERANCE * h and periodic:
            remedy += ": the far end was counted as a point, as linspace(0, L, n) does; use arange(n)*L/n"
    elif (shift := abs(x[0] - first) / h) > _TOLERANCE:
        error = shift
        remedy = f"the first point is {x[0]:.6g}, that of a {location} grid would be {first:.6g}"
        if abs(shift - 0.5) <= 10 * _TOLERANCE:
            other = "node" if location == "cell" else "cell"
            remedy += f": half a spacing off, the coordinates are those of a {other} grid"
    elif isinstance(stated, float | int) and not isinstance(stated, bool) and periodic:
        error = abs(length - float(stated)) / h
        remedy = f"the axis has length {length:.6g}, the equation was solved on {stated:.6g}"
    return judged("domain", dim, error, _TOLERANCE, remedy)


def periodicity(subject: Subject) -> Iterator[Row]:
    """Fields on periodic axes: the step across the boundary is one like any other."""
    for axis, dim in enumerate(subject.space):
        variable = subject.schema.variables.get(dim)
        if variable is None or variable.attributes.get("boundary") != "periodic":
            yield skipped("periodic", dim, "the file does not say that the axis is periodic")
            continue
        for name in filter(subject.on_grid, subject.fields):
            yield _wrap(subject, name, axis, dim)


def _wrap(subject: Subject, name: str, axis: int, dim: str) -> Row:
    place = axis - len(subject.space)
    total = 0.0
    for sample in subject.chosen.tolist():
        for frame in range(0, subject.frames(name), max(1, subject.frames(name) // 4)):
            u = subject.frame(name, sample, frame)
            step = np.roll(u, -1, place) - u
            total = total + (step**2).mean(axis=tuple(a for a in range(u.ndim) if a != u.ndim + place))
    steps = np.sqrt(np.asarray(total))
    label = f"{name} along {dim}"
    if not np.isfinite(steps).all() or len(steps) < 8 or not steps[:-1].max() > 0:
        return skipped("periodic", label, "constant, not finite, or fewer than 8 points")
    inner, seam = steps[:-1], steps[-1]
    if seam < 1e-3 * inner.min():
        remedy = "the last point repeats the first; drop it, or call the axis bounded"
        return Row("periodic", label, "fail", float(inner.min() / max(seam, 1e-300)), 1e3, remedy)
    remedy = (
        f"the step across the boundary is {seam / np.median(inner):.3g} times the usual one: not periodic"
    )
    return judged("periodic", label, float(seam / inner.max()), 3.0, remedy)
