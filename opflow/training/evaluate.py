"""Errors of a model on data sets and along rollouts, over all processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from opflow.metrics import relative_l2, rollout_error
from opflow.operators.base import placed
from opflow.training.batches import Batches
from opflow.training.objective import Loss

if TYPE_CHECKING:
    from accelerate import Accelerator


@torch.no_grad()
def evaluate(
    objective: nn.Module, batches: Batches, loss: Loss, accelerator: Accelerator, dtype: torch.dtype
) -> dict[str, float]:
    """Return loss and relative L2 error of a data set, `{"loss": ..., "l2": ...}`, means over samples."""
    objective.eval()
    sums = torch.zeros(3, dtype=torch.float64, device=accelerator.device)
    for batch in batches.epoch(0):
        for x, y, count, points in batch.pieces:
            x, y, *points = (placed(t, accelerator.device, dtype) for t in (x, y, *points))
            prediction = objective(x, y, *points)
            if count > 0:
                measure = points[1:]
                l2 = relative_l2(prediction, y, *measure).mean()
                sums += count * torch.stack((loss(prediction, y, *measure), l2, torch.ones_like(l2)))
    objective.train()
    total: Any = accelerator.reduce(sums)
    loss_sum, l2_sum, samples = total.tolist()
    return {"loss": loss_sum / samples, "l2": l2_sum / samples}


@torch.no_grad()
def rollout_errors(
    objective: nn.Module,
    dataset: Any,
    steps: int,
    device: torch.device,
    dtype: torch.dtype,
    samples: int = 4,
) -> list[float]:
    """Return the relative L2 error after each step of a rollout, mean over the first few trajectories.

    `dataset` is a `pde_data.FieldDataset` over time; every process does the same work. Fewer steps are taken
    when the trajectories are shorter.
    """
    trajectories = torch.stack([dataset.trajectory(i) for i in range(min(samples, dataset.n_samples))])
    trajectories = trajectories[:, :: dataset.stride].to(device, dtype)
    x0, truth = trajectories[:, : dataset.window], trajectories[:, dataset.window :][:, :steps]
    objective.eval()
    prediction = objective(x0.flatten(1, 2), truth.flatten(1, 2))
    objective.train()
    return rollout_error(prediction.unflatten(1, truth.shape[1:3]), truth).mean(0).tolist()
