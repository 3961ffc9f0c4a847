"""Maps of the channels alone, the same at every point: linear, two-layer perceptron, gate.

Tensors are `(batch, channel, *space)` to look at and channels-last in memory: each map is then one matrix
product, and `movedim` only changes the view.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from opflow.kernels.channel_mlp import channel_mlp
from opflow.kernels.linear import linear
from opflow.nn.hooks import has_hooks


class ChannelLinear(nn.Module):
    """Multiply the channel vector at every point by one matrix (a 1x1 convolution in any dimension).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        bias: add a constant per output channel.
        complex_data: complex weights, for complex fields.

    Shapes:
        `(batch, in_channels, *space)` to `(batch, out_channels, *space)`.

    Example:
        >>> import torch
        >>> ChannelLinear(3, 5)(torch.zeros(2, 3, 8, 9)).shape
        torch.Size([2, 5, 8, 9])
    """

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True, complex_data: bool = False):
        super().__init__()
        bound = 1 / math.sqrt(in_channels)  # as in torch.nn.Conv1d
        pair = (2,) if complex_data else ()  # real pairs: `.double()` leaves complex parameters behind
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *pair).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_channels, *pair).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Apply the matrix, and the bias when there is one."""
        weight, bias = self.weight, self.bias
        if x.is_complex():
            weight = torch.view_as_complex(weight)
            bias = None if bias is None else torch.view_as_complex(bias)
        return linear(x.movedim(1, -1), weight, bias).movedim(-1, 1)


class ChannelMLP(nn.Module):
    """Two channel-wise linear maps with an activation between them.

    Args:
        in_channels: channels of the input.
        hidden_channels: channels between the maps.
        out_channels: channels of the output.
        activation: applied between the maps.
        dropout: probability of dropout behind each map.
        complex_data: complex weights, for complex fields.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        activation: Callable[[Tensor], Tensor],
        dropout: float = 0.0,
        complex_data: bool = False,
    ):
        super().__init__()
        self.first = ChannelLinear(in_channels, hidden_channels, complex_data=complex_data)
        self.second = ChannelLinear(hidden_channels, out_channels, complex_data=complex_data)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, in_channels, *space)` to `(batch, out_channels, *space)`."""
        first, second = self.first, self.second
        if (
            self.activation is gelu
            and not self.dropout.p
            and first.bias is not None
            and second.bias is not None
            and not has_hooks(first, second, self.dropout)
        ):
            y = channel_mlp(x.movedim(1, -1), first.weight, first.bias, second.weight, second.bias)
            return y.movedim(-1, 1)
        return self.dropout(second(self.dropout(self.activation(first(x)))))


class SoftGate(nn.Module):
    """Multiply each channel by a learned real number, one at first."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Scale `(batch, channels, *space)`."""
        return x * self.weight.view(-1, *(1,) * (x.ndim - 2))
