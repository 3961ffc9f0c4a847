"""U-Net as an operator between fields on one grid."""

from collections.abc import Sequence

from torch import Tensor

from opflow import nn
from opflow.nn.arguments import arguments
from opflow.operators.base import Operator
from opflow.operators.own_grid import check_own_grid


class UNet(Operator):
    """U-Net with residual blocks, on any grid; its kernels are as wide as the grid is fine.

    A baseline: it takes every grid, but on another grid than it was trained on it is another operator. The
    network itself, which can also be conditioned, is `opflow.nn.UNet`.

    Args:
        in_channels: channels of the input field.
        out_channels: channels of the output field.
        n_dim: number of space dimensions, 1 to 3.
        hidden_channels: width of the finest level.
        multipliers: width of each level over `hidden_channels`; their number is that of the levels.
        blocks: residual blocks per level.
        attention: levels with self-attention, 0 the finest.
        heads: attention heads.
        circular: periodic fields, in place of zeros around them.

    Shapes:
        `(batch, in_channels, *space)` to `(batch, out_channels, *space)`.

    Raises:
        ValueError: as for `opflow.nn.UNet`, and for an output grid other than that of the input.

    Source: Ronneberger, Fischer, Brox, U-Net, 2015; see `opflow.nn.UNet`.

    Example:
        >>> import torch
        >>> UNet(1, 2, hidden_channels=8)(torch.zeros(1, 1, 17, 20)).shape
        torch.Size([1, 2, 17, 20])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_dim: int = 2,
        hidden_channels: int = 64,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 1,
        attention: Sequence[int] = (),
        heads: int = 4,
        circular: bool = False,
    ):
        config = arguments(locals())
        super().__init__(in_channels, out_channels, n_dim)
        self.config = config
        self.net = nn.UNet(
            in_channels,
            out_channels,
            n_dim,
            channels=hidden_channels,
            multipliers=multipliers,
            blocks=blocks,
            attention=attention,
            heads=heads,
            circular=circular,
        )

    def operate(self, x: Tensor, out_grid: Sequence[int] | None) -> Tensor:
        """Apply the network; only the grid of `x` is possible."""
        check_own_grid("UNet", x.shape[2:], out_grid)
        return self.net(x)
