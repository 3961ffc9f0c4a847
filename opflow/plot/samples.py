"""Samples of a distribution, many at a glance."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from opflow.plot._style import INK, LINE_COLOURS, label_with, new_figure, open_frame
from opflow.plot.fields import _array, _scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def sample_grid(samples, *, columns: int | None = None, images: bool = False, title: str = "") -> "Figure":
    """Draw samples beside each other, in rows, on one colour scale.

    Args:
        samples: `(sample, x, y)` or `(sample, channel, x, y)`; of several channels of fields the first.
        columns: samples in a row; about the square root of their number when None.
        images: rows of the array go down and columns to the right, in grey, or in colour where there are
            three channels; fields are drawn with x to the right and y upwards.
        title: above them.

    Raises:
        ValueError: there are no samples, or they are not fields in two dimensions.

    Example:
        >>> figure = sample_grid(np.random.default_rng(0).normal(size=(10, 1, 8, 8)))
        >>> len(figure.axes), figure.axes[0].images[0].get_array().shape
        (1, (26, 35))
    """
    sheet = _sheet(_array(samples), columns, images)
    inches = 8 / max(sheet.shape[:2])
    figure = new_figure(sheet.shape[1] * inches + 0.2, sheet.shape[0] * inches + (0.5 if title else 0.2))
    ax = figure.subplots()
    ax.set(xticks=[], yticks=[], title=title)
    ax.spines[:].set_visible(False)
    style: dict[str, Any] = {"interpolation": "nearest"}
    if sheet.ndim == 3:
        sheet = np.nan_to_num(sheet / max(1.0, float(np.nanmax(sheet))), nan=1.0)
    else:
        style |= {"cmap": "gray"} if images else _scale(sheet)
    ax.imshow(sheet, **style)
    return figure


def _sheet(values: np.ndarray, columns: int | None, images: bool) -> np.ndarray:
    """All samples in one array, a point apart: `(row, column)`, or with colours."""
    values = values[:, None] if values.ndim == 3 else values
    if values.ndim != 4 or not len(values):
        raise ValueError(f"expected samples (sample, channel, x, y), got an array of shape {values.shape}")
    coloured = images and values.shape[1] == 3
    values = np.moveaxis(values, 1, -1) if coloured else values[:, 0]
    if not images:
        values = values.swapaxes(1, 2)[:, ::-1]
    columns = columns or math.ceil(math.sqrt(len(values)))
    rows = math.ceil(len(values) / columns)
    height, width = values.shape[1:3]
    shape = (rows * (height + 1) - 1, columns * (width + 1) - 1, *values.shape[3:])
    sheet = np.full(shape, np.nan, dtype=float)
    for number, sample in enumerate(values):
        top, left = number // columns * (height + 1), number % columns * (width + 1)
        sheet[top : top + height, left : left + width] = sample
    return sheet


def histograms(
    values: Mapping[str, Any], *, name: str = "value", units: str = "", bins: int = 80
) -> "Figure":
    """Draw densities of all values, one curve per label, the first one in black, on a logarithmic axis.

    Args:
        values: an array of any shape per label.
        name: what is shown, for the axis.
        units: its units.
        bins: number of bins, of equal width over the range of all values.

    Example:
        >>> noise = np.random.default_rng(0).normal(size=(2, 1000))
        >>> figure = histograms({"data": noise[0], "samples": noise[1]})
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['data', 'samples']
    """
    arrays = {label: np.ravel(_array(v)) for label, v in values.items()}
    edges = np.linspace(
        min(v.min() for v in arrays.values()), max(v.max() for v in arrays.values()), bins + 1
    )
    figure = new_figure(5.6, 4.0)
    ax = figure.subplots()
    for i, (label, v) in enumerate(arrays.items()):
        density, _ = np.histogram(v, edges, density=True)
        style = {"color": INK, "linewidth": 2.4} if i == 0 else {"color": LINE_COLOURS[i % len(LINE_COLOURS)]}
        shown = np.where(density > 0, density, np.nan)
        ax.semilogy((edges[:-1] + edges[1:]) / 2, shown, drawstyle="steps-mid", label=label, **style)
    ax.set(xlabel=label_with(name, units), ylabel="density")
    ax.legend(frameon=False)
    open_frame(ax)
    return figure
