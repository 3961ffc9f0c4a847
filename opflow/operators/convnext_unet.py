"""U-Net of ConvNeXt blocks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from opflow.nn.arguments import arguments
from opflow.nn.channel_mlp import ChannelLinear
from opflow.nn.convnext import ConvNeXtBlock, Grow, Shrink
from opflow.nn.convolution import Convolution, channels_last
from opflow.operators.base import Operator, require_positive
from opflow.operators.own_grid import check_own_grid


class ConvNeXtUNet(Operator):
    """U-Net of ConvNeXt blocks, which double their width from level to level; on any grid.

    The strongest of the baselines on most sets of The Well's benchmark, where it has `hidden_channels=42`.
    On another grid than it was trained on it is another operator.

    Args:
        in_channels: channels of the input field.
        out_channels: channels of the output field.
        n_dim: number of space dimensions, 1 to 3.
        hidden_channels: width of the finest level.
        levels: number of grids, the finest and half, a quarter, ... of it.
        blocks: ConvNeXt blocks per level on the way down, and on the way up.
        circular: periodic fields, in place of zeros around them; the operator then commutes with shifts by
            multiples of `2**(levels - 1)` points on grids that such multiples divide.

    Shapes:
        `(batch, in_channels, *space)` to `(batch, out_channels, *space)`.

    Raises:
        ValueError: a size below one, or an output grid other than that of the input.

    Source: Liu et al., A ConvNet for the 2020s, 2022; Ohana et al., The Well, 2024 (CNextU-Net).

    Example:
        >>> ConvNeXtUNet(1, 2, hidden_channels=8, levels=3)(torch.zeros(1, 1, 17, 20)).shape
        torch.Size([1, 2, 17, 20])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_dim: int = 2,
        hidden_channels: int = 42,
        levels: int = 4,
        blocks: int = 2,
        circular: bool = False,
    ):
        config = arguments(locals())
        require_positive(hidden_channels=hidden_channels, levels=levels, blocks=blocks)
        if n_dim not in (1, 2, 3):
            raise ValueError(f"n_dim must be 1, 2 or 3, got {n_dim}")
        super().__init__(in_channels, out_channels, n_dim)
        self.config = config
        widths = [hidden_channels * 2**level for level in range(levels)]

        def stage(width: int) -> nn.Sequential:
            return nn.Sequential(*(ConvNeXtBlock(width, n_dim, circular) for _ in range(blocks)))

        self.first = Convolution(in_channels, hidden_channels, n_dim, circular=circular)
        self.down = nn.ModuleList(stage(width) for width in widths)
        self.shrink = nn.ModuleList(
            Shrink(fine, coarse, n_dim, circular) for fine, coarse in zip(widths, widths[1:])
        )
        ladder = list(zip(widths, widths[1:]))[::-1]
        self.grow = nn.ModuleList(Grow(coarse, fine, n_dim) for fine, coarse in ladder)
        self.merge = nn.ModuleList(ChannelLinear(2 * fine, fine) for fine, _ in ladder)
        self.up = nn.ModuleList(stage(fine) for fine, _ in ladder)
        self.last = Convolution(hidden_channels, out_channels, n_dim, circular=circular)

    def operate(self, x: Tensor, out_grid: Sequence[int] | None) -> Tensor:
        """Apply the network; only the grid of `x` is possible."""
        check_own_grid("ConvNeXtUNet", x.shape[2:], out_grid)
        u = self.first(channels_last(x))
        left = []
        for stage, shrink in zip(self.down, self.shrink):
            left.append(stage(u))
            u = shrink(left[-1])
        u = self.down[-1](u)
        for grow, merge, stage in zip(self.grow, self.merge, self.up):
            fine = left.pop()
            u = stage(merge(torch.cat([grow(u, fine.shape[2:]), fine], 1)))
        return self.last(u)
