"""Curves: spectra, errors against time, the course of a training run."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from opflow.plot._style import INK, LINE_COLOURS, MUTED, label_with, new_figure, open_frame

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def spectra(
    wavenumbers, curves: Mapping[str, Any], *, name: str = "$E(k)$", units: str = "", length_units: str = ""
) -> "Figure":
    """Draw spectra in double logarithmic axes; the shell of the mean is left out.

    Args:
        wavenumbers: `(shell,)`, radians per unit of length.
        curves: a spectrum `(shell,)`, or `(sample, shell)` to be averaged, per label. The first one is
            drawn in black.
        name: label of the vertical axis.
        units: its units.
        length_units: units of length.

    Raises:
        ValueError: a spectrum does not fit `wavenumbers`.

    Example:
        >>> k = np.arange(10.0)
        >>> figure = spectra(k, {"truth": np.exp(-k), "FNO": np.exp(-1.1 * k)})
        >>> [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        ['truth', 'FNO']
    """
    k = np.asarray(wavenumbers)
    figure = new_figure(5.6, 4.0)
    ax = figure.subplots()
    colours = (INK, *LINE_COLOURS[1:], LINE_COLOURS[0])
    top = 0.0
    for i, (label, values) in enumerate(curves.items()):
        values = np.asarray(values, dtype=float)
        if values.shape[-1] != len(k):
            raise ValueError(
                f"spectrum {label!r} has {values.shape[-1]} shells, there are {len(k)} wavenumbers"
            )
        values = values.reshape(-1, len(k)).mean(0)[1:]
        top = max(top, values.max())
        style = {"linewidth": 2.4, "alpha": 0.85} if i == 0 else {"linewidth": 1.5, "linestyle": "--"}
        ax.loglog(
            k[1:], np.where(values > 0, values, np.nan), color=colours[i % len(colours)], label=label, **style
        )
    if top > 0:
        # Rounding noise of single precision lies below; it would squeeze what matters.
        ax.set_ylim(max(ax.get_ylim()[0], 1e-15 * top), None)
    ax.set_xlabel(
        label_with("wavenumber $k$", f"rad/{length_units}" if length_units else "rad per unit length")
    )
    ax.set_ylabel(label_with(name, units))
    ax.grid(True, which="major", color="#DDDDDD", linewidth=0.6)
    ax.legend(frameon=False)
    open_frame(ax)
    return figure


def error_growth(
    times, curves: Mapping[str, Any], *, name: str = "relative $L^2$ error", time_units: str = ""
) -> "Figure":
    """Draw the error of rollouts against time: the median, and a band of the middle 80 %.

    Args:
        times: `(step,)`.
        curves: errors `(sample, step)`, or `(step,)`, per label.
        name: label of the vertical axis.
        time_units: units of `times`.

    Raises:
        ValueError: errors do not fit `times`.

    Example:
        >>> figure = error_growth([1, 2, 3], {"FNO": [[0.1, 0.2, 0.3], [0.2, 0.3, 0.4]]})
        >>> figure.axes[0].lines[0].get_ydata().round(2).tolist()
        [0.15, 0.25, 0.35]
    """
    times = np.asarray(times, dtype=float)
    figure = new_figure(5.6, 4.0)
    ax = figure.subplots()
    for i, (label, values) in enumerate(curves.items()):
        values = np.atleast_2d(np.asarray(values, dtype=float))
        if values.shape[1] != len(times):
            raise ValueError(f"errors {label!r} have {values.shape[1]} steps, there are {len(times)} times")
        low, middle, high = np.quantile(values, [0.1, 0.5, 0.9], axis=0)
        colour = LINE_COLOURS[i % len(LINE_COLOURS)]
        ax.fill_between(times, low, high, color=colour, alpha=0.18, linewidth=0)
        ax.semilogy(times, middle, color=colour, linewidth=1.8, label=label)
    ax.set_xlabel(label_with("time", time_units))
    ax.set_ylabel(name)
    ax.grid(True, which="major", color="#DDDDDD", linewidth=0.6)
    ax.legend(frameon=False)
    open_frame(ax)
    return figure


def losses(rows: Sequence[Mapping[str, Any]]) -> "Figure":
    """Draw the curves of a run: losses and errors by epoch, with the learning rate below.

    Args:
        rows: one mapping per epoch as in `metrics.jsonl`; every number whose key begins with `train_` or
            `valid_` becomes a curve, of a list of numbers (a rollout) the last one.

    Raises:
        ValueError: no row holds such a number.

    Example:
        >>> figure = losses([{"epoch": 1, "train_loss": 0.5, "learning_rate": 1e-3},
        ...                  {"epoch": 2, "train_loss": 0.1, "learning_rate": 1e-4}])
        >>> [axes.get_ylabel() for axes in figure.axes]
        ['loss, error', 'learning rate']
    """
    keys = sorted({k for row in rows for k in row if k.startswith(("train_", "valid_"))})
    if not keys:
        raise ValueError("there is no epoch with a train_ or valid_ number to draw")
    figure = new_figure(6.4, 4.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    curves = {
        key: [(row["epoch"], _last(row[key])) for row in rows if row.get(key) not in (None, [])]
        for key in keys
    }
    positive = all(value > 0 for points in curves.values() for _, value in points)
    for i, (key, points) in enumerate(curves.items()):
        dashed = "-" if key.startswith("valid_") else "--"
        top.plot(
            *zip(*points),
            dashed,
            color=LINE_COLOURS[i % len(LINE_COLOURS)],
            linewidth=1.6,
            marker="o" if len(points) == 1 else None,
            label=key.replace("_", " "),
        )
    top.set_yscale("log" if positive else "linear")  # a likelihood may have either sign
    rates = [(row["epoch"], row["learning_rate"]) for row in rows if row.get("learning_rate") is not None]
    if rates:
        bottom.plot(*zip(*rates), color=MUTED, linewidth=1.4)
    top.set_ylabel("loss, error")
    top.legend(frameon=False)
    top.grid(True, which="major", color="#DDDDDD", linewidth=0.6)
    bottom.set_ylabel("learning rate")
    bottom.set_ylim(bottom=0)
    bottom.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    bottom.set_xlabel("epoch")
    bottom.xaxis.get_major_locator().set_params(integer=True)
    for ax in (top, bottom):
        open_frame(ax)
    return figure


def _last(value: float | Sequence[float]) -> float:
    return value[-1] if isinstance(value, Sequence) else value
