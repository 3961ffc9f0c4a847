"""What a symmetry does to a pair of frames: turn, mirror, shift, run backwards, ride along."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from pde_data.grids import Grid

KINDS = ("scalar", "pseudoscalar", "vector x", "vector y", "vector z")
_BOOST = 0.5  # of the root mean square velocity

# Two consecutive frames (field, *space) and the time between them, to the same.
Action = Callable[[np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray]]


@final
@dataclass(frozen=True)
class Symmetry:
    """A group, as its actions other than doing nothing; with `missing`, why it cannot be tested."""

    name: str
    actions: tuple[Action, ...] = ()
    missing: str = ""


def symmetries(
    grid: Grid,
    names: Sequence[str],
    kinds: Mapping[str, str],
    backwards: Mapping[str, int],
    speed: float | None,
) -> list[Symmetry]:
    """Every symmetry that can be asked of fields on a grid.

    `backwards` holds the sign of each field when time runs backwards, `speed` the root mean square velocity.
    """
    found = [_translation(grid)]
    for a in range(grid.ndim):
        for b in range(a + 1, grid.ndim):
            found.append(_rotation(grid, names, kinds, a, b))
    found += [_reflection(grid, names, kinds, axis) for axis in range(grid.ndim)]
    found.append(_galilean(grid, names, kinds, speed))
    signs = np.array([backwards[name] for name in names]).reshape(-1, *(1,) * grid.ndim)
    found.append(Symmetry("time reversal", (lambda a, b, dt: (signs * b, signs * a),)))
    return found


def _translation(grid: Grid) -> Symmetry:
    if not all(grid.periodic):
        return Symmetry("translation", missing="the domain is bounded")

    # Of the law itself, terms of the place are left out; these shifts compare the statistics of the fields.
    def shift(a: np.ndarray, b: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
        axes, steps = range(1, 1 + grid.ndim), [n // 3 for n in grid.sizes]
        return np.roll(a, steps, axes), np.roll(b, steps, axes)

    return Symmetry("translation", (shift,))


def _rotation(grid: Grid, names: Sequence[str], kinds: Mapping[str, str], a: int, b: int) -> Symmetry:
    name = "rotation by 90" + (f" in {'xyz'[a]}{'xyz'[b]}" if grid.ndim > 2 else "")
    for attribute in ("sizes", "lengths", "periodic"):
        values = getattr(grid, attribute)
        if values[a] != values[b]:
            return Symmetry(name, missing=f"the axes differ in {attribute}")
    quarter = np.eye(grid.ndim, dtype=int)
    quarter[[a, b]] = quarter[[b, a]]
    quarter[a] *= -1
    turns = [np.linalg.matrix_power(quarter, k) for k in (1, 2, 3)]
    return _orthogonal(name, grid, names, kinds, turns)


def _reflection(grid: Grid, names: Sequence[str], kinds: Mapping[str, str], axis: int) -> Symmetry:
    mirror = np.eye(grid.ndim, dtype=int)
    mirror[axis, axis] = -1
    return _orthogonal(f"reflection of {'xyz'[axis]}", grid, names, kinds, [mirror])


def _orthogonal(
    name: str, grid: Grid, names: Sequence[str], kinds: Mapping[str, str], matrices: Sequence[np.ndarray]
) -> Symmetry:
    """Signed permutations of the axes about the origin of a periodic box or the middle of a bounded one."""
    for field in names:
        if kinds[field].startswith("vector") and _components(names, kinds, field, grid.ndim) is None:
            return Symmetry(
                name, missing=f"{field!r} is one component of a vector, and the others are missing"
            )
    return Symmetry(name, tuple(_turn(grid, names, kinds, matrix) for matrix in matrices))


def _components(names: Sequence[str], kinds: Mapping[str, str], field: str, ndim: int) -> list[int] | None:
    """Places of all components of the vector that a field belongs to: the n-th of each kind go together."""
    by_axis = [[i for i, n in enumerate(names) if kinds[n] == f"vector {axis}"] for axis in "xyz"[:ndim]]
    place = names.index(field)
    rank = next(group.index(place) for group in by_axis if place in group)
    return [group[rank] for group in by_axis] if all(len(group) > rank for group in by_axis) else None


def _turn(grid: Grid, names: Sequence[str], kinds: Mapping[str, str], matrix: np.ndarray) -> Action:
    source = [int(np.flatnonzero(row)[0]) for row in matrix]
    sign = matrix.sum(axis=1)
    parity = round(np.linalg.det(matrix))
    taken, signs = [], []
    for i, name in enumerate(names):
        kind = kinds[name]
        if kind.startswith("vector"):
            axis = "xyz".index(kind[-1])
            components = _components(names, kinds, name, grid.ndim)
            assert components is not None
            taken.append(components[source[axis]])
            signs.append(int(sign[axis]))
        else:
            taken.append(i)
            signs.append(parity if kind == "pseudoscalar" else 1)
    factor = np.array(signs).reshape(-1, *(1,) * grid.ndim)

    def act(values: np.ndarray) -> np.ndarray:
        for axis in range(grid.ndim):
            if sign[axis] < 0:
                values = np.flip(values, 1 + source[axis])
                if grid.periodic[source[axis]] and grid.location == "node":
                    values = np.roll(values, 1, 1 + source[axis])  # the point at the origin stays
        return factor * values.transpose(0, *(1 + s for s in source))[taken]

    return lambda a, b, dt: (act(a), act(b))


def _galilean(grid: Grid, names: Sequence[str], kinds: Mapping[str, str], speed: float | None) -> Symmetry:
    name = "Galilean shift"
    if not all(grid.periodic):
        return Symmetry(name, missing="the domain is bounded")
    if speed is None:
        return Symmetry(name, missing="no velocity among the fields: a mean flow would not show")
    boosts = [
        _boost(
            grid,
            [i for i, n in enumerate(names) if kinds[n] == f"vector {'xyz'[axis]}"],
            axis,
            sign * _BOOST * speed,
        )
        for axis in range(grid.ndim)
        for sign in (1, -1)
    ]
    return Symmetry(name, tuple(boosts))


def _boost(grid: Grid, components: Sequence[int], axis: int, speed: float) -> Action:
    def act(a: np.ndarray, b: np.ndarray, dt: float) -> tuple[np.ndarray, np.ndarray]:
        modes = np.fft.fft(b, axis=1 + axis)
        phase = np.exp(-1j * grid.wavenumbers(axis) * speed * dt).reshape(-1, *(1,) * (grid.ndim - 1 - axis))
        b = np.fft.ifft(modes * phase, axis=1 + axis).real
        a = a.copy()
        a[components] += speed
        b[components] += speed
        return a, b

    return act
