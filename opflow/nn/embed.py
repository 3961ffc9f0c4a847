"""Positional embeddings: where the points are, as channels."""

from collections.abc import Sequence

import torch
from torch import Tensor


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
