"""What invertible layers share: both directions, each with its log-determinant."""

import abc
from typing import cast

import torch
from torch import Tensor, nn


class Bijection(nn.Module, abc.ABC):
    """An invertible map from data towards the latent, and back.

    `forward` encodes and `inverse` decodes. Both return the result and, per sample, the logarithm of the
    absolute determinant of the Jacobian of the map that was applied, so that the two of a round trip add up
    to zero. `cond` is what the layer was built to be conditioned on, None for layers without.
    """

    @abc.abstractmethod
    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data `(batch, channel, row, column)` towards the latent; log-determinants `(batch,)`."""

    @abc.abstractmethod
    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map back; log-determinants `(batch,)` of this direction."""


class Chain(Bijection):
    """Bijections one after another, the first next to the data.

    Example:
        >>> import torch
        >>> from opflow.nn.invertible import Chain, PointwiseConv, Squeeze
        >>> chain, x = Chain(Squeeze(), PointwiseConv(4)), torch.randn(2, 1, 4, 6)
        >>> z, logdet = chain(x)
        >>> z.shape, bool(torch.allclose(chain.inverse(z)[0], x, atol=1e-5))
        (torch.Size([2, 4, 2, 3]), True)
    """

    def __init__(self, *bijections: Bijection):
        super().__init__()
        self.bijections = nn.ModuleList(bijections)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply all, first to last."""
        total = x.new_zeros(len(x))
        for bijection in self.bijections:
            x, logdet = bijection(x, cond)
            total = total + logdet
        return x, total

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo all, last to first."""
        total = z.new_zeros(len(z))
        for bijection in reversed(cast(list[Bijection], self.bijections)):
            z, logdet = bijection.inverse(z, cond)
            total = total + logdet
        return z, total


def soft_bound(raw: Tensor, limit: float) -> Tensor:
    """Return `limit * tanh(raw / limit)`: the identity near zero, never beyond `limit`.

    Log-scales go through it, so that no layer can stretch by more than `exp(limit)`.

    Example:
        >>> soft_bound(torch.tensor([0.0, 100.0]), 2.0).tolist()
        [0.0, 2.0]
    """
    return limit * torch.tanh(raw / limit)


def space_size(x: Tensor) -> int:
    """Return the number of points of `(batch, channel, *space)`."""
    return x.shape[2:].numel()
