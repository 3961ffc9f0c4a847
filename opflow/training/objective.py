"""From a batch to a loss: one step, unrolled over several frames, pushforward, noise, augmentation."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from opflow.autoregression import slide
from opflow.operators.points import PointOperator

Loss = Callable[..., Tensor]


def apply(model: nn.Module, x: Tensor, coords: Tensor | None = None, weights: Tensor | None = None) -> Tensor:
    """Apply a model to fields `(batch, channel, *space)`, or at points, whose space is one axis."""
    if coords is None:
        return model(x)
    return model(x.mT, coords, weights=weights).mT


class Objective(nn.Module):
    """The model together with its loss, so that both are compiled and distributed as one module.

    In training mode it returns the scalar loss of a batch, in evaluation mode the prediction. A target with
    `horizon` times the channels of the model's output is a stack of frames: the model is then unrolled, its
    predictions fed back through the window of input frames.

    Args:
        model: maps `(batch, channel, *space)` to `(batch, channel, *space)`, or is a `PointOperator`.
        loss: `(prediction, target) -> scalar`, a mean over the batch; at points it takes weights, too.
        channels: channels of the output of the model, one frame.
        noise: standard deviation of the Gaussian noise on training inputs, in units of the spread of each
            channel over the batch.
        pushforward: take the loss of the last frame only, with gradients through the last step only
            (Brandstetter, Worrall and Welling 2022, section 3.1).
        transpose: in training, exchange the two space axes of every other sample, chosen at random.
        query_points: in training at points, evaluate and compare at so many of them only; 0 for all.

    Raises:
        ValueError: `transpose` meets fields that are not scalars on a square grid, or `query_points` fields
            on a grid or several frames.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        channels: int,
        noise: float = 0.0,
        pushforward: bool = False,
        transpose: bool = False,
        query_points: int = 0,
    ):
        super().__init__()
        self.model = model
        self.loss = loss
        self.channels = channels
        self.noise = noise
        self.pushforward = pushforward
        self.transpose = transpose
        self.query_points = query_points

    def forward(
        self, x: Tensor, y: Tensor, coords: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Return the loss (training) or the prediction of `y` (evaluation), with the names of `Piece`."""
        if self.training and self.transpose:
            if x.ndim != 4 or x.shape[2] != x.shape[3]:
                raise ValueError(
                    "transpose=True exchanges two space axes of equal size, got inputs of shape "
                    f"{tuple(x.shape)}"
                )
            chosen = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
            x, y = torch.where(chosen, x.mT, x), torch.where(chosen, y.mT, y)
        if self.training and self.noise > 0:
            if weights is None:
                spread = x.std((0, *range(2, x.ndim)), keepdim=True)
            else:
                spread = x.mT[weights > 0].std(0)[:, None]
            x = x + self.noise * spread * torch.randn_like(x)
        horizon = y.shape[1] // self.channels
        if self.training and self.query_points:
            if coords is None or weights is None or horizon > 1:
                raise ValueError(
                    "query_points is for single steps at scattered points, got "
                    + ("fields on a grid" if coords is None else f"a target of {horizon} frames")
                    + ": set it to 0"
                )
            return self._loss_at_some(x, y, coords, weights)
        frames = []
        for step in range(horizon):
            with torch.set_grad_enabled(
                torch.is_grad_enabled() and (step == horizon - 1 or not self.pushforward)
            ):
                frames.append(apply(self.model, x, coords, weights).to(y.dtype))
            if step < horizon - 1:
                x = slide(x, frames[-1])
        measure = () if weights is None else (weights,)
        if self.training and self.pushforward:
            return self.loss(frames[-1], y[:, -self.channels :], *measure)
        prediction = frames[0] if horizon == 1 else torch.cat(frames, 1)
        return self.loss(prediction, y, *measure) if self.training else prediction

    def _loss_at_some(self, x: Tensor, y: Tensor, coords: Tensor, weights: Tensor) -> Tensor:
        real = (weights > 0).float()  # filling is not drawn
        index = real.multinomial(min(self.query_points, int(real.sum(1).min())))
        model = cast(PointOperator, self.model)
        prediction = model(x.mT, model.geometry(coords, weights).at(index)).mT.to(y.dtype)
        return self.loss(prediction, y.take_along_dim(index[:, None], 2), weights.gather(1, index))
