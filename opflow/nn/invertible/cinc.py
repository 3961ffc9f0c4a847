"""The layer of CInC Flow: a convolution over the past of each point."""

from torch import Tensor

from opflow.kernels import causal_conv
from opflow.kernels.causal_map import CausalMap
from opflow.nn.invertible.bijection import space_size
from opflow.nn.invertible.causal_layer import CausalLayer


class CInCConv(CausalLayer):
    r"""Invertible k x k convolution, padded on one side of each axis; all channels mix.

    Encoding convolves, decoding solves. With the corner A, the tap of the point itself, the matrix of the
    convolution is block triangular, hence :math:`\log |\det| = HW \log |\det A|`. With corner "plu" the layer
    does the work of Glow's 1x1 convolution too.

    Args:
        channels: channels of the input.
        kernel_size: points of the kernel per axis, no more than the grid has.
        corner: "plu", any invertible matrix, or "triangular".
        reverse: per axis, look ahead instead of back.
        gain_bound: keep the inverse bounded in training, see `CausalWeight`; None leaves the weight free.
        actnorm: an `ActNorm` follows, in the same convolution.

    Raises:
        ValueError: an argument out of range.

    Source: Nagar, Dufraisse and Varma, CInC Flow, 2021.

    Example:
        >>> import torch
        >>> conv, x = CInCConv(3), torch.randn(2, 3, 5, 8)
        >>> z, logdet = conv(x)
        >>> torch.allclose(conv.inverse(z)[0], x, atol=1e-5)
        True
    """

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Convolve."""
        if self.norm is not None and self.norm.wants_batch:
            self.norm.fit(causal_conv(x, self.weight(), reverse=self.reverse))
        causal, log = self._map()
        return causal.forward(x), (space_size(x) * log).expand(len(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Solve."""
        causal, log = self._map()
        return causal.inverse(z), (-space_size(z) * log).expand(len(z))

    def _assemble(self) -> tuple[CausalMap, Tensor]:
        weight, shift, log = self.weight(), None, self.weight.corner.log_abs_det()
        if self.norm is not None:
            log_scale, shift = self.norm.log_scale, self.norm.shift
            weight, log = log_scale.exp()[:, None, None, None] * weight, log + log_scale.sum()
        return CausalMap(weight, shift, reverse=self.reverse), log
