"""Differential convolution: a learned differential operator, the same on every grid."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv2d, conv3d

from opflow.nn.axes import extend, intervals, per_axis, periodic_axes

CONVOLUTIONS = {1: conv1d, 2: conv2d, 3: conv3d}


class DifferentialConv(nn.Module):
    r"""Apply a learned linear differential operator by finite differences.

    .. math:: (D u)_o = \sum_i \sum_{1 \le |\alpha| \le q} c_{oi\alpha}\, \ell^\alpha \partial^\alpha u_i

    Each derivative, mixed ones among them, has the central stencil of `kernel_size` points per axis, divided
    by the spacing of *its* axes; the stencils add up to one convolution kernel, whose taps sum to zero.
    Freely learned taps over one spacing, as published, tend to a first-order operator that turns with the
    aspect ratio of the cells. These weights mean the same derivatives on every grid and converge for all of
    them: for :math:`\partial^m` with k points at the order :math:`k - 1 - 2 \lfloor (m-1)/2 \rfloor`, hence
    2 for first and second derivatives with three points, 4 with five.

    Bounded axes are continued beyond their ends by the polynomial through the outermost points, of degree
    k - 1, or k when there are even derivatives, which keeps the order up to the boundary.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        n_dim: number of space dimensions, 1 to 3.
        kernel_size: points per axis, odd.
        order: the highest total order q of the derivatives, below `kernel_size`.
        domain_length: size of the box, one number or one per axis.
        periodic: whether an axis is periodic, one answer or one per axis. Points of a bounded axis include
            both ends.
        length_scale: the length :math:`\ell` that makes the weights dimensionless, one number or one per
            axis; fields that vary over it have derivatives of size one.
        groups: groups of channels that do not see each other, as in `torch.nn.Conv2d`.

    Shapes:
        `(batch, in_channels, *space)` to `(batch, out_channels, *space)`, float32 or float64.

    Raises:
        ValueError: an argument does not fit, or a grid has fewer points than the kernel.

    Source: Liu-Schiaffini et al., Neural Operators with Localized Integral and Differential Kernels, 2024,
    section 4.1, for the idea; the parametrisation by derivatives is ours.

    Example:
        >>> import torch
        >>> layer = DifferentialConv(1, 1, n_dim=1, order=1, domain_length=1.0, periodic=False)
        >>> _ = torch.nn.init.ones_(layer.weight)
        >>> x = torch.linspace(0, 1, 5).view(1, 1, 5)
        >>> layer(x**2).squeeze().tolist()
        [0.0, 0.5, 1.0, 1.5, 2.0]
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        n_dim: int = 2,
        kernel_size: int = 3,
        order: int = 2,
        domain_length: float | Sequence[float] = 1.0,
        periodic: bool | Sequence[bool] = True,
        length_scale: float | Sequence[float] = 1.0,
        groups: int = 1,
    ):
        super().__init__()
        if n_dim not in CONVOLUTIONS:
            raise ValueError(f"n_dim={n_dim} is not one of 1, 2, 3")
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd and at least 3, such as 3 or 5")
        if not 1 <= order < kernel_size:
            raise ValueError(
                f"order={order} must be at least 1 and below kernel_size={kernel_size}: "
                "higher derivatives take more points"
            )
        require_groups(groups, in_channels, out_channels)
        self.kernel_size, self.order, self.groups = kernel_size, order, groups
        self.domain_length = per_axis("domain_length", domain_length, n_dim)
        self.length_scale = per_axis("length_scale", length_scale, n_dim)
        self.periodic = periodic_axes(periodic, n_dim)
        self.derivatives = derivatives(n_dim, order)
        self._stencils = [_stencil(alpha, kernel_size).tolist() for alpha in self.derivatives]
        fan_in = in_channels // groups * len(self.derivatives)
        shape = (out_channels, in_channels // groups, len(self.derivatives))
        self.weight = nn.Parameter(torch.randn(shape) / math.sqrt(fan_in))

    def kernel(self, grid: Sequence[int]) -> Tensor:
        """Return the taps on a grid, `(out_channels, in_channels / groups, *(kernel_size,) * n_dim)`."""
        weight = self.weight
        stencils = torch.tensor(self._stencils, dtype=weight.dtype, device=weight.device)
        scale = 1.0
        for axis, m in enumerate(intervals(grid, self.periodic)):
            # An integer tensor first: exported graphs hold no real numbers that depend on the grid.
            inverse = torch.full((), m, device=weight.device).to(weight.dtype)
            inverse = inverse * (self.length_scale[axis] / self.domain_length[axis])
            scale = scale * torch.stack([inverse ** alpha[axis] for alpha in self.derivatives])
        taps = (weight * scale) @ stencils.flatten(1)
        return taps.unflatten(-1, stencils.shape[1:])

    def forward(self, x: Tensor) -> Tensor:
        """Apply the operator on the grid of `x`."""
        n_dim = len(self.periodic)
        kernel = self.kernel(x.shape[2:])
        x = x.movedim(1, -1)  # so that the padded field is channels-last in memory too
        degree = self.kernel_size - (self.order == 1)
        for axis, wraps in enumerate(self.periodic, start=1):
            x = extend(x, axis, self.kernel_size // 2, wraps, degree)
        return CONVOLUTIONS[n_dim](x.movedim(-1, 1), kernel, groups=self.groups)


def require_groups(groups: int, in_channels: int, out_channels: int) -> None:
    """Raise ValueError when the channels do not divide into the groups."""
    if groups < 1 or in_channels % groups or out_channels % groups:
        raise ValueError(
            f"groups={groups} must divide in_channels={in_channels} and out_channels={out_channels}"
        )


def derivatives(n_dim: int, order: int) -> list[tuple[int, ...]]:
    """Return the multi-indices of the derivatives up to an order, lowest first.

    Example:
        >>> derivatives(2, 2)
        [(1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]
    """
    indices = itertools.product(range(order + 1), repeat=n_dim)
    kept = [alpha for alpha in indices if 1 <= sum(alpha) <= order]
    return sorted(kept, key=lambda alpha: (sum(alpha), [-a for a in alpha]))


def _stencil(alpha: Sequence[int], size: int) -> np.ndarray:
    """Taps, on points one apart, of the central difference that is exact for monomials below `size`."""
    points = np.arange(size) - size // 2
    powers = points[None] ** np.arange(size)[:, None]
    taps = np.ones(())
    for order in alpha:
        moments = np.zeros(size)
        moments[order] = math.factorial(order)
        taps = np.multiply.outer(taps, np.linalg.solve(powers.astype(float), moments))
    return taps
