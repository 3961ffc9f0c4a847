r"""Layers on band-limited fields that never leave the band: the same operator on every grid.

A field with modes :math:`|k| \le K` per axis is its Fourier coefficients, and any grid of 2K+1 points or more
only shows them. A product of d such fields has modes up to dK; formed on a grid of (d+1)K+1 points, none of
what is beyond the band comes back into it, so that dropping what is beyond is exact.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from opflow.kernels import dft
from opflow.kernels.modes import multiply_modes
from opflow.nn.channel_mlp import ChannelLinear
from opflow.nn.embed import grid_coordinates
from opflow.nn.spectral import SpectralConv


class PolynomialBlock(nn.Module):
    r"""A Fourier layer with products of d fields in place of an activation, projected to its band.

    .. math:: z = P(K u + S u), \qquad
              u' = z + C P \prod_{i=1}^{d} (A_i z + a_i) / \rho^{d-1}, \qquad
              \rho^2 = 1 + \langle |z|^2 \rangle

    P keeps the modes :math:`|k| \le K` of every axis, K is the spectral convolution, S, the A and C are maps
    of the channels, and :math:`\langle |z|^2 \rangle` is the mean square over channels and space. Dividing by
    :math:`\rho` keeps large fields from growing faster than linearly; by Parseval it is a function of the
    coefficients too. The layer commutes with all translations, not only with those of a grid.

    Args:
        channels: channels of input and output.
        n_modes: modes per axis, negative and positive together; the band is the largest symmetric one in
            them, K = (n - 1) // 2.
        degree: number d of factors, at least 2.
        hidden_channels: channels of the products; half of `channels` when None.
        factorization: "tucker", "cp", "tt" or None for the spectral weights.
        rank: relative size of factorised weights.

    Shapes:
        `(batch, channels, *space)`, at least 2 K + 1 points per axis; modes of the input beyond the band are
        dropped.

    Raises:
        ValueError: `degree` is less than 2, `n_modes` less than 3, or a grid is too coarse for the band.

    Source: for the bound (d+1)K+1, the 3/2 rule of Orszag, 1971, which is d = 2.

    Example:
        >>> import torch
        >>> block = PolynomialBlock(1, n_modes=(7,))  # modes up to 3
        >>> wave = lambda n: torch.sin(2 * torch.pi * torch.arange(n) / n).view(1, 1, n)
        >>> torch.allclose(block(wave(9))[..., ::3], block(wave(12))[..., ::4], atol=1e-5)
        True
    """

    def __init__(
        self,
        channels: int,
        n_modes: Sequence[int],
        degree: int = 2,
        hidden_channels: int | None = None,
        factorization: str | None = None,
        rank: float = 1.0,
    ):
        super().__init__()
        if degree < 2:
            raise ValueError(f"degree={degree} makes no product: it must be at least 2")
        self.highest = highest_modes(n_modes)
        self.degree = degree
        hidden = max(1, channels // 2) if hidden_channels is None else hidden_channels
        full = [2 * k + 1 for k in self.highest]
        self.conv = SpectralConv(channels, channels, full, factorization=factorization, rank=rank)
        self.skip = ChannelLinear(channels, channels, bias=False)
        self.factors = ChannelLinear(channels, degree * hidden)
        self.last = ChannelLinear(hidden, channels, bias=False)
        self._start_near_the_identity()

    @torch.no_grad()
    def _start_near_the_identity(self) -> None:
        # Of the starts tried, the one that trains to the least error: half that of a conv and a skip as in
        # `FNO`. The factors are as large as z, so that the products are as well.
        channels, hidden = self.last.weight.shape
        std = 0.25 / math.sqrt(channels)
        if self.conv.factors is None:
            nn.init.normal_(self.conv.weight, std=std / math.sqrt(2))  # real and imaginary part
        else:
            self.conv.factors.normal_(0, std)  # pyright: ignore[reportCallIssue]
        self.skip.weight.mul_(0.5).diagonal().add_(0.5)
        nn.init.normal_(self.factors.weight, std=1 / math.sqrt(channels))
        nn.init.normal_(self.last.weight, std=1 / math.sqrt(hidden))

    def forward(self, u: Tensor) -> Tensor:
        """Map `(batch, channels, *space)` to the same grid."""
        grid = tuple(u.shape[2:])
        slots = band_slots(self.highest, grid)
        y = self.advance(dft.analyse(u.movedim(1, -1), slots))
        return dft.synthesise(y, slots, grid).movedim(-1, 1)

    def advance(self, x: Tensor) -> Tensor:
        """Map coefficients in the band, `(batch, 2, modes, channel)`, to such coefficients."""
        slots = self.conv.slots
        z = multiply_modes(x, self.conv.weights(slots)) + linear(x, self.skip.weight)
        assert self.conv.bias is not None
        z = _plus_constant(hermitian(z, slots), self.conv.bias, slots)
        assert self.factors.bias is not None
        factors = _plus_constant(linear(z, self.factors.weight), self.factors.bias, slots)
        points = [(self.degree + 1) * k + 1 for k in self.highest]
        first, *others = dft.synthesise(factors, slots, points).chunk(self.degree, -1)
        product = first
        for factor in others:
            product = product * factor
        size = (1 + mean_square(z, slots)).pow((1 - self.degree) / 2)
        product = dft.analyse(product, slots) * size[:, None, None, None]
        return z + linear(product, self.last.weight)


class PolynomialNetwork(nn.Module):
    """Polynomial blocks between linear lifting and projection, from any grid to any grid.

    All of it acts on coefficients: the cost does not depend on the grids but for the transforms at both ends.

    Args:
        in_channels: channels of the input field.
        out_channels: channels of the output field.
        blocks: the blocks, of one band.
        width: their channels.
        positional_embedding: "grid" appends the sines and cosines of the coordinates, which are in the band
            as the coordinates themselves are not; None appends nothing.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        blocks: Sequence[PolynomialBlock],
        width: int,
        positional_embedding: str | None,
    ):
        super().__init__()
        self.highest = blocks[0].highest
        self.positional_embedding = positional_embedding
        embedded = 2 * len(self.highest) if positional_embedding else 0
        self.lifting = ChannelLinear(in_channels + embedded, width)
        self.blocks = nn.ModuleList(blocks)
        self.projection = ChannelLinear(width, out_channels)

    def forward(self, x: Tensor, out_grid: Sequence[int] | None = None) -> Tensor:
        """Map `(batch, in_channels, *space)` to `(batch, out_channels, *out_grid)`."""
        grid = tuple(x.shape[2:])
        out_grid = grid if out_grid is None else tuple(out_grid)
        slots = band_slots(self.highest, grid)
        band_slots(self.highest, out_grid)
        if self.positional_embedding:
            angle = 2 * math.pi * grid_coordinates(grid, x)
            waves = torch.cat([angle.cos(), angle.sin()]).expand(x.shape[0], *(-1,) * (x.ndim - 1))
            x = torch.cat([x, waves], 1)
        lifting, projection = self.lifting, self.projection
        assert lifting.bias is not None and projection.bias is not None
        y = dft.analyse(x.movedim(1, -1), slots)
        y = _plus_constant(linear(y, lifting.weight), lifting.bias, slots)
        for block in self.blocks:
            assert isinstance(block, PolynomialBlock)
            y = block.advance(y)
        y = _plus_constant(linear(y, projection.weight), projection.bias, slots)
        return dft.synthesise(y, slots, out_grid).movedim(-1, 1)


