"""Films of samples on their way."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opflow.plot._style import new_figure
from opflow.plot.fields import _array, _scale
from opflow.plot.samples import _sheet

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def film(
    path: str | PathLike,
    panels: Mapping[str, Any],
    titles: list[str],
    *,
    columns: int | None = None,
    images: bool = False,
    frames_per_second: int = 8,
) -> "Figure":
    """Write samples that change, in panels beside each other, as a GIF; return the figure of the last frame.

    Args:
        path: ends in `.gif`.
        panels: `(frame, sample, x, y)` per label; each panel keeps one colour scale, that of its values.
        titles: one per frame.
        columns: samples in a row; about the square root of their number when None.
        images: as for `sample_grid`.
        frames_per_second: speed.

    Raises:
        ValueError: another file ending, or another number of frames than of titles.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> state = np.random.default_rng(0).normal(size=(3, 4, 8, 8))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     figure = film(f"{folder}/flow.gif", {"state": state}, ["0", "1/2", "1"])
        >>> figure.axes[0].get_title()
        'state'
    """
    from matplotlib.animation import PillowWriter

    path = Path(path)
    arrays = {label: _array(values) for label, values in panels.items()}
    if path.suffix != ".gif":
        raise ValueError(f"{path.name}: a film of samples is written as .gif")
    for label, values in arrays.items():
        if values.ndim != 4 or len(values) != len(titles):
            raise ValueError(
                f"panel {label!r} of shape {values.shape} should be (frame, sample, x, y), with a frame for "
                f"each of {len(titles)} titles"
            )
    sheets = {label: [_sheet(v, columns, images) for v in values] for label, values in arrays.items()}
    rows, across = next(iter(sheets.values()))[0].shape[:2]
    figure = new_figure(3.6 * len(sheets), 3.6 * rows / across + 0.6)
    axes = figure.subplots(1, len(sheets), squeeze=False)[0]
    drawn = []
    for ax, (label, frames) in zip(axes, sheets.items()):
        ax.set(xticks=[], yticks=[], title=label)
        ax.spines[:].set_visible(False)
        scale = {"cmap": "gray"} if images else {}
        drawn.append(ax.imshow(frames[0], interpolation="nearest", **(_scale(arrays[label]) | scale)))
    heading = figure.suptitle(titles[0])
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    writer = PillowWriter(fps=frames_per_second)
    with writer.saving(figure, str(path), dpi=100):
        for number, title in enumerate(titles):
            heading.set_text(title)
            for image, frames in zip(drawn, sheets.values()):
                image.set_data(frames[number])
            writer.grab_frame()
    return figure
