"""Transformer layers on the points of a grid, with rotary positions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from opflow.nn.channel_mlp import ChannelLinear, ChannelMLP


class TransformerLayer(nn.Module):
    r"""Pre-norm transformer layer: softmax attention among all points, then a perceptron.

    .. math:: v = u + A(N_1 u), \qquad u' = v + W_2\, \sigma(W_1 N_2 v)

    Queries and keys are turned by the angles of their points: attention sees differences of positions.

    Args:
        channels: length of the vector of a point.
        heads: attention heads; divides `channels`.

    Source: Vaswani et al., Attention Is All You Need, 2017; Su et al., RoFormer, 2021 (rotary positions).
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv = ChannelLinear(channels, 3 * channels)
        self.out = ChannelLinear(channels, channels)
        self.mlp = ChannelMLP(channels, 4 * channels, channels, gelu)

    def forward(self, u: Tensor, angles: Tensor) -> Tensor:
        """Map `(batch, point, channels)`; angles are `(point, pairs)`."""
        channels = self.qkv(self.norm1(u).movedim(-1, 1))
        q, k, v = channels.unflatten(1, (3, self.heads, -1)).transpose(-1, -2).unbind(1)
        attended = scaled_dot_product_attention(turn(q, angles), turn(k, angles), v)
        u = u + self.out(attended.transpose(-1, -2).flatten(1, 2)).movedim(1, -1)
        return u + self.mlp(self.norm2(u).movedim(-1, 1)).movedim(1, -1)


def grid_angles(grid: Sequence[Tensor], pairs: int, circular: bool) -> Tensor:
    r"""Return the angles of the points of a grid, `(point, len(grid) * pairs)`.

    The j-th angle of a coordinate x in [0, 1) is :math:`2 \pi j x` where fields are periodic, else half of
    it, j = 1, ..., pairs: products of turned queries and keys are then all even and odd trigonometric
    polynomials of that degree in the difference of two positions.

    Args:
        grid: coordinates along each axis, in [0, 1).
        pairs: number of frequencies per axis.
        circular: whether positions 0 and 1 are one.
    """
    step = (2 if circular else 1) * math.pi
    ladder = step * torch.arange(1, pairs + 1, dtype=grid[0].dtype, device=grid[0].device)
    axes = torch.meshgrid(*grid, indexing="ij")
    return torch.cat([axis.flatten()[:, None] * ladder for axis in axes], 1)


def turn(x: Tensor, angles: Tensor) -> Tensor:
    """Turn pairs of the last axis, `(2 i, 2 i + 1)`, by angle i; what is left over stays.

    Example:
        >>> turn(torch.tensor([1.0, 0.0, 5.0]), torch.tensor([0.0])).tolist()
        [1.0, 0.0, 5.0]
    """
    count = angles.shape[-1]
    pairs, rest = x[..., : 2 * count].unflatten(-1, (count, 2)), x[..., 2 * count :]
    a, b = pairs.unbind(-1)
    cos, sin = angles.cos(), angles.sin()
    turned = torch.stack([a * cos - b * sin, a * sin + b * cos], -1).flatten(-2)
    return torch.cat([turned, rest], -1)
