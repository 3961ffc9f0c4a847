"""Embeddings: coordinates of points as channels, times as vectors."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def grid_coordinates(grid: Sequence[int], like: Tensor) -> Tensor:
    """Return the coordinates j / n in [0, 1) of a periodic grid: `(len(grid), *grid)`.

    Example:
        >>> import torch
        >>> grid_coordinates((2, 4), torch.zeros(()))[1]
        tensor([[0.0000, 0.2500, 0.5000, 0.7500],
                [0.0000, 0.2500, 0.5000, 0.7500]])
    """
    dtype = like.real.dtype
    axes = [torch.arange(n, dtype=dtype, device=like.device) / n for n in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).to(like.dtype)


def symmetric_coordinates(grid: Sequence[int], like: Tensor) -> Tensor:
    r"""Return what no turn of the first two axes changes: `(1, *grid)`, with time behind it `(2, *grid)`.

    The first channel is the squared distance from the middle of the grid, :math:`\sum_a (j_a / (n_a - 1) -
    1/2)^2` over the first two axes, the second the time :math:`j / (n - 1)` along a third.

    Example:
        >>> import torch
        >>> symmetric_coordinates((3, 3), torch.zeros(()))
        tensor([[[0.5000, 0.2500, 0.5000],
                 [0.2500, 0.0000, 0.2500],
                 [0.5000, 0.2500, 0.5000]]])
    """
    dtype, device = like.real.dtype, like.device
    # Twice the place from the middle is an integer, so both halves are rounded alike.
    offsets = [(2 * torch.arange(n, dtype=dtype, device=device) - (n - 1)) for n in grid]
    first, second, *time = [o / (2 * max(n - 1, 1)) for o, n in zip(offsets, grid)]
    plane = first.square()[:, None] + second.square()
    if not time:
        return plane[None]
    return torch.stack(torch.broadcast_tensors(plane[..., None], time[0] + 0.5))


def periodic_coordinates(grid: Sequence[int], like: Tensor) -> Tensor:
    r"""Return what no turn of two axes about the first point changes: `(1, *grid)`, with time `(2, *grid)`.

    The first channel is :math:`\cos 2\pi x + \cos 2\pi y` with :math:`x = j / n`, the second the time
    :math:`j / (n - 1)` along a third axis.

    Example:
        >>> import torch
        >>> periodic_coordinates((2, 2), torch.zeros(()))
        tensor([[[ 2.,  0.],
                 [ 0., -2.]]])
    """
    dtype, device = like.real.dtype, like.device
    # By the distance from the first point, so that both sides of it are rounded alike.
    distances = [torch.arange(n, device=device) for n in grid[:2]]
    distances = [torch.minimum(j, n - j) for j, n in zip(distances, grid)]
    first, second = ((2 * torch.pi / n * j.double()).cos().to(dtype) for j, n in zip(distances, grid))
    plane = first[:, None] + second
    if len(grid) == 2:
        return plane[None]
    time = torch.arange(grid[2], dtype=dtype, device=device) / max(grid[2] - 1, 1)
    return torch.stack(torch.broadcast_tensors(plane[..., None], time))


class TimeEmbedding(nn.Module):
    r"""Vectors of times: sines and cosines at a ladder of frequencies, then a two-layer perceptron.

    .. math:: W_2\, \sigma(W_1 [\cos(\omega_j t), \sin(\omega_j t)]_j), \qquad
        \omega_j = \omega_0\, 10000^{-j / J}, \quad j = 0, \dots, J - 1

    Args:
        channels: length J of the ladder, times two, and of the vector.
        fastest: the highest angular frequency :math:`\omega_0`; the default tells times in [0, 1] apart to
            about a thousandth.

    Shapes:
        `(batch,)` to `(batch, channels)`.

    Raises:
        ValueError: an odd number of channels.

    Example:
        >>> import torch
        >>> TimeEmbedding(16)(torch.rand(5)).shape
        torch.Size([5, 16])
    """

    def __init__(self, channels: int, fastest: float = 1000.0):
        super().__init__()
        if channels < 2 or channels % 2:
            raise ValueError(f"channels={channels} must be even: there are as many sines as cosines")
        self.channels, self.fastest = channels, fastest
        self.mlp = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, channels))

    def forward(self, t: Tensor) -> Tensor:
        """Embed times `(batch,)`."""
        half = self.channels // 2
        exponents = torch.arange(half, dtype=t.dtype, device=t.device) / half
        angles = t[:, None] * self.fastest * 10000**-exponents
        return self.mlp(torch.cat([angles.cos(), angles.sin()], 1))
