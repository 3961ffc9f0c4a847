"""The network of a coupling layer."""

import torch
from torch import Tensor, nn

from opflow.kernels.backend import runs_compiled
from opflow.kernels.conv3x3 import Conv3x3
from opflow.kernels.relu_net import hidden_layers, relu_net
from opflow.nn.convolution import Convolution, channels_last
from opflow.nn.invertible.conditioning import Condition, Conditioner
from opflow.nn.invertible.remembered import Remembered


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
        self._kept = Remembered()
        self.condition = None if condition is None else Conditioner(condition, hidden_channels, circular)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Map `(batch, in_channels, row, column)` to `(batch, out_channels, row, column)`.

        The result has the dtype of x under autocast too, for what is made of it is summed to
        log-determinants.
        """
        x, extra = channels_last(x), None if self.condition is None else self.condition(cond)
        first, middle, last = self.first, self.middle, self.last
        if not first.circular:
            bias = first.bias if extra is None else first.bias[:, None, None] + extra
            weights = first.weight, bias, middle.weight, middle.bias
            if not torch.is_grad_enabled() and runs_compiled(x, *weights):
                return hidden_layers(x, *weights, self._kept(self._last, last.weight, last.bias))
            return relu_net(x, *weights, last.weight, last.bias).to(x.dtype)
        hidden = first(x) if extra is None else first(x) + extra
        return last(torch.relu_(middle(torch.relu_(hidden)))).to(x.dtype)

    def _last(self) -> Conv3x3:
        return Conv3x3(self.last.weight.detach(), self.last.bias.detach(), 1)
