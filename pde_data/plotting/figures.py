"""Strips of panels put together: pictures, animations and previews."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pde_data import sources
from pde_data.grids import Grid
from pde_data.plotting.fields import Field, read
from pde_data.plotting.kinds import KINDS, Strip
from pde_data.plotting.spectra import draw_spectra
from pde_data.storage import DatasetError, Schema

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDEST = 10.5  # in inches, of single panels side by side


def plot(
    path: str | os.PathLike,
    variable: str | None = None,
    *,
    sample: int = 0,
    frames: int = 5,
    output: str | os.PathLike | None = None,
) -> Figure:
    """Draw one sample: `frames` snapshots of each field on one colour scale, and its spectrum where periodic.

    Fields over one dimension become a diagram of place and time, those over three dimensions three slices
    through the middle, those over latitude and longitude maps, those on meshes coloured triangles. `variable`
    chooses one field. `output` writes the figure to a file (PNG, PDF, SVG, by its ending). Raises
    `DatasetError` for unknown variables and samples that are not there.
    """
    schema, where = sources.describe(path)
    figure = _figure(read(schema, where, variable, sample), max(frames, 1), spectra=True)
    if output is not None:
        figure.savefig(output, dpi=150)
    return figure


def animate(
    path: str | os.PathLike,
    output: str | os.PathLike,
    variable: str | None = None,
    *,
    sample: int = 0,
    rate: int = 10,
) -> None:
    """Write all frames of one sample as a film, `rate` in a second: a GIF, or with ffmpeg what it can write.

    Raises `DatasetError` for fields without time, for unknown variables and samples that are not there, and
    for endings other than `.gif` where ffmpeg is missing.
    """
    from matplotlib.animation import FFMpegWriter, FuncAnimation, PillowWriter

    schema, where = sources.describe(path)
    fields = [field for field in read(schema, where, variable, sample) if field.times is not None]
    if not fields:
        raise DatasetError(f"{where} has no field over time here, so nothing to animate; draw it with plot")
    gif = Path(output).suffix.lower() == ".gif"
    if not gif and not FFMpegWriter.isAvailable():
        raise DatasetError(f"writing {output} needs ffmpeg, which is not installed; choose a name in .gif")
    strips = [strip for field in fields for strip in KINDS[field.kind].moving(field)]
    figure, panels = _canvas(strips, columns=1)
    updates = [_draw(figure, [axes], strip) for strip, (axes,) in zip(strips, panels)]

    def show(frame: int) -> list[Any]:
        for strip, (axes,), update in zip(strips, panels, updates):
            update(strip.frames[frame])
            axes.set_title(strip.labels[frame], fontsize="small")
        return []

    film = FuncAnimation(figure, show, frames=min(len(strip.frames) for strip in strips), blit=False)
    film.save(os.fspath(output), writer=PillowWriter(fps=rate) if gif else FFMpegWriter(fps=rate))


def preview(schema: Schema, where: str, variables: list[str], sample: int) -> bytes:
    """Draw a small PNG picture of a few fields of one sample."""
    fields = [field for name in variables[:3] for field in read(schema, where, name, sample)]
    output = io.BytesIO()
    _figure(fields, 4, spectra=False).savefig(output, dpi=50, format="png")
    return output.getvalue()


def _figure(fields: list[Field], frames: int, spectra: bool) -> Figure:
    chosen = [
        np.unique(np.linspace(0, len(f.values) - 1, min(frames, len(f.values))).round().astype(int))
        for f in fields
    ]
    strips = [
        (number, strip)
        for number, (field, taken) in enumerate(zip(fields, chosen))
        for strip in KINDS[field.kind].still(field, taken)
    ]
    periodic = {
        number
        for number, field in enumerate(fields)
        if spectra and isinstance(field.place, Grid) and all(field.place.periodic)
    }
    columns = max(len(strip.frames) for _, strip in strips)
    figure, panels = _canvas([strip for _, strip in strips], columns, spectra=bool(periodic))
    for (number, strip), row in zip(strips, panels):
        _draw(figure, row[: len(strip.frames)], strip)
        if len(row) > len(strip.frames):
            if number in periodic:
                draw_spectra(row[-1], fields[number].at(chosen[number]))
            else:
                row[-1].set_axis_off()
            periodic.discard(number)  # several strips of a field have one spectrum
    return figure


def _canvas(strips: list[Strip], columns: int, spectra: bool = False) -> tuple[Figure, list[list[Any]]]:
    """Make a figure with a row of panels for each strip, and room for spectra; single panels share rows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width, height = max(s.width for s in strips), max(s.width * s.aspect for s in strips) + 0.4
    beside = 1 if columns > 1 or spectra else max(1, min(len(strips), int(_WIDEST / (width + 0.8))))
    rows = -(-len(strips) // beside)
    figure = Figure(
        figsize=((width * columns + 0.8) * beside + 2.6 * spectra, height * rows + 0.2), layout="constrained"
    )
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows, columns * beside + spectra)
    panels = []
    for number, strip in enumerate(strips):
        row, first = divmod(number, beside)
        count = len(strip.frames) if columns > 1 else 1
        places = [grid[row, first + column] for column in range(count)]
        panels.append([figure.add_subplot(place, projection=strip.projection) for place in places])
        if spectra:
            panels[-1].append(figure.add_subplot(grid[row, columns]))
    return figure, panels


def _draw(figure: Figure, axes: list[Any], strip: Strip) -> Any:
    """Draw a strip with its title and colour bar; returns what changes the frame of its last panel."""
    shown, update = None, None
    for panel, frame, label in zip(axes, strip.frames, strip.labels):
        shown, update = strip.draw(panel, frame)
        panel.set_title(label, fontsize="small")
    if not axes[0].get_ylabel():
        axes[0].set_ylabel(strip.title)
    if shown is not None:
        figure.colorbar(shown, ax=axes, shrink=0.8)
    return update
