"""Mean, deviation and range of a data set in one pass, in float64 and weighted by quadrature."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np

if TYPE_CHECKING:
    from pde_data.dataset import FieldDataset
    from pde_data.mesh_dataset import MeshDataset

_BATCH_VALUES = 2**21  # values in memory at a time, as float64


@final
@dataclass(frozen=True)
class ChannelStatistics:
    """Mean, population standard deviation, least and greatest value: float64 of shape `(channel,)`."""

    mean: np.ndarray
    std: np.ndarray
    min: np.ndarray
    max: np.ndarray

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists, for JSON."""
        return {key: getattr(self, key).tolist() for key in ("mean", "std", "min", "max")}


@final
@dataclass(frozen=True)
class Statistics:
    """Statistics of the inputs, the targets and, where the targets are among the inputs, of the increments.

    An increment is a target frame less the last input frame, channel by channel of `y`.
    """

    inputs: ChannelStatistics
    targets: ChannelStatistics
    increments: ChannelStatistics | None

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts and lists, for JSON."""
        increments = None if self.increments is None else self.increments.to_dict()
        return {"inputs": self.inputs.to_dict(), "targets": self.targets.to_dict(), "increments": increments}


def statistics(dataset: FieldDataset | MeshDataset) -> Statistics:
    r"""Statistics of all items of a set, read once and in order.

    Batches are merged by $M \leftarrow M + M_b + \delta^2 n m/(n+m)$ (Chan, Golub and LeVeque, 1979), so
    that a mean far larger than the deviation costs no digits; points are weighted by the quadrature of the
    grid or mesh, samples alike. Raises `DatasetError` for NaN or infinity in the data.

    >>> from pde_data import FieldDataset
    >>> a = np.arange(12.0).reshape(3, 4)
    >>> statistics(FieldDataset.from_arrays(inputs=a, targets=2 * a)).targets.mean
    array([11.])
    """
    from pde_data.mesh_dataset import MeshDataset

    if isinstance(dataset, MeshDataset):
        return _on_meshes(dataset)
    weights = np.full(len(dataset.coords), 1.0) if dataset.coords is not None else dataset.grid.quadrature()
    weights = weights.ravel() / weights.sum()
    last = _last_frame(dataset)
    inputs, targets, increments = _Moments(), _Moments(), _Moments()
    step = max(1, _BATCH_VALUES // (weights.size * (dataset.in_channels + dataset.out_channels)))
    for start in range(0, len(dataset), step):
        x, y = (
            batch.double().movedim(-1, 1) if dataset.coords is not None else batch.double().flatten(2)
            for batch in dataset.gather(range(start, min(start + step, len(dataset))))
        )
        inputs.add(x.numpy(), weights)
        targets.add(y.numpy(), weights)
        if last is not None:
            increments.add((y - x[:, last].repeat(1, dataset.horizon, 1)).numpy(), weights)
    return Statistics(inputs.result(), targets.result(), None if last is None else increments.result())


def _on_meshes(dataset: MeshDataset) -> Statistics:
    inputs, targets = _Moments(), _Moments()
    for index in range(len(dataset)):
        _, x, y, weights = (part.double().numpy() for part in dataset[index])
        inputs.add(x.T[None], weights / weights.sum())
        targets.add(y.T[None], weights / weights.sum())
    return Statistics(inputs.result(), targets.result(), None)


def _last_frame(dataset: FieldDataset) -> list[int] | None:
    """Channels of `x` that hold the target variables in the last input frame."""
    names = dataset.input_names
    if not dataset.time_dependent or not set(dataset.target_names) <= set(names):
        return None
    return [(dataset.window - 1) * len(names) + names.index(name) for name in dataset.target_names]


@final
class _Moments:
    """Running weighted moments per channel of batches `(b, channel, point)`."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, batch: np.ndarray, weights: np.ndarray) -> None:
        """Take in a batch, with weights `(point,)` that sum to 1."""
        count = len(batch)
        mean = np.einsum("bcp,p->c", batch, weights) / count
        residual = batch - mean[:, None]
        # The second term is zero but for rounding in the mean.
        shift = np.einsum("bcp,p->c", residual, weights) / count
        mean = mean + shift
        square = np.einsum("bcp,bcp,p->c", residual, residual, weights) - count * shift**2
        low, high = batch.min(axis=(0, 2)), batch.max(axis=(0, 2))
        if not self.count:
            self.count, self.mean, self.square, self.low, self.high = count, mean, square, low, high
            return
        total, delta = self.count + count, mean - self.mean
        self.square = self.square + square + delta**2 * self.count * count / total
        self.mean = self.mean + delta * count / total
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        self.count = total

    def result(self) -> ChannelStatistics:
        deviation = np.sqrt(np.maximum(self.square / self.count, 0.0))
        return ChannelStatistics(self.mean, deviation, self.low, self.high)
