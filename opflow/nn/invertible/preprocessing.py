"""Fixed maps between data and the space in which a flow works, with exact Jacobians."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from opflow.kernels.backend import is_eager
from opflow.nn.invertible.bijection import Bijection
from opflow.nn.moments import Moments


class Rescale(Bijection):
    r"""From the interval [0, 1] to an interval around zero: :math:`y = (x - 1/2)\,\mathrm{factor}`.

    Args:
        factor: length of the new interval.

    Example:
        >>> Rescale(4.0)(torch.tensor([[[[0.0, 1.0]]]]))[0].flatten().tolist()
        [-2.0, 2.0]
    """

    def __init__(self, factor: float = 4.0):
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Centre and stretch."""
        return (x - 0.5) * self.factor, x.new_full((len(x),), _size(x) * math.log(self.factor))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Shrink and move back."""
        return z / self.factor + 0.5, z.new_full((len(z),), -_size(z) * math.log(self.factor))


class Logit(Bijection):
    r"""From the interval [0, 1] to the line: :math:`y = \mathrm{logit}(\alpha + (1 - 2\alpha) x)`.

    What is decoded lies between :math:`-\alpha / (1 - 2\alpha)` and 1 plus that. Near the ends neighbouring
    numbers of float32 are far apart in y: round trips through x are as exact as :math:`\alpha` is large.

    Args:
        alpha: distance that is kept from both ends, between 0 and 1/2.

    Raises:
        ValueError: alpha out of range; `forward` gets data outside of the interval.

    Source: Dinh, Sohl-Dickstein and Bengio, Real NVP, 2017, section 4.1.

    Example:
        >>> logit, x = Logit(), torch.rand(2, 1, 4, 4)
        >>> y, logdet = logit(x)
        >>> torch.allclose(logit.inverse(y)[0], x, atol=1e-5)
        True
    """

    def __init__(self, alpha: float = 0.05):
        super().__init__()
        if not 0 < alpha < 0.5:
            raise ValueError(f"alpha must lie between 0 and 0.5, got {alpha}")
        self.alpha = alpha

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Shrink into the interval, then take the logit."""
        p = (self.alpha + (1 - 2 * self.alpha) * x).detach()
        eps = torch.finfo(x.dtype).eps
        if is_eager(x) and x.numel() and not (-eps <= float(p.min()) and float(p.max()) <= 1 + eps):
            raise ValueError(
                f"the logit of data between {float(x.min()):.4g} and {float(x.max()):.4g} does not exist: "
                "scale images to [0, 1], integers through bits_per_dim"
            )
        # What a saturated sigmoid decodes to still has a place.
        p = (self.alpha + (1 - 2 * self.alpha) * x).clamp(eps, 1 - eps)
        y = p.log() - torch.log1p(-p)
        return y, self._log_slope(y)

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Take the sigmoid, then stretch."""
        return (z.sigmoid() - self.alpha) / (1 - 2 * self.alpha), -self._log_slope(z)

    def _log_slope(self, y: Tensor) -> Tensor:
        # softplus(y) + softplus(-y), of which one is the other but for y
        slope = 2 * softplus(y) - y
        return slope.flatten(1).sum(1) + _size(y) * math.log(1 - 2 * self.alpha)


class Standardize(Bijection):
    """Mean 0 and deviation 1 per channel, by statistics that are fitted once and saved.

    The identity before.

    Args:
        channels: channels of the field.

    Example:
        >>> scale, x = Standardize(1), torch.tensor([[[[1.0, 5.0]]]])
        >>> scale.fit([x])
        >>> scale(x)[0].flatten().tolist()
        [-1.0, 1.0]
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Take the statistics of fields `(sample, channel, row, column)` in batches.

        Raises:
            ValueError: the fields hold values that are not finite, or a channel is constant.
        """
        moments = Moments()
        for fields in batches:
            moments.add(fields)
        mean, std = moments.mean, moments.std
        if not torch.isfinite(std).all():
            raise ValueError("the fields hold values that are not finite; remove them before fitting")
        if (std == 0).any():
            constant = (std == 0).nonzero().flatten().tolist()
            raise ValueError(
                f"channels {constant} are constant, and a constant has no density: leave them out"
            )
        self.mean.copy_(mean[:, None, None])
        self.std.copy_(std[:, None, None])

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Standardise."""
        return (x - self.mean) / self.std, -self._log_std(x)

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return to the units of the data."""
        return z * self.std + self.mean, self._log_std(z)

    def _log_std(self, x: Tensor) -> Tensor:
        return (x.shape[-2:].numel() * self.std.log().sum()).expand(len(x))


def _size(x: Tensor) -> int:
    """Return the number of values of each sample."""
    return x.shape[1:].numel()
