"""Invertible convolution over one point."""

from torch import Tensor
from torch.nn.functional import conv2d

from opflow.nn.invertible.actnorm import ActNorm
from opflow.nn.invertible.bijection import Bijection, space_size
from opflow.nn.invertible.matrices import PLU


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

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiply each point."""
        matrix, log, shift = self.matrix()[0], self.matrix.log_abs_det(), None
        if self.norm is not None:
            if self.norm.wants_batch:
                self.norm.fit(conv2d(x, matrix[..., None, None]))
            log_scale, shift = self.norm.log_scale, self.norm.shift
            matrix, log = log_scale.exp()[:, None] * matrix, log + log_scale.sum()
        return conv2d(x, matrix[..., None, None], shift), (space_size(x) * log).expand(len(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Multiply each point by the inverse."""
        matrix, log, shift = self.matrix.inverse()[0], self.matrix.log_abs_det(), None
        if self.norm is not None:
            log_scale = self.norm.log_scale
            matrix, log = matrix * (-log_scale).exp(), log + log_scale.sum()
            shift = -(matrix @ self.norm.shift)
        return conv2d(z, matrix[..., None, None], shift), (-space_size(z) * log).expand(len(z))
