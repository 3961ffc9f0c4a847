"""Errors on test data: the numbers that the tables show."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from opflow import rollout
from opflow.training.batches import read
from protocol.views import View

_BATCH = 32


@torch.no_grad()
def scores(model: nn.Module, view: View) -> dict[str, float]:
    """Return the relative L2 errors of a trained model: "test", and what else the task asks for.

    Per sample and channel the norm runs over space and over all steps of the rollout (as in G-FNO), weighted
    by area on spheres and meshes; the mean is over channels and samples. Rollouts start from every frame that
    leaves room for them.
    """
    model.eval()
    found = {name: _mean(model, view, name) for name in view.parts if name.startswith("test")}
    if view.task.rotated:
        found["test, turned"] = _mean(model, view, "test", turned=True)
    return found


def _mean(model: nn.Module, view: View, part: str, turned: bool = False) -> float:
    data: Any = view.parts[part]
    errors = []
    for numbers in torch.arange(len(data)).split(_BATCH):
        batch = read(data, numbers.numpy())
        if len(batch) == 4:
            errors.append(_at_nodes(model, *batch))
        else:
            errors.append(_in_fields(model, view, *batch, turned))
    return float(torch.cat(errors).mean())


def _in_fields(model: nn.Module, view: View, x: Tensor, y: Tensor, turned: bool) -> Tensor:
    if turned:
        # About the origin, which the law allows. Scalars and pseudoscalars keep their values.
        x, y = (u.rot90(1, (2, 3)).roll(1, 2) for u in (x, y))
    weight = next(model.parameters())
    x, y = x.to(weight.device), y.to(weight.device)
    if view.task.window:
        truth = y.unflatten(1, (view.task.steps, -1))
        prediction = rollout(model, x, view.task.steps)
    else:
        truth, prediction = y[:, None], model(x)[:, None]
    if view.grid is not None and hasattr(view.grid, "quadrature"):
        root = torch.as_tensor(view.grid.quadrature()).sqrt().to(y)
        truth, prediction = truth * root, prediction * root
    return relative(prediction.transpose(1, 2), truth.transpose(1, 2))


def _at_nodes(model: nn.Module, x: Tensor, y: Tensor, coords: Tensor, weights: Tensor) -> Tensor:
    device = next(model.parameters()).device
    x, y, coords, weights = (part.to(device) for part in (x, y, coords, weights))
    root = weights.sqrt()[:, None]
    prediction = model(x.mT, coords, weights=weights).mT
    return relative(prediction * root, y * root)


def relative(prediction: Tensor, truth: Tensor) -> Tensor:
    r"""Return :math:`\|p - y\| / \|y\|` over all axes but the first two, mean over channels: `(batch,)`.

    >>> relative(torch.full((1, 2, 3, 4), 3.0), torch.full((1, 2, 3, 4), 2.0))
    tensor([0.5000])
    """
    error, size = ((u.flatten(2)).norm(dim=2) for u in (prediction - truth, truth))
    return (error / size).mean(1)