def highest_modes(n_modes: Sequence[int]) -> tuple[int, ...]:
    """Return the highest mode K of the largest symmetric band in `n_modes` modes, per axis.

    Example:
        >>> highest_modes((8, 9))
        (3, 4)
    """
    if min(n_modes) < 3:
        raise ValueError(f"n_modes={tuple(n_modes)} leaves an axis constants only: it needs at least 3 each")
    return tuple((n - 1) // 2 for n in n_modes)


def band_slots(highest: Sequence[int], grid: Sequence[int]) -> list[dft.Slot]:
    """Return the ranges of modes of a symmetric band, half of it on the last axis, on a grid."""
    if any(n <= 2 * k for n, k in zip(grid, highest)):
        least = tuple(2 * k + 1 for k in highest)
        raise ValueError(
            f"a grid of {tuple(grid)} points does not resolve the band of modes up to {tuple(highest)}: "
            f"use at least {least} points, or build the model with fewer n_modes"
        )
    *first, last = highest
    return [*((-k, 2 * k + 1) for k in first), (0, last + 1)]


def hermitian(y: Tensor, slots: Sequence[dft.Slot]) -> Tensor:
    """Make coefficients those of a real field: with last mode zero, X(-k) is the conjugate of X(k)."""
    y = y.unflatten(2, [count for _, count in slots])
    last = 1 + len(slots)
    zero = y.narrow(last, 0, 1)
    mirrored = zero.flip(tuple(range(2, last)))  # in one dimension there is nothing to flip
    zero = torch.stack([zero[:, 0] + mirrored[:, 0], zero[:, 1] - mirrored[:, 1]], 1) / 2
    return torch.cat([zero, y.narrow(last, 1, slots[-1][1] - 1)], last).flatten(2, last)


def mean_square(y: Tensor, slots: Sequence[dft.Slot]) -> Tensor:
    """Return the mean square over space and channels, by Parseval: `(batch,)`."""
    power = y.square().sum(1).mean(-1).unflatten(1, (-1, slots[-1][1])).sum(1)
    return 2 * power.sum(1) - power[:, 0]


def _plus_constant(y: Tensor, constant: Tensor, slots: Sequence[dft.Slot]) -> Tensor:
    """Add a constant field, one number per channel, to coefficients."""
    place = dft.zero_mode(slots)
    at_zero = y[:, :1, place : place + 1] + constant
    zero = torch.cat([at_zero, y[:, 1:, place : place + 1]], 1)
    return torch.cat([y[:, :, :place], zero, y[:, :, place + 1 :]], 2)
