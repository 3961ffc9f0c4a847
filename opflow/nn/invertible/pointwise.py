"""Invertible convolution over one point."""

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from opflow.kernels import causal_conv
from opflow.kernels.causal_convolve import rounds_convolutions
from opflow.nn.invertible.actnorm import ActNorm
from opflow.nn.invertible.bijection import Bijection, space_size
from opflow.nn.invertible.matrices import PLU
from opflow.nn.invertible.remembered import Remembered, weights_of


class PointwiseConv(Bijection):
    r"""Multiply the channels of each point by an invertible matrix, :math:`z = A x`.

    The log-determinant is :math:`HW \log |\det A|`.

    Args:
        channels: channels of the input.
        actnorm: an `ActNorm` follows, in the same convolution.

    Source: Kingma and Dhariwal, Glow, 2018, section 3.2.

    Example:
        >>> import torch
        >>> conv, x = PointwiseConv(6), torch.randn(2, 6, 4, 5)
        >>> z, logdet = conv(x)
        >>> torch.allclose(conv.inverse(z)[0], x, atol=1e-5)
        True
    """

    def __init__(self, channels: int, actnorm: bool = False):
        super().__init__()
        self.matrix = PLU(channels)
        self.norm = ActNorm(channels) if actnorm else None
        self._kernel, self._inverse_kernel = Remembered(), Remembered()

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiply each point."""
        if self.norm is not None and self.norm.wants_batch:
            matrix = Remembered()(self.matrix, *weights_of(self))
            self.norm.fit(_multiply(x, matrix[0, ..., None, None]))
        weight, shift, log = self._kernel(self._assemble, *weights_of(self))
        return _multiply(x, weight, shift), (space_size(x) * log).expand(len(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiply each point by the inverse."""
        weight, shift, log = self._inverse_kernel(self._assemble_inverse, *weights_of(self))
        return _multiply(z, weight, shift), (-space_size(z) * log).expand(len(z))

    def _assemble(self) -> tuple[Tensor, Tensor | None, Tensor]:
        matrix, log, shift = self.matrix()[0], self.matrix.log_abs_det(), None
        if self.norm is not None:
            log_scale, shift = self.norm.log_scale, self.norm.shift
            matrix, log = log_scale.exp()[:, None] * matrix, log + log_scale.sum()
        return matrix[..., None, None], shift, log

    def _assemble_inverse(self) -> tuple[Tensor, Tensor | None, Tensor]:
        matrix, log, shift = self.matrix.inverse()[0], self.matrix.log_abs_det(), None
        if self.norm is not None:
            log_scale = self.norm.log_scale
            matrix, log = matrix * (-log_scale).exp(), log + log_scale.sum()
            shift = -(matrix @ self.norm.shift)
        return matrix[..., None, None], shift, log


def _multiply(x: Tensor, weight: Tensor, shift: Tensor | None = None) -> Tensor:
    """Multiply each point, in the precision of the weight wherever: it is to be undone."""
    x = x.to(weight.dtype)
    with torch.autocast(x.device.type, enabled=False):
        if not rounds_convolutions(x):
            return conv2d(x, weight, shift)
        z = causal_conv(x, weight)  # by products of matrices there
        return z if shift is None else z + shift[:, None, None]
