"""The network of a coupling layer."""

import torch
from torch import Tensor, nn

from opflow.nn.convolution import Convolution
from opflow.nn.invertible.conditioning import Condition, Conditioner


class CouplingNet(nn.Module):
    """Convolutions of 3x3, 1x1 and 3x3 points with ReLUs between them; zero at the start of training.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        hidden_channels: channels in between.
        condition: what conditions it, see `Conditioner`.
        circular: continue the field periodically instead of by zeros.

    Example:
        >>> net = CouplingNet(3, 6, hidden_channels=8)
        >>> net(torch.randn(2, 3, 4, 5)).abs().max().item()
        0.0
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        condition: Condition = None,
        circular: bool = False,
    ):
        super().__init__()
        self.first = Convolution(in_channels, hidden_channels, n_dim=2, circular=circular)
        self.middle = Convolution(hidden_channels, hidden_channels, n_dim=2, size=1)
        self.last = Convolution(hidden_channels, out_channels, n_dim=2, circular=circular)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)
        self.condition = None if condition is None else Conditioner(condition, hidden_channels, circular)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Map `(batch, in_channels, row, column)` to `(batch, out_channels, row, column)`."""
        hidden = self.first(x)
        if self.condition is not None:
            hidden = hidden + self.condition(cond)
        return self.last(torch.relu(self.middle(torch.relu(hidden))))
