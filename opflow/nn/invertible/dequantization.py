"""From integers to real numbers, so that a density can be a bound on probabilities."""

import abc
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from opflow.nn.invertible.bijection import Bijection, Chain
from opflow.nn.invertible.coupling import AffineCoupling
from opflow.nn.invertible.pointwise import PointwiseConv
from opflow.nn.invertible.squeeze import Squeeze


class Dequantization(nn.Module, abc.ABC):
    r"""Noise u in [0, 1) for integers v, and the logarithm of its density q(u | v).

    With a density p of :math:`(v + u) / Q`, the mean of :math:`\log p - \log q - D \log Q` is a lower bound
    of the log-probability of the integers.
    """

    @abc.abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map images of bin centres in [0, 1], `(batch, channel, row, column)`, to u and `log q (batch,)`."""


class UniformDequantization(Dequantization):
    """Uniform noise, whose density is one.

    Source: Uria, Murray and Larochelle, RNADE, 2013.

    Example:
        >>> u, log_q = UniformDequantization()(torch.rand(2, 1, 4, 4))
        >>> bool((0 <= u).all() and (u < 1).all()), log_q.tolist()
        (True, [0.0, 0.0])
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the noise."""
        return torch.rand_like(x), x.new_zeros(len(x))


class VariationalDequantization(Dequantization):
    r"""Noise from a small flow conditioned on the image, :math:`u = \sigma(f(\varepsilon; x))`.

    Args:
        shape: `(channels, rows, columns)` of the images, sides even.
        hidden_channels: width of the networks.
        steps: coupling layers.

    Raises:
        ValueError: a side is odd.

    Source: Ho, Chen, Srinivas, Duan and Abbeel, Flow++, 2019, section 3.1.

    Example:
        >>> dequantize = VariationalDequantization((1, 4, 4), hidden_channels=8, steps=2)
        >>> u, log_q = dequantize(torch.rand(3, 1, 4, 4))
        >>> u.shape, log_q.shape
        (torch.Size([3, 1, 4, 4]), torch.Size([3]))
    """

    def __init__(self, shape: Sequence[int], hidden_channels: int = 32, steps: int = 4):
        super().__init__()
        c, h, w = shape
        if h % 2 or w % 2:
            raise ValueError(
                f"variational dequantisation squeezes the image, so both sides should be even, got {(h, w)}: "
                "pad or crop, or take uniform noise"
            )
        self.squeeze = Squeeze()
        condition = (4 * c, h // 2, w // 2)
        layers: list[Bijection] = []
        for _ in range(steps):
            layers += [PointwiseConv(4 * c), AffineCoupling(4 * c, hidden_channels, condition)]
        self.flow = Chain(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Draw the noise."""
        cond, _ = self.squeeze(2 * x - 1)
        noise = torch.randn_like(cond)
        raw, logdet = self.flow(noise, cond)
        log_q = -0.5 * (noise.square() + torch.log(noise.new_tensor(2 * torch.pi))).flatten(1).sum(1) - logdet
        log_q = log_q + (softplus(raw) + softplus(-raw)).flatten(1).sum(1)
        u, _ = self.squeeze.inverse(raw.sigmoid())
        return u, log_q
