"""Convolutions of one to three dimensions on any grid, zeros or the field itself around it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from opflow.kernels.conv3x3 import conv3x3

_CONVOLVE = (F.conv1d, F.conv2d, F.conv3d)


class Convolution(nn.Module):
    """Convolution with an odd kernel, centred; weights and initial values are those of `torch.nn.Conv2d`.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        n_dim: number of space dimensions, 1 to 3.
        size: points of the kernel per axis, odd.
        stride: keep each stride-th point: a side of n points becomes one of ceil(n / stride).
        groups: groups of channels that do not mix.
        circular: continue the field periodically, on any grid, however small; else by zeros.

    Example:
        >>> conv = Convolution(3, 4, n_dim=2, size=7, circular=True)
        >>> x = torch.randn(1, 3, 5, 2)
        >>> torch.allclose(conv(x.roll(1, -1)), conv(x).roll(1, -1), atol=1e-5)
        True
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_dim: int,
        size: int = 3,
        stride: int = 1,
        groups: int = 1,
        circular: bool = False,
    ):
        super().__init__()
        shape = (out_channels, in_channels // groups, *(size,) * n_dim)
        bound = 1 / math.sqrt(math.prod(shape[1:]))
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(out_channels).uniform_(-bound, bound))
        self.stride, self.groups, self.circular = stride, groups, circular

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, in_channels, *space)` to `(batch, out_channels, *space)`."""
        margin = self.weight.shape[-1] // 2
        if self.circular and margin:
            x, margin = pad_periodically(x, margin, margin), 0
        if self.weight.shape[2:] == (3, 3) and self.stride == self.groups == 1:
            return conv3x3(x, self.weight, self.bias, margin)
        convolve = _CONVOLVE[x.ndim - 3]
        return convolve(x, self.weight, self.bias, self.stride, margin, 1, self.groups)


def pad_periodically(x: Tensor, before: int, after: int) -> Tensor:
    """Continue `(batch, channel, *space)` periodically, over several periods where the grid is small.

    Example:
        >>> pad_periodically(torch.arange(2.0).view(1, 1, 2), 1, 3).flatten().tolist()
        [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    """
    for axis in range(2, x.ndim):
        n = x.shape[axis]
        x = x.index_select(axis, torch.arange(-before, n + after, device=x.device) % n)
    return channels_last(x)


def pad_to_multiple(x: Tensor, size: int, circular: bool) -> Tensor:
    """Fill up the end of each axis to a multiple of `size` points, periodically or by the last value.

    Example:
        >>> pad_to_multiple(torch.arange(3.0).view(1, 1, 3), 2, circular=True).flatten().tolist()
        [0.0, 1.0, 2.0, 0.0]
    """
    for axis in range(2, x.ndim):
        n = x.shape[axis]
        points = torch.arange((n + size - 1) // size * size, device=x.device)
        x = x.index_select(axis, points % n if circular else points.clamp(max=n - 1))
    return channels_last(x)


def cut(x: Tensor, grid: Sequence[int]) -> Tensor:
    """Keep the first points of each axis.

    Example:
        >>> cut(torch.zeros(1, 2, 4, 6), (3, 6)).shape
        torch.Size([1, 2, 3, 6])
    """
    for axis, n in enumerate(grid, start=2):
        if torch.compiler.is_exporting():  # of a view, the tracer asks whether it has gaps, and keeps to that
            x = x.index_select(axis, torch.arange(n, device=x.device))
        elif x.shape[axis] != n:
            x = x.narrow(axis, 0, n)
    return x


def channels_last(x: Tensor) -> Tensor:
    """Lay out images and volumes with the channels of a point together, as convolutions are fastest.

    Under `vmap` and its kind, where layouts cannot be asked for, the tensor stays as it is.
    """
    if torch._C._are_functorch_transforms_active():
        return x
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.contiguous(memory_format=formats.get(x.ndim, torch.contiguous_format))
