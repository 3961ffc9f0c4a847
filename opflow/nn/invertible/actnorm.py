"""Per-channel scale and shift that the first batch sets."""

import torch
from torch import Tensor, distributed, nn

from opflow.nn.invertible.bijection import Bijection, soft_bound, space_size

_LIMIT = 6.0  # no channel is scaled by more than exp(6) = 400


class ActNorm(Bijection):
    r"""Scale and shift per channel, :math:`z_c = e^{s_c} x_c + t_c`, so that the first batch has mean 0 and
    deviation 1.

    The first batch in training mode sets both; afterwards they are ordinary parameters. Whether that has
    happened is a buffer: it is saved and loaded with them. In evaluation mode nothing is ever set. Where
    training is distributed, all processes see their first batch together. The log-determinant is
    :math:`HW \sum_c s_c`.

    Args:
        channels: channels of the input.

    Source: Kingma and Dhariwal, Glow, 2018, section 3.1.

    Example:
        >>> norm, x = ActNorm(3), 5 + 2 * torch.randn(8, 3, 4, 4)
        >>> z, logdet = norm(x)
        >>> bool((z.mean((0, 2, 3)).abs() < 1e-4).all()), bool((z.std((0, 2, 3)) - 1 < 1e-2).all())
        (True, True)
    """

    fitted: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.raw_log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("fitted", torch.tensor(False))

    @property
    def log_scale(self) -> Tensor:
        """Logarithm of the scale of each channel, bounded."""
        return soft_bound(self.raw_log_scale, _LIMIT)

    @property
    def wants_batch(self) -> bool:
        """Whether the next batch is to set scale and shift."""
        return self.training and not bool(self.fitted)

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set scale and shift so that `(batch, channel, *space)` gets mean 0 and deviation 1 per channel.

        The batch is that of all processes together where training is distributed. One that is empty or not
        finite sets nothing.
        """
        points = _sum_over_processes(x.new_full((1,), len(x) * space_size(x)))
        axes, shape = (0, *range(2, x.ndim)), (-1, *(1,) * (x.ndim - 2))
        mean = _sum_over_processes(x.sum(axes)) / points
        variance = _sum_over_processes((x - mean.view(shape)).square().sum(axes)) / points
        # Data that are refused later, and empty batches, must leave no trace.
        if not bool(torch.isfinite(variance).all()):
            return
        # A channel that is constant keeps its scale.
        log_scale = torch.where(variance > 1e-12, -0.5 * variance.clamp_min(1e-12).log(), 0.0)
        wanted = log_scale.clamp(-0.9 * _LIMIT, 0.9 * _LIMIT)
        self.raw_log_scale.copy_(_LIMIT * torch.atanh(wanted / _LIMIT))
        self.shift.copy_(-mean * wanted.exp())
        self.fitted.fill_(True)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scale, then shift."""
        if self.wants_batch:
            self.fit(x)
        log_scale = self.log_scale
        shape = (-1, *(1,) * (x.ndim - 2))
        z = x * log_scale.exp().view(shape) + self.shift.view(shape)
        return z, (space_size(x) * log_scale.sum()).expand(len(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Shift back, then scale back."""
        log_scale = self.log_scale
        shape = (-1, *(1,) * (z.ndim - 2))
        x = (z - self.shift.view(shape)) * (-log_scale).exp().view(shape)
        return x, (-space_size(z) * log_scale.sum()).expand(len(z))


def _sum_over_processes(x: Tensor) -> Tensor:
    """Add up in place what each process has: all must hold the same parameters."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(x)
    return x
