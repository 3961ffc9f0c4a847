"""Fields beside predictions: panels, strips, films."""

from collections.abc import Iterable, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opflow.plot._style import INK, LINE_COLOURS, MUTED, label_with, new_figure, open_frame, space_units

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Red-blue and purple-orange can be told apart with every common colour blindness, and from each other.
SIGNED_MAP, POSITIVE_MAP, ERROR_MAP = "RdBu_r", "viridis", "PuOr_r"


def comparison(
    target,
    prediction,
    *,
    name: str = "field",
    units: str = "",
    lengths: float | Sequence[float] = 1.0,
    channel_names: Sequence[str] | None = None,
) -> "Figure":
    """Draw truth, prediction and error of one sample, one row per channel.

    Truth and prediction share one colour scale; the error has its own, symmetric about zero. Fields in one
    dimension become curves.

    Args:
        target: `(*space)` or `(channel, *space)` in one or two dimensions; see `channel_names`.
        prediction: the same shape.
        name: what is shown, for the labels.
        units: its units, "1" or empty for none.
        lengths: side lengths of the domain, one number or one per axis.
        channel_names: one name per channel; given for fields with a channel axis, which is otherwise taken
            to be there when the array has three axes.

    Raises:
        ValueError: the shapes differ, or the fields have more than two space dimensions.

    Example:
        >>> y = np.sin(np.linspace(0, 6, 32))[:, None] * np.ones(16)
        >>> figure = comparison(y, 0.9 * y, name="vorticity", units="1/s")
        >>> [axes.get_title() for axes in figure.axes[:3]]
        ['truth', 'prediction', 'error, 10 %']
    """
    y, p = _arrays(target, prediction)
    if channel_names is None and y.ndim < 3:
        y, p = y[None], p[None]
    names = list(channel_names) if channel_names is not None else [name] * len(y)
    if y.ndim not in (2, 3) or len(names) != len(y):
        raise ValueError(
            f"cannot draw fields of shape {y.shape} with {len(names)} channel names: "
            "pass (*space) or (channel, *space) in one or two dimensions, or a slice of a larger field"
        )
    if y.ndim == 2:
        return _curves(y, p, names, units, float(np.ravel(lengths)[0]))
    width, height = _panel(2.4, lengths)
    figure = new_figure(3 * width + 2.3, len(y) * (height + 0.35) + 0.35, layout="compressed")
    axes = figure.subplots(len(y), 3, squeeze=False, sharex=True, sharey=True)
    for row, label, truth, guess in zip(axes, names, y, p):
        scale = _scale(truth, guess)
        error_scale = _symmetric(guess - truth, ERROR_MAP)
        images = [
            _image(row[0], truth, lengths, scale),
            _image(row[1], guess, lengths, scale),
            _image(row[2], guess - truth, lengths, error_scale),
        ]
        _colour_bar(figure, images[1], row[:2], label_with(label, units))
        _colour_bar(figure, images[2], row[2:], label_with("error", units))
        row[0].set_title("truth")
        row[1].set_title("prediction")
        row[2].set_title(f"error, {_percent(truth, guess)}")
        row[0].set_ylabel("$y$")
    for ax in axes[-1]:
        ax.set_xlabel("$x$")
    return figure


def _curves(y: np.ndarray, p: np.ndarray, names: list[str], units: str, length: float) -> "Figure":
    figure = new_figure(9.6, 0.35 + 2.6 * len(y))
    axes = figure.subplots(len(y), 2, squeeze=False, sharex=True)
    x = np.arange(y.shape[1]) / y.shape[1] * length
    for (left, right), label, truth, guess in zip(axes, names, y, p):
        left.plot(x, truth, color=INK, linewidth=2, label="truth")
        left.plot(x, guess, color=LINE_COLOURS[1], linewidth=1.5, linestyle="--", label="prediction")
        left.set_ylabel(label_with(label, units))
        left.legend(frameon=False)
        right.plot(x, guess - truth, color=LINE_COLOURS[0], linewidth=1.5)
        right.axhline(0, color=MUTED, linewidth=0.8)
        right.set_title(f"error, {_percent(truth, guess)}")
        right.set_ylabel(label_with("error", units))
        for ax in (left, right):
            open_frame(ax)
    for ax in axes[-1]:
        ax.set_xlabel("$x$")
    return figure


