"""ConvNeXt blocks, and the steps between grids that go with them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from opflow.nn.channel_mlp import ChannelMLP
from opflow.nn.convolution import Convolution, cut, pad_to_multiple

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class ChannelNorm(nn.LayerNorm):
    """Layer norm of the channels at every point of `(batch, channel, *space)`."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the channels."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ConvNeXtBlock(nn.Module):
    r"""Depthwise convolution, layer norm, and a perceptron four times as wide, added to the field.

    .. math:: u' = u + \gamma \odot W_2\, \sigma(W_1 N(K u))

    with a depthwise kernel K of seven points per axis, GELU :math:`\sigma`, and a scale per channel
    :math:`\gamma`, 1e-6 at first.

    Args:
        channels: channels of the field.
        n_dim: number of space dimensions, 1 to 3.
        circular: periodic fields.

    Source: Liu et al., A ConvNet for the 2020s, 2022.

    Example:
        >>> ConvNeXtBlock(4, 2)(torch.zeros(1, 4, 9, 3)).shape
        torch.Size([1, 4, 9, 3])
    """

    def __init__(self, channels: int, n_dim: int, circular: bool = False):
        super().__init__()
        self.depthwise = Convolution(channels, channels, n_dim, size=7, groups=channels, circular=circular)
        self.norm = ChannelNorm(channels)
        self.mlp = ChannelMLP(channels, 4 * channels, channels, gelu)
        self.scale = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, u: Tensor) -> Tensor:
        """Map `(batch, channels, *space)`."""
        scale = self.scale.view(-1, *(1,) * (u.ndim - 2))
        return u + scale * self.mlp(self.norm(self.depthwise(u)))


class Shrink(nn.Module):
    """Layer norm, then halve the grid: each pair of points per axis becomes one; an odd side is filled up."""

    def __init__(self, in_channels: int, out_channels: int, n_dim: int, circular: bool = False):
        super().__init__()
        self.norm = ChannelNorm(in_channels)
        self.conv = _CONVOLUTIONS[n_dim - 1](in_channels, out_channels, 2, stride=2)
        self.circular = circular

    def forward(self, u: Tensor) -> Tensor:
        """Map a side of n points to one of ceil(n / 2)."""
        return self.conv(pad_to_multiple(self.norm(u), 2, self.circular))


class Grow(nn.Module):
    """Layer norm, then double the grid: each point becomes a pair per axis; cut to size."""

    def __init__(self, in_channels: int, out_channels: int, n_dim: int):
        super().__init__()
        self.norm = ChannelNorm(in_channels)
        self.conv = _TRANSPOSED[n_dim - 1](in_channels, out_channels, 2, stride=2)

    def forward(self, u: Tensor, grid: Sequence[int]) -> Tensor:
        """Map `(batch, channels, *space)` to `grid`, each side of which is 2 n or 2 n - 1."""
        return cut(self.conv(self.norm(u)), grid)
