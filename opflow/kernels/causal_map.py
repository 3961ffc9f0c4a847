"""A causal convolution, a constant per channel, and the inverse, for many fields."""

import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, conv3d

from opflow.kernels.backend import is_eager
from opflow.kernels.causal import Reverse, causal_conv, causal_solve, checked_flips
from opflow.kernels.causal_convolve import pad_behind, rounds_convolutions, turn
from opflow.kernels.causal_op import substituted
from opflow.kernels.corner import divide_by_corner


class CausalMap:
    r"""The map :math:`y = W * x + b` and its inverse, by `causal_conv` and `causal_solve`.

    What does not depend on the field is made once, and serves as long as no gradients are recorded: small
    fields are then not outlasted by what surrounds them.

    Args:
        weight: kernel as for `causal_conv`.
        bias: `(channel,)`, or None.
        reverse: as for `causal_conv`.
        groups: as for `causal_conv`.

    Raises:
        ValueError: as for `causal_conv` and `causal_solve`, when a field comes.

    Example:
        >>> causal = CausalMap(torch.tensor([[[0.5, 1.0]]]), torch.tensor([3.0]))
        >>> y = causal.forward(torch.tensor([[[1.0, 0.0, 0.0, 2.0]]]))
        >>> y, causal.inverse(y)
        (tensor([[[4.0000, 3.5000, 3.0000, 5.0000]]]), tensor([[[1., 0., 0., 2.]]]))
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None = None, *, reverse: Reverse = None, groups: int = 1
    ):
        self.weight, self.bias, self.reverse, self.groups = weight, bias, reverse, groups
        self._flips: dict[tuple, list[int]] = {}
        self._turned: Tensor | None = None
        self._taps: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, channel, *space)`."""
        if self._records(x) or rounds_convolutions(x):
            y = causal_conv(x, self.weight, reverse=self.reverse, groups=self.groups)
            return y if self.bias is None else y + self._constant(x)
        flips = self._check(x)
        if self._turned is None:
            self._turned = turn(self.weight, flips)
        padded = pad_behind(x, self.weight.shape[2:], flips)
        return (conv1d, conv2d, conv3d)[x.ndim - 3](padded, self._turned, self.bias, groups=self.groups)

    def inverse(self, y: Tensor) -> Tensor:
        """Map back."""
        right = y if self.bias is None else y - self._constant(y)
        if self._records(y):
            return causal_solve(right, self.weight, reverse=self.reverse, groups=self.groups)
        flips = self._check(y)
        if self._taps is None:
            self._taps = divide_by_corner(self.weight, self.groups)
        return substituted(right, self._taps, flips)

    def _records(self, x: Tensor) -> bool:
        autocast = torch.is_autocast_enabled(x.device.type)
        return torch.is_grad_enabled() or autocast or not is_eager(x, self.weight)

    def _constant(self, x: Tensor) -> Tensor:
        assert self.bias is not None
        return self.bias.view(-1, *(1,) * (x.ndim - 2))

    def _check(self, x: Tensor) -> list[int]:
        key = x.dtype, x.shape[1:]
        if key not in self._flips:
            self._flips[key] = checked_flips(x, self.weight, self.reverse, self.groups)
        return self._flips[key]
