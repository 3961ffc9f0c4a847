"""Coupling layers whose maps are monotone splines."""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad, softplus

from opflow.nn.invertible.bijection import Bijection
from opflow.nn.invertible.conditioning import Condition
from opflow.nn.invertible.coupling import require_channels
from opflow.nn.invertible.coupling_net import CouplingNet

_LEAST_SHARE, _LEAST_SLOPE = 0.01, 0.01  # of a bin, and of a knot: what float32 can invert


class SplineCoupling(Bijection):
    """Map half of the channels by monotone splines that a network makes of the other half.

    Between -limit and limit each value goes through its own rational-quadratic spline, outside it stays as it
    is. The identity at the start.

    Args:
        channels: channels of the input, at least 2; the first half, rounded up, stays as it is.
        hidden_channels: width of the network.
        bins: pieces of a spline.
        limit: where the splines end.
        condition: what conditions the network, see `Conditioner`.
        circular: the network continues fields periodically.

    Raises:
        ValueError: fewer than two channels, or a number of bins out of range.

    Source: Durkan, Bekasov, Murray and Papamakarios, Neural Spline Flows, 2019.

    Example:
        >>> layer, x = SplineCoupling(4, hidden_channels=8), torch.randn(2, 4, 3, 3)
        >>> _ = layer.net.last.weight.data.normal_(std=0.3)
        >>> z, logdet = layer(x)
        >>> torch.allclose(layer.inverse(z)[0], x, atol=1e-4)
        True
    """

    def __init__(
        self,
        channels: int,
        hidden_channels: int,
        bins: int = 8,
        limit: float = 4.0,
        condition: Condition = None,
        circular: bool = False,
    ):
        super().__init__()
        require_channels(channels, 2, "SplineCoupling")
        most = int(0.5 / _LEAST_SHARE)
        if not 2 <= bins <= most:
            raise ValueError(f"bins, the pieces of a spline, must lie between 2 and {most}, got {bins}")
        self.sizes, self.bins, self.limit = (channels - channels // 2, channels // 2), bins, limit
        outputs = self.sizes[1] * (3 * bins - 1)
        self.net = CouplingNet(self.sizes[0], outputs, hidden_channels, condition, circular)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the splines to the second half."""
        x1, x2 = x.split(self.sizes, 1)
        z2, log_slope = rational_quadratic(x2, *self._knots(x1, cond))
        return torch.cat([x1, z2], 1), log_slope.sum((1, 2, 3))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the inverse splines to the second half."""
        z1, z2 = z.split(self.sizes, 1)
        x2, log_slope = rational_quadratic_inverse(z2, *self._knots(z1, cond))
        return torch.cat([z1, x2], 1), log_slope.sum((1, 2, 3))

    def _knots(self, x: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        raw = self.net(x, cond).unflatten(1, (self.sizes[1], -1)).movedim(2, -1)
        widths, heights, slopes = raw.split((self.bins, self.bins, self.bins - 1), -1)
        # Slope one at the ends and, with parameters zero, at all knots.
        slopes = _LEAST_SLOPE + softplus(slopes + math.log(math.expm1(1 - _LEAST_SLOPE)))
        return self._places(widths), self._places(heights), pad(slopes, (1, 1), value=1.0)

    def _places(self, raw: Tensor) -> Tensor:
        share = _LEAST_SHARE + (1 - _LEAST_SHARE * self.bins) * raw.softmax(-1)
        inner = 2 * self.limit * share[..., :-1].cumsum(-1) - self.limit
        return torch.cat(
            [torch.full_like(raw[..., :1], -self.limit), inner, torch.full_like(raw[..., :1], self.limit)], -1
        )


def rational_quadratic(x: Tensor, places: Tensor, values: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    r"""Evaluate monotone rational-quadratic splines and the logarithm of their derivative.

    Args:
        x: any shape; beyond the outer knots the splines are the identity.
        places: increasing x of the knots, `(*x.shape, knots)`.
        values: increasing values at the knots.
        slopes: positive derivatives there, one at the outer ones.

    Source: Gregory and Delbourgo, 1982; Durkan et al., 2019, equations 4 and 5.

    Example:
        >>> knots = torch.tensor([-1.0, 0.0, 1.0])
        >>> slopes = torch.tensor([1.0, 2.0, 1.0])
        >>> value, log_slope = rational_quadratic(torch.tensor(0.0), knots, knots, slopes)
        >>> float(value), round(float(log_slope.exp()), 4)
        (0.0, 2.0)
    """
    x0, width, y0, height, d0, d1, inside = _bin(x, places, places, values, slopes)
    t = torch.where(inside, (x - x0) / width, 0.5)
    mean = height / width
    mixed = t * (1 - t)
    denominator = mean + (d0 + d1 - 2 * mean) * mixed
    y = y0 + height * (mean * t.square() + d0 * mixed) / denominator
    return torch.where(inside, y, x), torch.where(inside, _log_slope(t, mean, d0, d1, denominator), 0.0)


def rational_quadratic_inverse(
    y: Tensor, places: Tensor, values: Tensor, slopes: Tensor
) -> tuple[Tensor, Tensor]:
    """Solve `rational_quadratic` for x; also the logarithm of the derivative of the inverse.

    Source: Durkan et al., 2019, equations 6 to 8, in the form of the root that does not cancel.

    Example:
        >>> x = torch.linspace(-2, 2, 9)
        >>> knots = torch.tensor([-1.0, 0.2, 1.0]).expand(9, 3), torch.tensor([-1.0, -0.3, 1.0]).expand(9, 3)
        >>> slopes = torch.tensor([1.0, 0.5, 1.0]).expand(9, 3)
        >>> y, a = rational_quadratic(x, *knots, slopes)
        >>> back, b = rational_quadratic_inverse(y, *knots, slopes)
        >>> torch.allclose(back, x, atol=1e-5), torch.allclose(a + b, torch.zeros(9), atol=1e-5)
        (True, True)
    """
    x0, width, y0, height, d0, d1, inside = _bin(y, values, places, values, slopes)
    mean = height / width
    rest = torch.where(inside, y - y0, 0.5 * height)
    bend = rest * (d0 + d1 - 2 * mean)
    a, b, c = height * (mean - d0) + bend, height * d0 - bend, -mean * rest
    t = 2 * c / (-b - (b.square() - 4 * a * c).clamp_min(0).sqrt())
    denominator = mean + (d0 + d1 - 2 * mean) * t * (1 - t)
    log_slope = -_log_slope(t, mean, d0, d1, denominator)
    return torch.where(inside, x0 + t * width, y), torch.where(inside, log_slope, 0.0)


def _log_slope(t: Tensor, mean: Tensor, d0: Tensor, d1: Tensor, denominator: Tensor) -> Tensor:
    numerator = d1 * t.square() + 2 * mean * t * (1 - t) + d0 * (1 - t).square()
    return 2 * mean.log() + numerator.log() - 2 * denominator.log()


def _bin(at: Tensor, axis: Tensor, places: Tensor, values: Tensor, slopes: Tensor) -> tuple[Tensor, ...]:
    """Return start and size in x and y, and both slopes, of the bin of each point; whether there is one."""
    axis, places, values, slopes = (t.expand(*at.shape, t.shape[-1]) for t in (axis, places, values, slopes))
    inside = (at > axis[..., 0]) & (at < axis[..., -1])
    index = (at[..., None] >= axis[..., 1:-1]).sum(-1, keepdim=True)
    x0, x1 = (places.gather(-1, index + i)[..., 0] for i in (0, 1))
    y0, y1 = (values.gather(-1, index + i)[..., 0] for i in (0, 1))
    d0, d1 = (slopes.gather(-1, index + i)[..., 0] for i in (0, 1))
    return x0, x1 - x0, y0, y1 - y0, d0, d1, inside
