"""How each kind of field is drawn: one row of `KINDS` each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

from pde_data.grids import Grid
from pde_data.meshes import TriangleMesh
from pde_data.plotting.fields import Field, Sphere

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@final
@dataclass(frozen=True)
class Strip:
    """Panels in a row: one for each frame, all drawn alike.

    `draw` puts one frame on axes and returns a function that puts another frame in its place; its artist is
    what a colour bar explains, or `None`.
    """

    title: str
    frames: Sequence[np.ndarray]
    labels: Sequence[str]
    draw: Callable[[Axes, np.ndarray], tuple[Any, Callable[[np.ndarray], None]]]
    projection: str | None = None
    width: float = 2.2
    """Of a panel, in inches."""
    aspect: float = 1.0
    """Height of a panel by its width."""


@final
@dataclass(frozen=True)
class Kind:
    """What becomes of a field: the strips of a picture, of its chosen frames, and those of an animation."""

    still: Callable[[Field, np.ndarray], list[Strip]]
    moving: Callable[[Field], list[Strip]]


def _colours(field: Field) -> dict[str, Any]:
    low, high = field.limits
    return {"vmin": low, "vmax": high, "cmap": "RdBu_r" if low < 0 < high else "viridis"}


def _labels(field: Field) -> Sequence[str]:
    return field.times or ("",)


def _space_time(field: Field, frames: np.ndarray) -> list[Strip]:
    """Place to the right, time upwards; curves for a field without time, or of two frames and less."""
    assert isinstance(field.place, Grid)
    if len(field.values) < 3:
        return _curves(field.at(frames))
    (low,), (side,) = field.place.origin, field.place.lengths
    times = [label.removeprefix("t = ") for label in _labels(field)]

    def draw(axes: Axes, values: np.ndarray) -> tuple[Any, Callable[[np.ndarray], None]]:
        extent = (low, low + side, -0.5, len(values) - 0.5)
        image = axes.imshow(values, origin="lower", extent=extent, aspect="auto", **_colours(field))
        ticks = np.unique(np.linspace(0, len(values) - 1, 5).round().astype(int))
        axes.set_yticks(ticks, [times[tick] for tick in ticks])
        axes.set(xlabel="x", ylabel="t")
        return image, image.set_array

    return [Strip(field.title, [field.values], [field.title], draw, width=3.2, aspect=0.75)]


def _curves(field: Field) -> list[Strip]:
    assert isinstance(field.place, Grid)
    x, (low, high) = field.place.coordinates[0], field.limits

    def draw(axes: Axes, values: np.ndarray) -> tuple[Any, Callable[[np.ndarray], None]]:
        (line,) = axes.plot(x, values)
        axes.set(ylim=(low, high) if low < high else None, xlabel="x")
        return None, line.set_ydata

    return [Strip(field.title, list(field.values), _labels(field), draw, width=3.2, aspect=0.75)]


def _panels(field: Field) -> list[Strip]:
    """The first axis to the right, the second upwards."""
    assert isinstance(field.place, Grid)
    (x, y), (width, height) = field.place.origin, field.place.lengths
    extent = (x, x + width, y, y + height)

    def draw(axes: Axes, values: np.ndarray) -> tuple[Any, Callable[[np.ndarray], None]]:
        image = axes.imshow(values.T, origin="lower", extent=extent, **_colours(field))
        axes.set(xticks=[], yticks=[])
        return image, lambda frame: image.set_array(frame.T)

    return [Strip(field.title, list(field.values), _labels(field), draw)]


def _slices(field: Field) -> list[Strip]:
    """Three planes through the middle, on one colour scale."""
    assert isinstance(field.place, Grid)
    grid, strips = field.place, []
    extents = [(o, o + length) for o, length in zip(grid.origin, grid.lengths)]
    for axis in (2, 1, 0):
        middle = grid.sizes[axis] // 2
        rest = [a for a in range(3) if a != axis]
        extent = [*extents[rest[0]], *extents[rest[1]]]

        def draw(
            axes: Axes, values: np.ndarray, extent: Any = extent, rest: Any = rest
        ) -> tuple[Any, Callable[[np.ndarray], None]]:
            image = axes.imshow(values.T, origin="lower", extent=extent, **_colours(field))
            axes.set(xticks=[], yticks=[], xlabel="xyz"[rest[0]])
            return image, lambda frame: image.set_array(frame.T)

        frames = list(np.take(field.values, middle, axis=1 + axis))
        place = f"{'xyz'[axis]} = {grid.coordinates[axis][middle]:g}"
        strips.append(Strip(f"{field.title}\n{place}", frames, _labels(field), draw))
    return strips


def _globe(field: Field) -> list[Strip]:
    """A map of equal areas (Mollweide's), with longitude 0 in the middle."""
    assert isinstance(field.place, Sphere)
    longitudes = (field.place.longitudes + 180) % 360 - 180
    order, north = np.argsort(longitudes), np.argsort(field.place.latitudes)
    east, up = longitudes[order], field.place.latitudes[north]
    # The cell across the date line is drawn in two parts, one at each end.
    middles, last = (east[1:] + east[:-1]) / 2, (east[-1] + east[0] + 360) / 2
    if last <= 180:
        x, columns = [-180, *middles, last, 180], [*order, order[0]]
    else:
        x, columns = [-180, last - 360, *middles, 180], [order[-1], *order]
    x = np.deg2rad(x)
    y = np.deg2rad([-90, *((up[1:] + up[:-1]) / 2), 90])

    def cells(values: np.ndarray) -> np.ndarray:
        return values[north][:, columns]

    def draw(axes: Axes, values: np.ndarray) -> tuple[Any, Callable[[np.ndarray], None]]:
        mesh = axes.pcolormesh(x, y, cells(values), **_colours(field))
        axes.set(xticks=[], yticks=[])
        return mesh, lambda frame: mesh.set_array(cells(frame))

    return [Strip(field.title, list(field.values), _labels(field), draw, "mollweide", 3.6, 0.5)]


def _triangles(field: Field) -> list[Strip]:
    """Colours between the nodes of a mesh; what is outside of it, holes too, stays white."""
    from matplotlib.tri import Triangulation

    assert isinstance(field.place, TriangleMesh)
    mesh = field.place

    def draw(axes: Axes, values: np.ndarray) -> tuple[Any, Callable[[np.ndarray], None]]:
        places = Triangulation(mesh.points[:, 0], mesh.points[:, 1], mesh.triangles)
        colours = axes.tripcolor(places, values, shading="gouraud", **_colours(field))
        axes.set(xticks=[], yticks=[], aspect="equal")
        return colours, colours.set_array

    wide, high = np.ptp(mesh.points, axis=0)
    aspect = float(np.clip(high / wide, 0.2, 3.0))
    return [
        Strip(
            field.title,
            list(field.values),
            _labels(field),
            draw,
            width=2.6 / min(aspect + 0.3, 1),
            aspect=aspect,
        )
    ]


def _same(strips: Callable[[Field], list[Strip]]) -> Kind:
    return Kind(lambda field, frames: strips(field.at(frames)), strips)


KINDS = {
    "line": Kind(_space_time, _curves),
    "plane": _same(_panels),
    "volume": _same(_slices),
    "sphere": _same(_globe),
    "mesh": _same(_triangles),
}
