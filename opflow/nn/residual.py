"""What a U-Net is made of: residual blocks, self-attention, and a convolution that doubles a grid."""

from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention

from opflow.kernels.norm_silu import norm_silu
from opflow.nn.channel_mlp import ChannelLinear
from opflow.nn.convolution import Convolution, cut


class GroupNorm(nn.Module):
    r"""Group norm, with a scale and a shift per sample if wanted, and SiLU: :math:`\sigma((1 + a) N u + b)`.

    There are 32 groups, or as many as leave two channels or more in each.

    Args:
        channels: channels of the field.
        activate: whether SiLU follows.

    Example:
        >>> import torch
        >>> norm = GroupNorm(64, activate=False)
        >>> groups = norm(torch.randn(2, 64, 9)).unflatten(1, (32, 2))
        >>> torch.allclose(groups.mean((2, 3)), torch.zeros(2, 32), atol=1e-6)
        True
    """

    def __init__(self, channels: int, activate: bool = True):
        super().__init__()
        self.groups, self.activate = gcd(32, channels, max(1, channels // 2)), activate
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, u: Tensor, scale_shift: Tensor | None = None) -> Tensor:
        """Map `(batch, channels, *space)`; `scale_shift` is `(batch, 2 channels)`, scales first."""
        gain, offset = (p.expand(u.shape[0], -1) for p in (self.weight, self.bias))
        if scale_shift is not None:
            scale, shift = scale_shift.chunk(2, 1)
            gain, offset = gain * (1 + scale), offset * (1 + scale) + shift
        return norm_silu(u, gain, offset, groups=self.groups, activate=self.activate)


class ResidualBlock(nn.Module):
    r"""Two convolutions round a skip, the second one conditioned.

    .. math:: u' = S u + W_2\, \sigma\big((1 + a) N_2(W_1\, \sigma(N_1 u)) + b\big)

    with group norms N, SiLU :math:`\sigma`, a scale a and shift b per channel, and S the identity, or a
    linear map of the channels where their number changes. :math:`W_2` is zero at first, so that the block is
    its skip.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        n_dim: number of space dimensions, 1 to 3.
        circular: periodic fields.
    """

    def __init__(self, in_channels: int, out_channels: int, n_dim: int, circular: bool = False):
        super().__init__()
        self.out_channels = out_channels
        self.norm1 = GroupNorm(in_channels)
        self.conv1 = Convolution(in_channels, out_channels, n_dim, circular=circular)
        self.norm2 = GroupNorm(out_channels)
        self.conv2 = zeroed(Convolution(out_channels, out_channels, n_dim, circular=circular))
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else ChannelLinear(in_channels, out_channels)

    def forward(self, u: Tensor, scale_shift: Tensor | None = None) -> Tensor:
        """Map `(batch, in_channels, *space)`; `scale_shift` is `(batch, 2 out_channels)`, scales first."""
        h = self.norm2(self.conv1(self.norm1(u)), scale_shift)
        return self.skip(u) + self.conv2(h)


class SelfAttention(nn.Module):
    r"""Softmax attention among all points of a field, added to it: :math:`u' = u + W\,A(N u)`.

    There are no positions: permuting the points permutes the result. W is zero at first.

    Args:
        channels: channels of the field.
        heads: number of heads; divides `channels`.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = GroupNorm(channels, activate=False)
        self.qkv = ChannelLinear(channels, 3 * channels)
        self.out = zeroed(ChannelLinear(channels, channels))

    def forward(self, u: Tensor) -> Tensor:
        """Map `(batch, channels, *space)`."""
        q, k, v = (
            self.qkv(self.norm(u)).flatten(2).unflatten(1, (3, self.heads, -1)).transpose(-1, -2).unbind(1)
        )
        attended = scaled_dot_product_attention(q, k, v)
        return u + self.out(attended.transpose(-1, -2).flatten(1, 2).unflatten(2, u.shape[2:]))


class Grow(nn.Module):
    """Double a grid by nearest neighbours, cut it to size, and convolve."""

    def __init__(self, channels: int, n_dim: int, circular: bool = False):
        super().__init__()
        self.conv = Convolution(channels, channels, n_dim, circular=circular)

    def forward(self, u: Tensor, grid: Sequence[int]) -> Tensor:
        """Map `(batch, channels, *space)` to `grid`, each side of which is 2 n or 2 n - 1."""
        fine = interpolate(u, size=[2 * n for n in u.shape[2:]], mode="nearest")
        return self.conv(cut(fine, grid))


def zeroed(module: nn.Module) -> nn.Module:
    """Set all parameters to zero."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