def rollout_strip(
    target,
    prediction,
    times: Iterable[float],
    *,
    columns: int = 6,
    name: str = "field",
    units: str = "",
    time_units: str = "",
    lengths: float | Sequence[float] = 1.0,
) -> "Figure":
    """Draw a rollout beside the truth: rows are truth, prediction and error, columns are times.

    Args:
        target: `(step, x, y)`, or `(step, 1, x, y)`.
        prediction: the same shape.
        times: `(step,)`.
        columns: how many steps to show, evenly spread, the last one among them.
        name: what is shown, for the labels.
        units: its units.
        time_units: units of `times`.
        lengths: side lengths of the domain, one number or one per axis.

    Raises:
        ValueError: the shapes differ, are not those of scalar fields in 2-D, or do not fit `times`.

    Example:
        >>> y = np.random.default_rng(0).normal(size=(20, 16, 16))
        >>> figure = rollout_strip(y, y, times=range(1, 21), columns=4)
        >>> [axes.get_title() for axes in figure.axes[:4]]
        ['$t = 1$', '$t = 7$', '$t = 14$', '$t = 20$']
    """
    y, p, at = _movie(target, prediction, times)
    shown = np.unique(np.linspace(0, len(y) - 1, max(1, min(columns, len(y)))).round().astype(int))
    width, height = _panel(1.6, lengths)
    figure = new_figure(len(shown) * width + 1.3, 3 * height + 0.75, layout="compressed")
    axes = figure.subplots(3, len(shown), squeeze=False, sharex=True, sharey=True)
    scale, error_scale = _scale(y[shown], p[shown]), _symmetric((p - y)[shown], ERROR_MAP)
    images: list[Any] = [None, None, None]
    for column, step in zip(axes.T, shown):
        panels = ((y[step], scale), (p[step], scale), (p[step] - y[step], error_scale))
        for row, (ax, (panel, panel_scale)) in enumerate(zip(column, panels)):
            images[row] = _image(ax, panel, lengths, panel_scale)
            ax.set(xticks=[], yticks=[])
        column[0].set_title(f"$t = {at[step]:g}${space_units(time_units)}")
        column[2].set_xlabel(f"rel. error {_percent(y[step], p[step])}", fontsize="small")
    for ax, text in zip(axes[:, 0], ("truth", "prediction", "error")):
        ax.set_ylabel(text, fontsize="large")
    _colour_bar(figure, images[1], axes[:2], label_with(name, units))
    _colour_bar(figure, images[2], axes[2], label_with("error", units))
    return figure


def animate(
    path: str | PathLike,
    target,
    prediction,
    times: Iterable[float],
    *,
    frames_per_second: int = 8,
    name: str = "field",
    units: str = "",
    time_units: str = "",
    lengths: float | Sequence[float] = 1.0,
) -> "Figure":
    """Write truth, prediction and error of a rollout as a film, and return the figure of its last frame.

    Args:
        path: ends in `.gif`, or in `.mp4` where ffmpeg is installed.
        target: `(step, x, y)`, or `(step, 1, x, y)`.
        prediction: the same shape.
        times: `(step,)`.
        frames_per_second: speed of the film.
        name: what is shown, for the labels.
        units: its units.
        time_units: units of `times`.
        lengths: side lengths of the domain, one number or one per axis.

    Raises:
        ValueError: another file ending, or shapes as in `rollout_strip`.
        RuntimeError: `.mp4` without ffmpeg.
    """
    from matplotlib.animation import FFMpegWriter, PillowWriter

    y, p, at = _movie(target, prediction, times)
    path = Path(path)
    if path.suffix not in (".gif", ".mp4"):
        raise ValueError(f"{path.name}: a film is written as .gif or .mp4")
    if path.suffix == ".mp4" and not FFMpegWriter.isAvailable():
        raise RuntimeError(f"{path.name}: .mp4 needs the program ffmpeg; install it or write a .gif")
    width, height = _panel(2.4, lengths)
    figure = new_figure(3 * width + 2.3, height + 0.7, layout="compressed")
    axes = figure.subplots(1, 3, sharey=True)
    scale, error_scale = _scale(y, p), _symmetric(p - y, ERROR_MAP)
    panels = [(y, scale, "truth"), (p, scale, "prediction"), (p - y, error_scale, "error")]
    images = []
    for ax, (film, panel_scale, title) in zip(axes, panels):
        images.append(_image(ax, film[0], lengths, panel_scale))
        ax.set_title(title)
        ax.set_xlabel("$x$")
    axes[0].set_ylabel("$y$")
    _colour_bar(figure, images[1], axes[:2], label_with(name, units))
    _colour_bar(figure, images[2], axes[2:], label_with("error", units))
    # Lay out once: nothing moves from frame to frame, and the layout takes longer than the drawing.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    writer = (PillowWriter if path.suffix == ".gif" else FFMpegWriter)(fps=frames_per_second)
    with writer.saving(figure, str(path), dpi=100):
        for step in range(len(y)):
            for image, (film, _, _) in zip(images, panels):
                image.set_data(film[step].T)
            axes[2].set_title(f"error, {_percent(y[step], p[step])}")
            axes[0].set_title(f"truth, $t = {at[step]:g}${space_units(time_units)}")
            writer.grab_frame()
    return figure


