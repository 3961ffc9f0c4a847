"""Errors of a model on a data set: one step, against persistence, and along rollouts."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from opflow import metrics
from opflow.autoregression import rollout
from opflow.flows import Flow
from opflow.operators.base import Operator
from opflow.operators.points import PointOperator
from opflow.rectified import RectifiedFlow

if TYPE_CHECKING:
    from pde_data import FieldDataset, Grid


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        numbers: JSON values, null for what is not finite. `pairs`, the number of pairs. `errors` and, for
            fields over time, `persistence`: `{metric: {"mean": ..., "standard_error": ...}}`. `rollout`, for
            fields over time: `times`; at each the mean `relative_l2` and that of `persistence` of the last
            known frame; the median `correlation_time`, null when the correlation stays above 0.8. `spectrum`,
            on periodic grids: `wavenumbers`, `target` and `prediction`.
        sample: arrays of the first sample, for pictures: `target` and `prediction` `(step, channel, *space)`,
            `times` `(step,)` and `lengths` `(dim,)`.
    """

    numbers: dict[str, Any]
    sample: dict[str, np.ndarray]


@torch.no_grad()
def evaluate(
    model: Operator | PointOperator | Flow | RectifiedFlow, dataset: Any, *, batch_size: int = 32
) -> Evaluation:
    """Measure a model on all pairs, and on all trajectories where there are some, of a data set.

    Errors are relative L2 and H1, nRMSE and VRMSE of the first target frame; persistence takes the last
    input frame for the prediction.

    Args:
        model: in physical units; evaluated where its parameters are.
        dataset: a `pde_data.FieldDataset`, or a `pde_data.MeshDataset` for a point operator; H1 errors and
            spectra are for grids. For flows see `opflow.runs.flow_evaluation` and
            `opflow.runs.rectified_evaluation`.
        batch_size: samples at a time.

    Raises:
        ValueError: the model does not fit the data.
    """
    from pde_data import MeshDataset

    if isinstance(model, Flow):
        from opflow.runs.flow_evaluation import evaluate_flow

        return evaluate_flow(model, dataset)
    if isinstance(model, RectifiedFlow):
        from opflow.runs.rectified_evaluation import evaluate_rectified

        return evaluate_rectified(model, dataset)
    if isinstance(dataset, MeshDataset):
        from opflow.runs.mesh_evaluation import evaluate_on_meshes

        return evaluate_on_meshes(model, dataset, batch_size=batch_size)
    if isinstance(model, PointOperator):
        raise ValueError(
            f"{type(model).__name__} works on points, and {dataset.name} has grids: use an operator on grids"
        )
    errors, persistence, spectra = _Table(dataset), _Table(dataset), []
    periodic = bool(np.all(dataset.grid.periodic))
    sample = None
    for first in range(0, len(dataset), batch_size):
        x, y = dataset.gather(range(first, min(first + batch_size, len(dataset))))
        y = y[:, : model.out_channels]
        prediction = model.predict(x).to(y)
        errors.add(prediction, y)
        if dataset.time_dependent:
            persistence.add(x[:, -model.out_channels :], y)
        elif periodic:
            spectra.append([metrics.spectrum(u, dataset.grid.lengths) for u in (y, prediction)])
        if sample is None:
            sample = (y[:1], prediction[:1], [0.0])
    numbers: dict[str, Any] = {"pairs": len(dataset), "errors": errors.summary()}
    if dataset.time_dependent:
        numbers["persistence"] = persistence.summary()
        start, truth, prediction, times = _rollouts(model, dataset, batch_size)
        numbers["rollout"] = {
            "times": times,
            "relative_l2": finite_list(metrics.rollout_error(prediction, truth).mean(0)),
            "persistence": finite_list(metrics.rollout_error(start.expand_as(truth), truth).mean(0)),
            "correlation_time": _finite(metrics.correlation_time(prediction, truth, times).median().item()),
        }
        if periodic:
            spectra.append([metrics.spectrum(u[:, -1], dataset.grid.lengths) for u in (truth, prediction)])
        sample = (truth[0], prediction[0], times)
    if spectra:
        shells = [torch.cat([batch[i][1] for batch in spectra]).sum(1).mean(0) for i in (0, 1)]
        numbers["spectrum"] = {
            "wavenumbers": spectra[0][0][0].tolist(),
            "target": finite_list(shells[0]),
            "prediction": finite_list(shells[1]),
        }
    assert sample is not None  # a FieldDataset is never empty
    arrays = dict(zip(("target", "prediction", "times"), map(np.asarray, sample)))
    return Evaluation(numbers, arrays | {"lengths": np.asarray(dataset.grid.lengths)})


class _Table:
    """Metrics of many batches, and their mean and standard error."""

    def __init__(self, dataset: "FieldDataset"):
        grid = dataset.grid
        self._metrics = {
            "relative_l2": metrics.relative_l2,
            "relative_h1": lambda p, y: metrics.relative_h1(p, y, grid.spacing, grid.periodic),
            "nrmse": metrics.nrmse,
            "vrmse": metrics.vrmse,
        }
        self._values: dict[str, list[Tensor]] = {name: [] for name in self._metrics}

    def add(self, prediction: Tensor, target: Tensor) -> None:
        for name, metric in self._metrics.items():
            self._values[name].append(metric(prediction, target).double())

    def summary(self) -> dict[str, dict[str, float | None]]:
        return {name: summary(batches) for name, batches in self._values.items()}


def summary(batches: list[Tensor]) -> dict[str, float | None]:
    """Return mean and standard error of numbers that came in batches."""
    values = torch.cat(batches)
    error = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return {"mean": _finite(values.mean().item()), "standard_error": _finite(error)}


def _rollouts(
    model: Operator, dataset: "FieldDataset", batch_size: int
) -> tuple[Tensor, Tensor, Tensor, list[float]]:
    """Return last known frame, truth and prediction `(sample, step, channel, *space)`, times since."""
    device = next(model.parameters()).device
    window, stride = dataset.window, dataset.stride
    starts, truths, predictions = [], [], []
    for first in range(0, dataset.n_samples, batch_size):
        numbers = range(first, min(first + batch_size, dataset.n_samples))
        frames = torch.stack([dataset.trajectory(i) for i in numbers])[:, ::stride]
        truth = frames[:, window:]
        x0 = frames[:, :window].flatten(1, 2).to(device)
        predictions.append(rollout(model, x0, truth.shape[1]).cpu())
        truths.append(truth)
        starts.append(frames[:, window - 1 : window])
    truth, step = torch.cat(truths), dataset.time_step or 1.0
    times = [step * n for n in range(1, truth.shape[1] + 1)]
    return torch.cat(starts), truth, torch.cat(predictions), times


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def spectra(grid: "Grid | None", target: Tensor, prediction: Tensor) -> dict[str, Any]:
    """Return the "spectrum" of an evaluation of fields `(sample, channel, *space)`, on a periodic grid."""
    if grid is None or not bool(np.all(grid.periodic)):
        return {}
    (wavenumbers, shells), (_, found) = (metrics.spectrum(u, grid.lengths) for u in (target, prediction))
    sums = {"target": finite_list(shells.sum(1).mean(0)), "prediction": finite_list(found.sum(1).mean(0))}
    return {"spectrum": {"wavenumbers": wavenumbers.tolist()} | sums}


def finite_list(values: Tensor) -> list[float | None]:
    """Return numbers as JSON values, None for those that are not finite."""
    return [_finite(value) for value in values.tolist()]
