"""Pictures of a data set: fields over time on one colour scale, and their spectra."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from pde_data.grids import Grid
from pde_data.storage import DatasetError, Schema

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot(
    path: str | os.PathLike,
    variable: str | None = None,
    *,
    sample: int = 0,
    frames: int = 5,
    output: str | os.PathLike | None = None,
) -> Figure:
    """Draw one sample: `frames` snapshots of each field on one colour scale, and its spectrum where periodic.

    One-dimensional fields are drawn as curves, of three-dimensional ones the middle slice of the last axis.
    `variable` chooses one field. `output` writes the figure to a file (PNG, PDF, SVG, by its ending). Raises
    `DatasetError` for unknown variables and samples that are not there.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from pde_data import sources

    schema, where = sources.describe(path)
    names = list(schema.fields)
    if variable is not None:
        names, _ = sources.field_names(schema, variable, variable, where)
    timed = {name: "time" in schema.fields[name].dims for name in names}
    grids = {
        name: sources.grid_of(schema, schema.fields[name].dims[1 + timed[name] :], where) for name in names
    }
    records = [schema.fields[name].values.shape[1] for name in names if timed[name]]
    count = min(max(frames, 1), max(records, default=1))
    spectra = any(all(grid.periodic) for grid in grids.values())
    figure = Figure(figsize=(2.2 * count + 0.8 + 2.6 * spectra, 2.4 * len(names) + 0.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(names), count + spectra, squeeze=False)
    for row, name in zip(axes, names):
        field = schema.fields[name]
        if not 0 <= sample < field.values.shape[0]:
            raise DatasetError(f"sample={sample} is not there: {where} has {field.values.shape[0]} samples")
        values = sources.field_array(field, name, where)[sample]
        values = values if timed[name] else values[None]
        chosen = np.unique(np.linspace(0, len(values) - 1, count).round().astype(int))
        labels = _labels(schema, chosen) if timed[name] else [""]
        units = field.attributes.get("units", "1")
        title = name if units == "1" else f"{name} ({units})"
        _strip(figure, row[:count], values[chosen], grids[name], labels, title)
        if spectra:
            _spectra(row[count], values[chosen], grids[name], labels)
    if output is not None:
        figure.savefig(output, dpi=150)
    return figure


def _labels(schema: Schema, frames: np.ndarray) -> list[str]:
    times = schema.variables["time"].values if "time" in schema.variables else np.arange(frames[-1] + 1)
    return [f"t = {times[frame]:g}" for frame in frames]


def _strip(figure, axes, values: np.ndarray, grid: Grid, labels: list[str], name: str) -> None:
    if grid.ndim == 3:
        values = values[..., values.shape[-1] // 2]
    low, high = float(values.min()), float(values.max())
    if low < 0 < high:
        high = max(-low, high)
        low = -high
    image = None
    for axis, frame, label in zip(axes, values, labels):
        axis.set_title(label, fontsize="small")
        if grid.ndim == 1:
            axis.plot(grid.coordinates[0], frame)
            axis.set(ylim=(low, high) if low < high else None, xlabel="x")
            continue
        extent = [side for o, length in zip(grid.origin[:2], grid.lengths[:2]) for side in (o, o + length)]
        colours = "RdBu_r" if low < 0 else "viridis"
        image = axis.imshow(frame.T, origin="lower", extent=extent, cmap=colours, vmin=low, vmax=high)
        axis.set(xticks=[], yticks=[])
    for axis in axes[len(values) :]:
        axis.set_axis_off()
    axes[0].set_ylabel(name)
    if image is not None:
        figure.colorbar(image, ax=list(axes), shrink=0.8)


def _spectra(axis, values: np.ndarray, grid: Grid, labels: list[str]) -> None:
    if not all(grid.periodic):
        axis.set_axis_off()
        return
    for frame, label in zip(values, labels):
        power = shell_power(frame)
        axis.loglog(
            np.arange(1, len(power)), np.maximum(power[1:], np.finfo(float).tiny), label=label, linewidth=1
        )
    axis.set(xlabel="wavenumber", title="power spectrum")
    top = max(shell_power(frame)[1:].max(initial=0.0) for frame in values)
    if top > 0:
        axis.set_ylim(top * 1e-14, top * 3)
    if any(labels):
        axis.legend(fontsize="x-small", frameon=False)


def shell_power(field: np.ndarray) -> np.ndarray:
    r"""Sum of $|\hat u_k|^2$ over shells $n - 1/2 \le |k| < n + 1/2$, up to half of the shortest axis.

    >>> shell_power(np.cos(2 * np.pi * 3 * np.arange(16) / 16)).round(3)
    array([0. , 0. , 0. , 0.5, 0. , 0. , 0. , 0. , 0. ])
    """
    modes = np.abs(np.fft.fftn(np.asarray(field, dtype=np.float64), norm="forward")) ** 2
    mesh = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in field.shape), indexing="ij")
    shell = np.sqrt(sum(k**2 for k in mesh)).round().astype(int)
    return np.bincount(shell.ravel(), modes.ravel())[: min(field.shape) // 2 + 1]
