"""Normal distributions predicted by the rest of a field or a condition, as bijections onto standard ones."""

import torch
from torch import Tensor, nn

from opflow.nn.convolution import Convolution
from opflow.nn.invertible.bijection import Bijection, soft_bound, space_size
from opflow.nn.invertible.conditioning import Condition, Conditioner
from opflow.nn.invertible.coupling import require_channels

_LIMIT = 4.0  # of the log-scale


class SplitPrior(Bijection):
    r"""Standardise the second half of the channels by mean and deviation predicted from the first.

    :math:`z_2 = (x_2 - \mu(x_1)) e^{-s(x_1)}`; the half can then leave the flow as standard normal noise. The
    identity at the start.

    Args:
        channels: channels of the input, at least 2; the first half, rounded up, stays as it is.
        condition: what conditions the prediction too, see `Conditioner`.
        circular: continue fields periodically.

    Raises:
        ValueError: fewer than two channels.

    Source: Kingma and Dhariwal, Glow, 2018; Dinh, Sohl-Dickstein and Bengio, Real NVP, 2017, section 3.6.

    Example:
        >>> prior, x = SplitPrior(4), torch.randn(2, 4, 3, 3)
        >>> z, logdet = prior(x)
        >>> torch.allclose(z, x), logdet.abs().tolist()
        (True, [0.0, 0.0])
    """

    def __init__(self, channels: int, condition: Condition = None, circular: bool = False):
        super().__init__()
        require_channels(channels, 2, "SplitPrior")
        self.sizes = (channels - channels // 2, channels // 2)
        self.predict = Convolution(self.sizes[0], 2 * self.sizes[1], n_dim=2, circular=circular)
        nn.init.zeros_(self.predict.weight)
        nn.init.zeros_(self.predict.bias)
        self.condition = None if condition is None else Conditioner(condition, 2 * self.sizes[1], circular)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Standardise the second half."""
        x1, x2 = x.split(self.sizes, 1)
        mean, log_scale = self._predict(x1, cond)
        return torch.cat([x1, (x2 - mean) * (-log_scale).exp()], 1), -log_scale.sum((1, 2, 3))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the second half to its mean and deviation."""
        z1, z2 = z.split(self.sizes, 1)
        mean, log_scale = self._predict(z1, cond)
        return torch.cat([z1, torch.addcmul(mean, z2, log_scale.exp())], 1), log_scale.sum((1, 2, 3))

    def _predict(self, kept: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        predicted = self.predict(kept)
        if self.condition is not None:
            predicted = predicted + self.condition(cond)
        mean, raw = predicted.to(kept.dtype).chunk(2, 1)
        return mean, soft_bound(raw, _LIMIT)


class TopPrior(Bijection):
    """Standardise all channels by a learned mean and deviation, which a condition may move.

    Args:
        channels: channels of the input.
        condition: what conditions them, see `Conditioner`.
        circular: continue fields periodically.

    Source: Kingma and Dhariwal, Glow, 2018 (the learned top prior of their code).

    Example:
        >>> prior = TopPrior(4, condition=10)
        >>> prior(torch.randn(2, 4, 3, 3), torch.tensor([0, 9]))[1].shape
        torch.Size([2])
    """

    def __init__(self, channels: int, condition: Condition = None, circular: bool = False):
        super().__init__()
        self.moments = nn.Parameter(torch.zeros(2 * channels))
        self.condition = None if condition is None else Conditioner(condition, 2 * channels, circular)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Standardise."""
        mean, log_scale, total = self._moments(x, cond)
        return (x - mean) * (-log_scale).exp(), -total

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return to mean and deviation."""
        mean, log_scale, total = self._moments(z, cond)
        return torch.addcmul(mean, z, log_scale.exp()), total

    def _moments(self, x: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        moments = self.moments[:, None, None]
        if self.condition is not None:
            moments = moments + self.condition(cond)
        mean, raw = moments.chunk(2, -3)
        log_scale = soft_bound(raw, _LIMIT)
        # Of one point, of one per sample, or of each point.
        total = log_scale.sum((-3, -2, -1)) * (space_size(x) // log_scale.shape[-2:].numel())
        return mean, log_scale, total.expand(len(x))
