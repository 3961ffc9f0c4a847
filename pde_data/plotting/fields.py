"""What there is to draw: the frames of each field of one sample, and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from pde_data import sources, ugrid
from pde_data.grids import Grid
from pde_data.meshes import TriangleMesh
from pde_data.storage import DatasetError, Schema


@final
@dataclass(frozen=True)
class Sphere:
    """Latitudes and longitudes in degrees, each in one direction."""

    latitudes: np.ndarray
    longitudes: np.ndarray


@final
@dataclass(frozen=True)
class Field:
    """Frames of a field: `(frame, *space)`, `(frame, latitude, longitude)` on a sphere, or `(frame, node)`.

    `times` has a label for each frame; a field without time has one frame and no `times`.
    """

    title: str
    values: np.ndarray
    place: Grid | Sphere | TriangleMesh
    times: tuple[str, ...] | None = None

    @property
    def kind(self) -> str:
        """Row of the table that draws it."""
        if isinstance(self.place, Grid):
            return {1: "line", 2: "plane", 3: "volume"}[self.place.ndim]
        return "sphere" if isinstance(self.place, Sphere) else "mesh"

    @property
    def limits(self) -> tuple[float, float]:
        """Least and greatest finite value over all frames; symmetric where both signs occur."""
        finite = self.values[np.isfinite(self.values)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        bound = max(-low, high)
        return (-bound, bound) if low < 0 < high else (low, high)

    def at(self, frames: np.ndarray) -> Field:
        """Only these frames."""
        times = None if self.times is None else tuple(self.times[frame] for frame in frames)
        return Field(self.title, self.values[frames], self.place, times)


def read(schema: Schema, where: str, variable: str | None, sample: int) -> list[Field]:
    """Fields of one sample, all of them or the one called `variable`.

    Raises `DatasetError` for unknown variables and samples that are not there.
    """
    on_mesh = ugrid.is_mesh(schema)
    described = ugrid.fields(schema) if on_mesh else schema.fields
    names = list(described)
    if variable is not None:
        names, _ = sources.field_names(schema, variable, variable, where)
    meshes = ugrid.Meshes(schema, where) if on_mesh else None
    found = []
    for name in names:
        field = described[name]
        units = field.attributes.get("units", "1")
        title = name if units in ("1", "") else f"{name} ({units})"
        count = len(meshes) if meshes is not None else field.values.shape[0]
        if not 0 <= sample < count:
            raise DatasetError(f"sample={sample} is not there: {where} has {count} samples")
        if meshes is not None:
            found.append(Field(title, meshes.values(name, sample)[None], meshes[sample]))
            continue
        timed = "time" in field.dims
        values = np.asarray(sources.field_array(field, name, where)[sample])
        values = values if timed else values[None]
        place, values = _placed(schema, field.dims[1 + timed :], values, where)
        found.append(Field(title, values, place, _times(schema, len(values)) if timed else None))
    return found


def _placed(
    schema: Schema, space: Sequence[str], values: np.ndarray, where: str
) -> tuple[Grid | Sphere, np.ndarray]:
    """Where the values lie, and the values with their axes in the order of that."""
    names = [
        schema.variables[dim].attributes.get("standard_name") for dim in space if dim in schema.variables
    ]
    if sorted(map(str, names)) != ["latitude", "longitude"]:
        return sources.grid_of(schema, space, where), values
    axes = [names.index("latitude"), names.index("longitude")]
    latitudes, longitudes = (np.asarray(schema.variables[space[axis]].values, np.float64) for axis in axes)
    return Sphere(latitudes, longitudes), values.transpose(0, *(1 + axis for axis in axes))


def _times(schema: Schema, count: int) -> tuple[str, ...]:
    if "time" not in schema.variables:
        return tuple(f"t = {frame}" for frame in range(count))
    time = schema.variables["time"]
    units = time.attributes.get("units", "1")
    return tuple(f"t = {t:g}" if units in ("1", "") else f"t = {t:g} {units}" for t in time.values)
