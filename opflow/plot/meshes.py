"""Fields on meshes beside predictions, and beside each other."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from opflow.plot._style import label_with, new_figure
from opflow.plot.fields import ERROR_MAP, _array, _colour_bar, _percent, _scale, _symmetric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pde_data.meshes import TriangleMesh


def mesh_comparison(
    mesh: "TriangleMesh",
    target,
    prediction,
    *,
    name: str = "field",
    units: str = "",
    channel_names: Sequence[str] | None = None,
) -> "Figure":
    """Draw truth, prediction and error of one sample on a triangle mesh, one row per channel.

    Truth and prediction share one colour scale; the error has its own, symmetric about zero. What is outside
    of the mesh, holes too, stays white.

    Args:
        mesh: the mesh, such as `MeshDataset.mesh(i)`.
        target: values at its nodes, `(node,)` or `(channel, node)`.
        prediction: the same shape.
        name: what is shown, for the labels.
        units: its units, "1" or empty for none.
        channel_names: one name per channel.

    Raises:
        ValueError: the shapes differ, or there is not one value for each node.

    Example:
        >>> from pde_data.meshes import TriangleMesh
        >>> corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> mesh = TriangleMesh(corners, np.array([[0, 1, 2]]), np.ones(3, int))
        >>> figure = mesh_comparison(mesh, np.ones(3), 0.9 * np.ones(3), name="pressure")
        >>> [axes.get_title() for axes in figure.axes[:3]]
        ['truth', 'prediction', 'error, 10 %']
    """
    from matplotlib.tri import Triangulation

    y, p = np.atleast_2d(np.asarray(target)), np.atleast_2d(np.asarray(prediction))
    names = list(channel_names) if channel_names is not None else [name] * len(y)
    if y.shape != p.shape or y.shape != (len(names), len(mesh.points)):
        raise ValueError(
            f"cannot draw a target of shape {y.shape} and a prediction of shape {p.shape} with {len(names)} "
            f"channel names on a mesh of {len(mesh.points)} nodes: both need (channel, node)"
        )
    places = Triangulation(mesh.points[:, 0], mesh.points[:, 1], mesh.triangles)
    wide, high = np.ptp(mesh.points, axis=0)
    height = 2.6 * float(np.clip(high / wide, 0.3, 2.0))
    figure = new_figure(3 * 2.6 + 2.3, len(y) * (height + 0.35) + 0.35, layout="compressed")
    axes = figure.subplots(len(y), 3, squeeze=False, sharex=True, sharey=True)
    root = np.sqrt(mesh.weights)  # errors are integrals over the mesh
    for row, label, truth, guess in zip(axes, names, y, p):
        scales = [_scale(truth, guess)] * 2 + [_symmetric(guess - truth, ERROR_MAP)]
        drawn = [
            ax.tripcolor(places, values, shading="gouraud", **scale)
            for ax, values, scale in zip(row, (truth, guess, guess - truth), scales)
        ]
        _colour_bar(figure, drawn[1], row[:2], label_with(label, units))
        _colour_bar(figure, drawn[2], row[2:], label_with("error", units))
        row[0].set_title("truth")
        row[1].set_title("prediction")
        row[2].set_title(f"error, {_percent(root * truth, root * guess)}")
        for ax in row:
            ax.set(xticks=[], yticks=[], aspect="equal")
    return figure


def mesh_grid(mesh: "TriangleMesh", samples, *, columns: int | None = None, title: str = "") -> "Figure":
    """Draw samples on one triangle mesh beside each other, in rows, on one colour scale.

    Args:
        mesh: the mesh.
        samples: values at its nodes, `(sample, node)`, or `(sample, channel, node)`, then the first channel.
        columns: samples in a row; about the square root of their number when None.
        title: above them.

    Raises:
        ValueError: there are no samples, or there is not one value for each node.

    Example:
        >>> from pde_data.meshes import TriangleMesh
        >>> corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        >>> mesh = TriangleMesh(corners, np.array([[0, 1, 2]]), np.ones(3, int))
        >>> len(mesh_grid(mesh, np.ones((5, 1, 3))).axes)
        5
    """
    from matplotlib.tri import Triangulation

    values = _array(samples)
    values = values[:, 0] if values.ndim == 3 else values
    if values.ndim != 2 or not len(values) or values.shape[1] != len(mesh.points):
        raise ValueError(
            f"expected samples (sample, channel, node) on a mesh of {len(mesh.points)} nodes, got an array "
            f"of shape {values.shape}"
        )
    columns = columns or math.ceil(math.sqrt(len(values)))
    rows = math.ceil(len(values) / columns)
    places = Triangulation(mesh.points[:, 0], mesh.points[:, 1], mesh.triangles)
    wide, high = np.ptp(mesh.points, axis=0)
    width = 8 / columns
    figure = new_figure(8, rows * width * float(np.clip(high / wide, 0.3, 2.0)) + (0.4 if title else 0.1))
    if title:
        figure.suptitle(title)
    scale = _scale(values)
    for number, sample in enumerate(values):
        ax = figure.add_subplot(rows, columns, number + 1, aspect="equal")
        ax.tripcolor(places, sample, shading="gouraud", **scale)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    return figure
