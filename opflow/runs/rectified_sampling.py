"""Samples of rectified flows for pictures, on the grid, the mesh or the labels of their run's data."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from opflow.rectified import FunctionalFlow, RectifiedFlow, SemFlow, SymmFlow
from opflow.runs.config import RunConfig
from opflow.training.batches import read

if TYPE_CHECKING:
    from pde_data.meshes import TriangleMesh


class Drawn(NamedTuple):
    """Samples, and how to draw them."""

    values: Tensor
    """`(sample, channel, x, y)`, on a mesh `(sample, channel, node)`."""
    images: bool
    """Whether they are images."""
    mesh: "TriangleMesh | None"
    """The mesh of all samples."""


def draw(flow: RectifiedFlow, folder: Path, n: int, label: int | None, seed: int) -> Drawn:
    """Draw n fields: under the labels or conditions of the test data in turn, or of one label.

    Raises:
        ValueError: a label for a flow without labels of whole fields.
    """
    data = _data(folder)
    like = next(flow.parameters())
    if isinstance(flow, FunctionalFlow):
        if label is not None:
            raise ValueError(f"the flow of {folder} has no classes: leave label={label} out")
        if hasattr(data, "mesh"):
            coords, x, _, weights = (part.to(like) for part in data[0])
            given = x.expand(n, *x.shape) if flow.condition_channels else None
            geometry = flow.network.geometry(coords, weights)
            values = flow.sample(n, geometry, condition=given, seed=seed, chunk=32).samples.mT
            return Drawn(values.cpu(), False, data.mesh(0))
        x, y = (t.to(like) for t in read(data, _in_turn(n, data)))
        given = x if flow.condition_channels else None
        values = flow.sample(n, tuple(y.shape[2:]), condition=given, seed=seed, chunk=64).samples
        return Drawn(values.cpu(), hasattr(data, "bins"), None)
    assert isinstance(flow, SemFlow | SymmFlow)
    labels, grid = _labels(flow, folder, data, n, label)
    return Drawn(_synthesise(flow, labels, grid, seed).samples.cpu(), data.of_images, None)


def write_film(flow: RectifiedFlow, folder: Path, path: Path, n: int, label: int | None, seed: int) -> None:
    """Write how fields come from their labels, and how their labels come from the fields again.

    Raises:
        ValueError: the flow has no labels, or the path does not end in `.gif`.
    """
    from opflow import plot

    if not isinstance(flow, SemFlow | SymmFlow):
        raise ValueError(
            f"a film shows the way between labels and fields, and a {type(flow).__name__} has none"
        )
    data = _data(folder)
    labels, grid = _labels(flow, folder, data, n, label)
    there = _synthesise(flow, labels, grid, seed, keep=True)
    panels, titles = [_panels(flow, there.trajectory, labels)], [f"t = {t:.2f}" for t in there.times]
    if labels.ndim > 1:
        options: dict[str, Any] = {} if isinstance(flow, SemFlow) else {"seed": seed}
        back = flow.segment(there.samples, n_steps=25, keep=True, **options).flowed
        panels.append(_panels(flow, back.trajectory, labels))
        titles += [f"back, t = {t:.2f}" for t in back.times]
    frames = {name: torch.cat([part[name] for part in panels]).cpu() for name in panels[0]}
    plot.film(path, frames, titles, images=data.of_images)


def _panels(flow: SemFlow | SymmFlow, trajectory: Tensor | None, labels: Tensor) -> dict[str, Tensor]:
    """First channel of the field, and the label to be expected under the code, `(time, sample, x, y)`."""
    assert trajectory is not None  # it was asked for
    if isinstance(flow, SemFlow):
        return {"state": trajectory[:, :, 0]}
    panels = {"field": trajectory[:, :, 0]}
    if labels.ndim > 1:
        code = trajectory[:, :, flow.channels :]
        share = flow.codec.probabilities(code.flatten(0, 1)).unflatten(0, code.shape[:2])
        panels["label"] = torch.einsum("tskxy,k->tsxy", share, torch.arange(share.shape[2]).to(share))
    return panels


def _data(folder: Path) -> Any:
    config = RunConfig.read(folder)
    return config.dataset("test") or config.dataset("valid") or config.dataset("train")


def _in_turn(n: int, data: Any):
    return (torch.arange(n) % len(data)).numpy()


def _labels(flow, folder: Path, data: Any, n: int, label: int | None) -> tuple[Tensor, tuple[int, ...]]:
    x, y = read(data, _in_turn(n, data))
    labels = y[:, 0].long()
    if labels.ndim == 1:
        labels = torch.arange(n) % flow.codec.n_classes if label is None else torch.full((n,), label)
    elif label is not None:
        raise ValueError(f"the labels of {folder} are maps, not one per field: leave label={label} out")
    return labels.to(next(flow.parameters()).device), tuple(x.shape[2:])


def _synthesise(flow: SemFlow | SymmFlow, labels: Tensor, grid: tuple[int, ...], seed: int, **options: Any):
    if isinstance(flow, SemFlow):
        return flow.synthesise(labels, seed=seed, chunk=64, **options)
    return flow.synthesise(labels, grid, seed=seed, chunk=64, **options)
