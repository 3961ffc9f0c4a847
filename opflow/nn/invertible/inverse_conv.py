"""The layer of Inverse-Flow: encoding solves, so that sampling only convolves."""

from torch import Tensor

from opflow.kernels.causal_map import CausalMap
from opflow.nn.invertible.bijection import space_size
from opflow.nn.invertible.causal_layer import CausalLayer


class InverseConv(CausalLayer):
    r"""The inverse of a causal k x k convolution: decoding convolves, encoding solves.

    With the corner A the log-determinant of encoding is :math:`-HW \log |\det A|`.

    Args:
        channels: channels of the input.
        kernel_size: points of the kernel per axis, no more than the grid has.
        corner: "plu", any invertible matrix, "triangular" or "unit" (log-determinant zero).
        reverse: per axis, look ahead instead of back.
        gain_bound: keep the solve bounded in training, see `CausalWeight`; None leaves the weight free.
        actnorm: an `ActNorm` comes before, in the same convolution.

    Raises:
        ValueError: an argument out of range.

    Source: Nagar and Varma, Inverse-Flow, 2025. Gradients are exact here: those of a solve are a solve with
    the transposed weight and the gradient of an ordinary convolution.

    Example:
        >>> import torch
        >>> conv, x = InverseConv(3), torch.randn(2, 3, 5, 8)
        >>> z, logdet = conv(x)
        >>> torch.allclose(conv.inverse(z)[0], x, atol=1e-5)
        True
    """

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Solve."""
        if self.norm is not None and self.norm.wants_batch:
            self.norm.fit(x)
        causal, log = self._map()
        return causal.inverse(x), (-space_size(x) * log).expand(len(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Convolve."""
        causal, log = self._map()
        return causal.forward(z), (space_size(z) * log).expand(len(z))

    def _assemble(self) -> tuple[CausalMap, Tensor]:
        weight, shift, log = self.weight(), None, self.weight.corner.log_abs_det()
        if self.norm is not None:
            log_scale = self.norm.log_scale
            back = (-log_scale).exp()
            weight, shift = back[:, None, None, None] * weight, -back * self.norm.shift
            log = log - log_scale.sum()
        return CausalMap(weight, shift, reverse=self.reverse), log
