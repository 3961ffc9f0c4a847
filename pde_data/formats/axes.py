"""Coordinates of foreign files, with attributes that say what their own files leave to hearsay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pde_data.grids import Grid
from pde_data.storage import Variable


def samples(count: int) -> dict[str, Variable]:
    """The coordinate of the samples: their numbers."""
    return {"sample": Variable(("sample",), np.arange(count), {"long_name": "sample number"})}


def centres(size: int, length: float = 1.0, origin: float = 0.0) -> np.ndarray:
    """Centres of `size` equal cells of an interval.

    >>> centres(4)
    array([0.125, 0.375, 0.625, 0.875])
    """
    return origin + (np.arange(size) + 0.5) * (length / size)


def space(
    axes: Mapping[str, np.ndarray],
    conditions: Mapping[str, str],
    location: str | None = None,
    notes: Mapping[str, str] | None = None,
) -> dict[str, Variable]:
    """Coordinates of the space axes, from which the grid is told where they are uniform.

    `conditions` names the boundary condition of each axis: "periodic", "dirichlet", "neumann", "wall",
    "open", or "" where it is unknown. `location` is "cell" or "node", by default told from the values.
    `notes` tell what was repaired, by axis.
    """
    periodic = tuple(conditions.get(name) == "periodic" for name in axes)
    about: list[dict[str, Any]] = [{} for _ in axes]
    try:
        grid = Grid.from_coordinates(*axes.values(), periodic=periodic, location=location)
        for axis, attributes in enumerate(about):
            attributes["grid_location"] = grid.location
            attributes["grid_origin"] = grid.origin[axis]
            attributes["grid_length"] = grid.lengths[axis]
    except ValueError:
        pass  # points that are not uniform: the coordinates speak for themselves
    return {
        name: Variable(
            (name,),
            np.asarray(values),
            {
                "units": "1",
                "axis": "XYZ"[axis],
                "long_name": f"position along {name}",
                "boundary": "periodic" if periodic[axis] else "bounded",
                **({"boundary_condition": conditions[name]} if conditions.get(name) else {}),
                **about[axis],
                **_repaired((notes or {}).get(name, "")),
            },
        )
        for axis, (name, values) in enumerate(axes.items())
    }


def times(values: np.ndarray, note: str = "") -> dict[str, Variable]:
    """The time axis, from times `(time,)`, or `(sample, time)` which may or may not differ.

    Where samples have times of their own, `time` has no coordinate and `t` holds them. `note` tells what was
    repaired.
    """
    values = np.asarray(values)
    attributes = {"units": "1", "long_name": "time", **_repaired(note)}
    if values.ndim == 2 and (values == values[:1]).all():
        values = values[0]
    if values.ndim == 2:
        return {"t": Variable(("sample", "time"), values, attributes)}
    return {"time": Variable(("time",), values, {**attributes, "axis": "T"})}


def _repaired(note: str) -> dict[str, str]:
    return {"repaired": note} if note else {}


def in_words(conditions: Mapping[str, str]) -> str:
    """Boundary conditions as a sentence.

    >>> in_words({"x": "periodic", "y": "periodic"}), in_words({"x": "periodic", "y": "wall"})
    ('periodic in x and y', 'periodic in x; wall in y')
    """
    groups: dict[str, list[str]] = {}
    for name, condition in conditions.items():
        groups.setdefault(condition or "unknown", []).append(name)
    return "; ".join(f"{condition} in {' and '.join(names)}" for condition, names in groups.items())
