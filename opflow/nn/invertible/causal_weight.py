"""Weights of causal convolutions that are invertible, and stay so in training."""

import torch
from torch import Tensor, nn

from opflow.kernels import causal_solve
from opflow.nn.invertible.matrices import CORNERS

Reverse = tuple[bool, bool]
"""Per space axis, whether the convolution looks ahead instead of back."""

ORIENTATIONS: tuple[Reverse, ...] = ((False, False), (False, True), (True, False), (True, True))
"""The four causal orders of a plane: padded at the top left, top right, bottom left, bottom right."""


class CausalWeight(nn.Module):
    r"""The weight :math:`W = A\,[N, I]` of a causal convolution: an invertible corner, times relative taps.

    Stored relative to the corner, the taps :math:`N_j = A^{-1} W_j` alone decide how the inverse grows: with
    :math:`\kappa = \sum_j \lVert N_j \rVert_2 < 1` the inverse is bounded by
    :math:`\lVert A^{-1} \rVert / (1 - \kappa)` on any grid. With `gain_bound` they are scaled by
    :math:`\min(1, \mathrm{bound} / \kappa)`, with the upper bound of `tap_norm` for :math:`\kappa`.

    Args:
        channels: channels of the convolution.
        kernel_size: points of the kernel per axis; 1 leaves the corner alone.
        corner: "plu", any invertible matrix, "triangular", or "unit", triangular with ones on the diagonal.
        groups: groups of channels that do not mix.
        gain_bound: upper bound for :math:`\kappa`; None for no bound.

    Raises:
        ValueError: channels that `groups` does not divide, an unknown corner, or numbers out of range.

    Source: the condition is that of a two-dimensional causal filter, Dudgeon and Mersereau,
    Multidimensional Digital Signal Processing, 1984, section 4.3.

    Example:
        >>> weight = CausalWeight(4, kernel_size=3, corner="unit", groups=2, gain_bound=0.5)
        >>> _ = weight.taps.data.normal_()
        >>> weight().shape, bool(tap_norm(weight.relative_taps()).max() <= 0.5001)
        (torch.Size([4, 2, 3, 3]), True)
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        corner: str = "plu",
        groups: int = 1,
        gain_bound: float | None = None,
    ):
        super().__init__()
        if channels < 1 or channels % groups:
            raise ValueError(f"{groups} groups of equal size cannot be made of {channels} channels")
        if corner not in CORNERS:
            raise ValueError(f"corner must be one of {', '.join(CORNERS)}, got {corner!r}")
        if kernel_size < 1:
            raise ValueError(f"kernel_size must be at least 1, got {kernel_size}")
        if gain_bound is not None and not gain_bound > 0:
            raise ValueError(f"gain_bound must be positive, or None for no bound, got {gain_bound}")
        width, taps = channels // groups, kernel_size**2 - 1
        self.groups, self.kernel_size, self.gain_bound = groups, kernel_size, gain_bound
        self.corner = CORNERS[corner](width, groups)
        # The norm of a square Gaussian matrix is 2 sqrt(width): together the taps start at 0.1.
        std = 0.05 / (max(taps, 1) * width**0.5)
        self.taps = nn.Parameter(std * torch.randn(groups, taps, width, width))

    def relative_taps(self) -> Tensor:
        """Return the taps before the corner, `(groups, kernel_size**2 - 1, width, width)`."""
        if self.gain_bound is None:
            return self.taps
        return self.taps * (self.gain_bound / tap_norm(self.taps)).clamp(max=1.0)[:, None, None, None]

    def forward(self) -> Tensor:
        """Return the weight `(channels, channels / groups, kernel_size, kernel_size)`."""
        corner = self.corner()[:, None]
        weight = torch.cat([corner @ self.relative_taps(), corner], 1)
        k = self.kernel_size
        return weight.permute(0, 2, 3, 1).flatten(0, 1).unflatten(-1, (k, k))

    @torch.no_grad()
    def growth(self, grid: tuple[int, int]) -> float:
        r"""Return :math:`\lVert L^{-1} A \rVert_\infty` on a grid: how a solve amplifies errors.

        Computed from the response to an impulse, in float64. Bounded on all
        grids where :math:`\kappa < 1`; else it may grow exponentially with them.

        Example:
            >>> weight = CausalWeight(2, kernel_size=2, corner="unit")
            >>> _ = weight.taps.data.zero_()
            >>> weight.growth((4, 4))
            1.0
        """
        width, k = self.taps.shape[-1], self.kernel_size
        taps = self.relative_taps().double()
        identity = torch.eye(width).to(taps).expand(len(taps), 1, -1, -1)
        kernel = torch.cat([taps, identity], 1).permute(0, 2, 3, 1).flatten(0, 1).unflatten(-1, (k, k))
        impulse = taps.new_zeros(width, self.groups, width, *grid)
        impulse[range(width), :, range(width), 0, 0] = 1.0
        response = causal_solve(impulse.flatten(1, 2), kernel, groups=self.groups)
        return float(response.abs().sum((0, 2, 3)).max())


def tap_norm(taps: Tensor) -> Tensor:
    r"""Return, per group, an upper bound of the sum of the spectral norms of `(groups, tap, width, width)`.

    Of each tap it is the Schatten norm of order 16, :math:`(\sum_i \sigma_i^{16})^{1/16}`: smooth, a few
    matrix products, and at most :math:`\mathrm{width}^{1/16}` times the spectral norm (1.17 at 12 channels).

    Example:
        >>> float(tap_norm(torch.diag(torch.tensor([3.0, 1.0]))[None, None]).round(decimals=4))
        3.0
    """
    size = (taps.square().sum((-2, -1), keepdim=True) + torch.finfo(taps.dtype).tiny).sqrt()
    gram = (taps / size).mT @ (taps / size)
    fourth = gram @ gram
    fourth = fourth @ fourth
    moment = fourth.square().sum((-2, -1)).clamp_min(torch.finfo(taps.dtype).tiny)
    return (size[..., 0, 0] * moment ** (1 / 16)).sum(1)
