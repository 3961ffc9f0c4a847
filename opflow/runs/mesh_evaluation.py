"""Errors of a point operator on a data set of meshes."""

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from opflow import metrics
from opflow.operators.points import PointOperator
from opflow.runs.evaluation import Evaluation, summary

if TYPE_CHECKING:
    from pde_data import MeshDataset

_METRICS = {"relative_l2": metrics.relative_l2, "nrmse": metrics.nrmse, "vrmse": metrics.vrmse}


def evaluate_on_meshes(model: PointOperator, dataset: "MeshDataset", *, batch_size: int = 32) -> Evaluation:
    """Measure a model on all samples of a data set; norms and means are by the quadrature weights.

    `Evaluation.sample` holds the mesh of the first sample, `points`, `triangles` and `tags`, besides.

    Raises:
        ValueError: the model works on grids.
    """
    if not isinstance(model, PointOperator):
        raise ValueError(
            f"{type(model).__name__} works on grids, and {dataset.name} has meshes: use a point operator"
        )
    values: dict[str, list[torch.Tensor]] = {name: [] for name in _METRICS}
    first = None
    for coords, x, y, weights in dataset.loader(batch_size):
        prediction = model.predict(x, coords, weights=weights).to(y)
        for name, metric in _METRICS.items():
            values[name].append(metric(prediction.mT, y.mT, weights=weights).double())
        if first is None:
            real = weights[0] > 0
            first = (y[0, real].T.numpy(), prediction[0, real].T.numpy())
    assert first is not None  # a MeshDataset is never empty
    numbers: dict[str, Any] = {
        "pairs": len(dataset),
        "errors": {name: summary(batches) for name, batches in values.items()},
    }
    mesh = dataset.mesh(0)
    sample = {"target": first[0][None], "prediction": first[1][None], "times": np.zeros(1)}
    return Evaluation(
        numbers, sample | {"points": mesh.points, "triangles": mesh.triangles, "tags": mesh.tags}
    )