def _array(values) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=float)


def _arrays(target, prediction) -> tuple[np.ndarray, np.ndarray]:
    y, p = _array(target), _array(prediction)
    if y.shape != p.shape:
        raise ValueError(f"target and prediction must have one shape, got {y.shape} and {p.shape}")
    return y, p


def _movie(target, prediction, times) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, p = _arrays(target, prediction)
    if y.ndim == 4 and y.shape[1] == 1:
        y, p = y[:, 0], p[:, 0]
    if y.ndim != 3:
        raise ValueError(
            f"expected scalar fields (step, x, y), got shape {y.shape}: choose one channel or a slice"
        )
    times = np.asarray(list(times), dtype=float)
    if len(times) != len(y):
        raise ValueError(f"times needs one entry per step ({len(y)}), got {len(times)}")
    return y, p, times


def _scale(target: np.ndarray, *others: np.ndarray) -> dict[str, Any]:
    """Colour scale of the truth: symmetric about zero when it takes both signs."""
    values = target[np.isfinite(target)]
    if not len(values):
        values = np.zeros(1)
    if values.min() < 0 < values.max():
        return _symmetric(values, SIGNED_MAP)
    return {"cmap": POSITIVE_MAP, "vmin": values.min(), "vmax": values.max()}


def _symmetric(values: np.ndarray, cmap: str) -> dict[str, Any]:
    values = values[np.isfinite(values)]
    bound = float(np.abs(values).max()) if len(values) else 0.0
    return {"cmap": cmap, "vmin": -(bound or 1.0), "vmax": bound or 1.0}


def _panel(width: float, lengths) -> tuple[float, float]:
    """Inches of one panel: as wide as asked, or narrower where that would make it tall."""
    lx, ly = _sides(lengths)
    height = min(width * ly / lx, 1.25 * width)
    return max(height * lx / ly, 1.0), height


def _sides(lengths) -> tuple[float, float]:
    lx, ly = np.broadcast_to(np.ravel(lengths), 2)
    return float(lx), float(ly)


def _image(ax, panel: np.ndarray, lengths, scale: dict[str, Any]):
    lx, ly = _sides(lengths)
    return ax.imshow(panel.T, origin="lower", extent=(0, lx, 0, ly), interpolation="nearest", **scale)


def _colour_bar(figure, image, axes, label: str) -> None:
    bar = figure.colorbar(image, ax=list(np.ravel(axes)), aspect=24, pad=0.015, label=label)
    bar.outline.set_linewidth(0.5)
    bar.ax.ticklabel_format(style="sci", scilimits=(-2, 4), useMathText=True)


def _percent(target: np.ndarray, prediction: np.ndarray) -> str:
    norm = np.linalg.norm(target)
    return f"{100 * np.linalg.norm(prediction - target) / norm:.3g} %" if norm > 0 else "truth is zero"
