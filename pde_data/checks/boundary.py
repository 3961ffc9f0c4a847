"""Values on the boundary against the boundary conditions that the file states in words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from pde_data.checks.base import Row, Subject, judged, skipped
from pde_data.grids import Grid

# Of the root mean square of the field, or of its differences: points on the boundary have it exactly, from
# cell centres it is extrapolated.
_AT_POINTS, _EXTRAPOLATED = 1e-3, 0.1
_SLOPE = 0.5

_ZERO = re.compile(
    r"(?P<d>d(?=\w+/dn))?(?P<name>\w+?)(?:/dn)? (?:= )?0 (?:"
    r"(?P<rest>on the other faces)|on the (?:faces|boundary)|at both ends of (?P<ends>\w)|"
    r"at (?P<axis>[a-z]) = (?P<place>[-\d.e]+))"
)
_WORDS = re.compile(r"(?P<kind>dirichlet|neumann|no-slip walls|wall) in (?P<axes>[a-z](?: and [a-z])*)")


@final
@dataclass(frozen=True)
class _Face:
    """One end of an axis, where a field or its normal derivative is zero."""

    field: str
    slope: bool
    axis: int
    end: int


def boundary(subject: Subject) -> Iterator[Row]:
    """Fields and normal derivatives that vanish on faces of the box, where the file says so."""
    grid = subject.box
    if isinstance(grid, str):
        yield skipped("boundary", "fields", grid)
        return
    if all(grid.periodic):
        yield skipped("boundary", "fields", "every axis is periodic")
        return
    faces = list(_faces(subject, grid))
    if not faces:
        stated = str(subject.schema.attributes.get("boundary_conditions", "")) or "nothing"
        yield skipped("boundary", "fields", f"the file states no value that can be compared, but: {stated}")
    for face in faces:
        yield _compare(subject, grid, face)


def _faces(subject: Subject, grid: Grid) -> Iterator[_Face]:
    text = str(subject.schema.attributes.get("boundary_conditions", ""))
    text = f"{text}; {subject.schema.attributes.get('equation', '')}"
    left = {(a, e) for a in range(grid.ndim) if not grid.periodic[a] for e in (0, 1)}
    every = set(left)
    for found in _ZERO.finditer(text):
        if found["axis"] or found["ends"]:
            letter = found["axis"] or found["ends"]
            ends = (0, 1) if found["ends"] else (_end(grid, subject.space, letter, float(found["place"])),)
            chosen = {(subject.space.index(letter), end) for end in ends if letter in subject.space} & every
            left -= chosen
        else:
            chosen = left if found["rest"] else every
        for axis, end in sorted(chosen):
            for field in filter(subject.on_grid, subject.fields):
                if field == found["name"] or field.startswith(f"{found['name']}_"):
                    yield _Face(field, bool(found["d"]), axis, end)
    targets = str(subject.schema.attributes.get("targets", "")).split()
    for found in _WORDS.finditer(text):
        for letter in found["axes"].split(" and "):
            axis = subject.space.index(letter) if letter in subject.space else -1
            for field in filter(subject.on_grid, subject.fields):
                symmetry = str(subject.schema.fields[field].attributes.get("symmetry", ""))
                walls = {
                    "wall": symmetry == f"vector {letter}",
                    "no-slip walls": symmetry.startswith("vector"),
                }
                if (axis, 0) in every and walls.get(found["kind"], field in targets):
                    yield from (_Face(field, found["kind"] == "neumann", axis, end) for end in (0, 1))


def _end(grid: Grid, space: tuple[str, ...], letter: str, place: float) -> int:
    axis = space.index(letter) if letter in space else 0
    return int(place > grid.origin[axis] + grid.lengths[axis] / 2)


def _compare(subject: Subject, grid: Grid, face: _Face) -> Row:
    on_face = half_outside = size = 0.0
    for sample in subject.chosen.tolist():
        u = np.moveaxis(subject.frame(face.field, sample, subject.frames(face.field) - 1), face.axis, 0)
        u = u[::-1] if face.end else u
        if len(u) < 3:
            return skipped("boundary", face.field, "fewer than three points")
        points, outside = _estimates(u[:3], face.slope)
        on_face += float((points**2).mean())
        half_outside += float((outside**2).mean())
        size += float((np.diff(u, axis=0) ** 2).mean() if face.slope else (u**2).mean())
    name = f"d{face.field}/dn" if face.slope else face.field
    label = f"{name} at {'end' if face.end else 'start'} of {subject.space[face.axis]}"
    if not size > 0:
        return skipped("boundary", label, "zero everywhere")
    points, outside = np.sqrt(on_face / size), np.sqrt(half_outside / size)
    if grid.location == "cell":
        remedy = "extrapolated to the face it is not zero: another value is prescribed, or these are nodes"
        # On a coarse grid it is enough that the field goes to zero there.
        tolerance = _SLOPE if face.slope else max(_EXTRAPOLATED, points / 2)
        return judged("boundary", label, outside, tolerance, remedy)
    remedy = "not zero on the boundary"
    if outside < points / 4:
        remedy += ", but half a spacing further out: these are values of cell centres, labelled as nodes"
    return judged("boundary", label, points, _SLOPE if face.slope else _AT_POINTS, remedy)


def _estimates(u: np.ndarray, slope: bool) -> tuple[np.ndarray, np.ndarray]:
    """The field, or its difference over a spacing, at the first of three points and half a spacing before it.

    From the parabola through them.
    """
    if slope:
        return (-3 * u[0] + 4 * u[1] - u[2]) / 2, -2 * u[0] + 3 * u[1] - u[2]
    return u[0], (15 * u[0] - 10 * u[1] + 3 * u[2]) / 8
