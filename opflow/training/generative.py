"""How the loop trains models of distributions, which bring their own loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from opflow.nn.generative import Generative
from opflow.operators.base import placed
from opflow.training.batches import Batches
from opflow.training.config import TrainConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

_ABOUT_PREDICTIONS = ("noise", "transpose", "pushforward", "query_points", "rollout_steps")


class OwnLoss(nn.Module):
    """A generative model together with its loss, so that both are compiled and distributed as one module.

    Args:
        model: the model.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, y: Tensor, *points: Tensor) -> Tensor:
        """Return the mean loss of a batch, in training and in evaluation."""
        return cast(Generative, self.model).pair_loss(x, y, *points)


def require_no_predictions(config: TrainConfig) -> None:
    """Refuse options that alter pairs of input and prediction.

    Raises:
        ValueError: names the options.
    """
    plain = TrainConfig()
    meant = [name for name in _ABOUT_PREDICTIONS if getattr(config, name) != getattr(plain, name)]
    if meant:
        raise ValueError(
            f"a generative model has a loss of its own and makes no predictions: leave out {', '.join(meant)}"
        )


def pairs_of(dataset: Dataset) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield the pairs of a data set in batches, with the weights of points."""
    for batch in Batches(dataset, batch_size=256).epoch(0):
        for piece in batch.pieces:
            yield piece.x, piece.y, piece.points[1] if piece.points else None


@torch.no_grad()
def mean_loss(
    objective: nn.Module, batches: Batches, accelerator: Accelerator, dtype: torch.dtype
) -> dict[str, float]:
    """Return the loss of a data set, `{"loss": ...}`, the mean over samples.

    Noise and times in it are the same at every call, so that epochs can be compared.
    """
    device = accelerator.device
    objective.eval()
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(accelerator.process_index)
        for batch in batches.epoch(0):
            for x, y, count, points in batch.pieces:
                loss = objective(*(placed(t, device, dtype) for t in (x, y, *points)))
                if count > 0:
                    sums += count * torch.stack((loss, torch.ones_like(loss)))
    objective.train()
    total: Any = accelerator.reduce(sums)
    loss_sum, samples = total.tolist()
    return {"loss": loss_sum / samples}
