"""Positional embedding: the coordinates of the points, as channels."""

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
