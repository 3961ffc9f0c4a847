"""Layers of a G-FNO: one in the form of our FNO, and the published one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from opflow.kernels.channel_mlp import channel_mlp
from opflow.kernels.dft import Slot
from opflow.kernels.fno_layer import fno_layer
from opflow.kernels.normed_layer import normed_layer, normed_spectrum
from opflow.nn.group_linear import GroupLinear, GroupProjection
from opflow.nn.group_spectral import GroupSpectralConv
from opflow.nn.hooks import has_hooks
from opflow.nn.point_group import IDENTITY, PointGroup
from opflow.nn.spectral import fourier_resample, transforms, uses_products


class GroupMLP(nn.Module):
    """Two pointwise maps with a GELU between them, between features of a group or from them to fields.

    Args:
        first: from features to features.
        second: from those to features or fields.
    """

    def __init__(self, first: GroupLinear, second: GroupLinear | GroupProjection):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, u: Tensor) -> Tensor:
        """Map the channels of `(batch, channel, *space)`."""
        if has_hooks(self.first, self.second):
            return self.second(gelu(self.first(u)))
        return channel_mlp(u.movedim(1, -1), *self.first.blocks(), *self.second.plain()).movedim(-1, 1)


class GroupBlock(nn.Module):
    r"""A Fourier layer of features over a group, in the form of `opflow.nn.FNOBlock`.

    .. math:: z = \sigma(K u + S u), \qquad u' = \sigma(M z + \gamma \odot u)

    K is the spectral convolution, S a pointwise map, M a pointwise MLP of half the width and :math:`\gamma`
    one number per channel; :math:`\sigma` is the GELU, left out in the last layer.

    Args:
        channels: channels of the features, each with a slot per element.
        n_modes: as for `GroupSpectralConv`.
        group: the group.
        last: whether this is the last layer of its model.
        radial: plain channels, and kernels that are constant on orbits.

    Shapes:
        `(batch, order * channels, *space)` to `(batch, order * channels, *out_grid)`.
    """

    def __init__(
        self, channels: int, n_modes: Sequence[int], group: PointGroup, *, last: bool, radial: bool = False
    ):
        super().__init__()
        slots = IDENTITY if radial else group
        hidden = max(1, channels // 2)
        self.conv = GroupSpectralConv(channels, channels, n_modes, group, radial=radial)
        self.skip = GroupLinear(channels, channels, slots, bias=False)
        self.mlp = GroupMLP(GroupLinear(channels, hidden, slots), GroupLinear(hidden, channels, slots))
        self.gate = nn.Parameter(torch.ones(channels))
        self.last = last

    def forward(self, u: Tensor, out_grid: Sequence[int] | None = None) -> Tensor:
        """Map `u` to the same grid, or to `out_grid`."""
        grid = tuple(u.shape[2:])
        out_grid = grid if out_grid is None else tuple(out_grid)
        slots = self.conv.slots_on(grid, out_grid)
        if (
            grid == out_grid
            and uses_products(slots)
            and not has_hooks(*self.children(), *self.mlp.children())
        ):
            return self._forward_fused(u, slots)
        z = self.conv(u, out_grid) + fourier_resample(self.skip(u), out_grid)
        z = self.mlp(z if self.last else gelu(z))
        gate = self.gate.repeat(self.conv.order)
        z = z + fourier_resample(u * gate.view(-1, *(1,) * len(grid)), out_grid)
        return z if self.last else gelu(z)

    def _forward_fused(self, u: Tensor, slots: Sequence[Slot]) -> Tensor:
        """Run as the plain layer of `order * channels` channels that this is, its matrices written out."""
        conv = self.conv
        weights = (
            conv.theta(),
            conv.vector(),
            self.skip.matrix(),
            *self.mlp.first.plain(),
            *self.mlp.second.plain(),
        )
        gate = self.gate.repeat(conv.order)
        product = conv.product(slots)
        u = fno_layer(u.movedim(1, -1), *weights, gate, slots=slots, last=self.last, product=product)
        return u.movedim(-1, 1)


class PublishedGroupBlock(nn.Module):
    r"""The Fourier layer of the published G-FNO, with instance norms.

    .. math:: u' = \sigma(M N(K(N u)) + S u)

    K is the spectral convolution, M a pointwise MLP of the same width, S a pointwise map and N the instance
    norm over space and slots; :math:`\sigma` is the GELU, left out in the last layer.

    Args:
        channels: channels of the features, each with a slot per element.
        n_modes: as for `GroupSpectralConv`.
        group: the group.
        last: whether this is the last layer of its model.
        radial: plain channels, and kernels that are constant on orbits.

    Shapes:
        `(batch, order * channels, *space)` to `(batch, order * channels, *out_grid)`.

    Source: Helwig et al., Group Equivariant Fourier Neural Operators for Partial Differential Equations,
        2023.
    """

    def __init__(
        self, channels: int, n_modes: Sequence[int], group: PointGroup, *, last: bool, radial: bool = False
    ):
        super().__init__()
        slots = IDENTITY if radial else group
        # A constant before a norm has no effect.
        self.conv = GroupSpectralConv(channels, channels, n_modes, group, bias=False, radial=radial)
        self.skip = GroupLinear(channels, channels, slots)
        self.mlp = GroupMLP(GroupLinear(channels, channels, slots), GroupLinear(channels, channels, slots))
        self.last = last

    def forward(self, u: Tensor, out_grid: Sequence[int] | None = None) -> Tensor:
        """Map `u` to the same grid, or to `out_grid`."""
        grid = tuple(u.shape[2:])
        out_grid = grid if out_grid is None else tuple(out_grid)
        slots = self.conv.slots_on(grid, out_grid)
        x, product = u.movedim(1, -1), self.conv.product(slots)
        if (
            grid == out_grid
            and uses_products(slots)
            and not has_hooks(*self.children(), *self.mlp.children())
        ):
            assert isinstance(self.mlp.second, GroupLinear)
            (w1, b1), (w2, b2), (skip, b3) = (
                m.blocks() for m in (self.mlp.first, self.mlp.second, self.skip)
            )
            weights = (self.conv.theta(), w1, b1, w2, b2 + b3, skip)
            return normed_layer(x, *weights, product=product, slots=slots, last=self.last).movedim(-1, 1)
        analyse, synthesise = transforms(slots)
        y = normed_spectrum(x, self.conv.theta(), product=product, slots=slots, analyse=analyse)
        z = self.mlp(synthesise(y, slots, out_grid).movedim(-1, 1))
        z = z + fourier_resample(self.skip(u), out_grid)
        return z if self.last else gelu(z)
