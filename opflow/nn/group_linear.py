r"""Pointwise maps between features of a point group, equivariant under it.

A feature has one *slot* per element, :math:`u(g, x)`, and turns as :math:`(R u)(g, x) = u(R^{-1} g, R^{-1}
x)`: space and slots together. Tensors hold the slots slowest among the channels: `(batch, slot * channel,
*space)`. What a map of such features may depend on is the quotient :math:`g^{-1} h` of two slots alone. Each
layer keeps that much as its parameters and writes out the plain matrix, which costs little beside applying
it.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from opflow.kernels.blocks import walsh
from opflow.nn.point_group import PointGroup


class GroupLinear(nn.Module):
    r"""Mix channels and slots at every point.

    .. math:: y_o(g) = \sum_{i,h} w_{oi}(g^{-1} h)\, u_i(h) + b_o

    Args:
        in_channels: channels of the input, each with a slot per element.
        out_channels: channels of the output, likewise.
        group: the group.
        bias: add a constant per output channel.

    Shapes:
        `(batch, order * in_channels, *space)` to `(batch, order * out_channels, *space)`.

    Source: Cohen and Welling, Group Equivariant Convolutional Networks, 2016.

    Example:
        >>> layer = GroupLinear(2, 3, PointGroup.named("p4"))
        >>> layer.weight.numel(), layer.matrix().shape
        (24, torch.Size([12, 8]))
    """

    quotients: Tensor

    def __init__(self, in_channels: int, out_channels: int, group: PointGroup, bias: bool = True):
        super().__init__()
        bound = 1 / math.sqrt(in_channels * group.order)
        # (quotient, out, in): a slot's matrix is one block of memory.
        self.weight = nn.Parameter(
            torch.empty(group.order, out_channels, in_channels).uniform_(-bound, bound)
        )
        self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound)) if bias else None
        self.group = group
        self.register_buffer("quotients", group.quotients(), persistent=False)

    def matrix(self) -> Tensor:
        """Return the plain matrix `(order * out, order * in)`."""
        order, out_channels, in_channels = self.weight.shape
        blocks = self.weight.index_select(0, self.quotients.flatten())
        blocks = blocks.view(order, order, out_channels, in_channels).transpose(1, 2)
        return blocks.reshape(order * out_channels, order * in_channels)

    def plain(self) -> tuple[Tensor, Tensor]:
        """Return matrix and bias of the plain map: `(order * out, order * in)`, `(order * out,)`."""
        order, n_out, _ = self.weight.shape
        bias = self.weight.new_zeros(n_out) if self.bias is None else self.bias
        return self.matrix(), bias.repeat(order)

    def blocks(self) -> tuple[Tensor, Tensor]:
        r"""Return the map as `opflow.kernels.blocks.block_linear` takes it.

        With elements written k c, :math:`V_\chi(c, c') = \frac1n \sum_k \chi(k)\, w(c^{-1} k c')` for each of
        the n characters :math:`\chi` of the k, which are signs.
        """
        order, n_out, n_in = self.weight.shape
        n = self.group.blocks
        rest = order // n
        quotients = self.quotients[:rest].flatten()  # (c, k, c')
        parts = self.weight.index_select(0, quotients).view(rest, n, rest, n_out, n_in)
        characters = walsh(torch.eye(n, dtype=parts.dtype, device=parts.device), n)
        v = torch.einsum("xk,ckdoi->xcodi", characters, parts) / n
        bias = self.weight.new_zeros(order * n_out)
        if self.bias is not None:  # the same in all slots: in the block of the constant signs
            bias = torch.cat([self.bias.repeat(rest), bias[rest * n_out :]])
        return v.reshape(n, rest * n_out, rest * n_in), bias

    def forward(self, u: Tensor) -> Tensor:
        """Apply the map."""
        return linear(u.movedim(1, -1), *self.plain()).movedim(-1, 1)


class GroupLifting(nn.Module):
    r"""Lift fields to features: a slot sees the field as it looks to someone turned by its element.

    .. math:: u_o(g) = \sum_i w_{oi}\, (\rho(g^{-1}) x)_i + b_o

    Args:
        representation: the matrices :math:`\rho(g)` on the input channels, `(order, in, in)`.
        out_channels: channels of the features.

    Shapes:
        `(batch, in, *space)` to `(batch, order * out_channels, *space)`.
    """

    inverses: Tensor

    def __init__(self, representation: Tensor, out_channels: int):
        super().__init__()
        in_channels = representation.shape[-1]
        bound = 1 / math.sqrt(in_channels)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound))
        self.register_buffer("inverses", representation.mT.contiguous().float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Lift `x`."""
        matrix = (self.weight @ self.inverses.to(self.weight)).flatten(0, 1)
        return linear(x.movedim(1, -1), matrix, self.bias.repeat(len(self.inverses))).movedim(-1, 1)


class GroupProjection(nn.Module):
    r"""Map features to fields: the slots turn back and are summed.

    .. math:: y = \sum_g \rho(g)\, (W u(g)) + b

    The constant b is there in the channels that no element changes.

    Args:
        in_channels: channels of the features.
        representation: the matrices :math:`\rho(g)` on the output channels, `(order, out, out)`.

    Shapes:
        `(batch, order * in_channels, *space)` to `(batch, out, *space)`.
    """

    turns: Tensor
    invariants: Tensor

    def __init__(self, in_channels: int, representation: Tensor):
        super().__init__()
        order, out_channels, _ = representation.shape
        bound = 1 / math.sqrt(in_channels * order)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels).uniform_(-bound, bound))
        mean = representation.float().mean(0)
        invariants = torch.eye(out_channels)[mean.diagonal() == 1]
        self.bias = (
            nn.Parameter(torch.empty(len(invariants)).uniform_(-bound, bound)) if len(invariants) else None
        )
        self.register_buffer("turns", representation.float(), persistent=False)
        self.register_buffer("invariants", invariants, persistent=False)

    def plain(self) -> tuple[Tensor, Tensor]:
        """Return matrix and bias of the plain map: `(out, order * in)`, `(out,)`."""
        matrix = (self.turns.to(self.weight) @ self.weight).transpose(0, 1).flatten(1)
        if self.bias is None:
            return matrix, matrix.new_zeros(len(matrix))
        return matrix, self.bias @ self.invariants.to(self.bias)

    def forward(self, u: Tensor) -> Tensor:
        """Project `u`."""
        return linear(u.movedim(1, -1), *self.plain()).movedim(-1, 1)
