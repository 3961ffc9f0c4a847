"""The box on which a model with local kernels lives: lengths, periodic axes, spacing, ghost points.

A tensor has no spacing, so these belong to the model. As in `pde_data.Grid`, the points of a periodic axis
leave out the end, which is the first point again, and those of a bounded axis include both ends.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def per_axis(name: str, value: float | Sequence[float], n_dim: int) -> tuple[float, ...]:
    """Return one positive number per axis; a single one counts for all.

    Raises:
        ValueError: a number is not positive and finite, or there are not `n_dim` of them.

    Example:
        >>> per_axis("domain_length", 2.0, 2)
        (2.0, 2.0)
    """
    given: Any = value  # or an array
    values = tuple(map(float, given)) if np.ndim(given) else (float(given),) * n_dim
    if len(values) != n_dim or not all(math.isfinite(v) and v > 0 for v in values):
        raise ValueError(
            f"{name}={value!r} needs one positive number, or one per space axis, {n_dim} of them"
        )
    return values


def periodic_axes(value: bool | Sequence[bool], n_dim: int) -> tuple[bool, ...]:
    """Return for each axis whether it is periodic; a single answer counts for all.

    Raises:
        ValueError: there are not `n_dim` of them.
    """
    given: Any = value  # or an array
    values = tuple(map(bool, given)) if np.ndim(given) else (bool(given),) * n_dim
    if len(values) != n_dim:
        raise ValueError(f"periodic={value!r} needs one bool, or one per space axis, {n_dim} of them")
    return values


def intervals(grid: Sequence[int], periodic: Sequence[bool]) -> list[int]:
    """Return into how many equal intervals the points divide each axis.

    Example:
        >>> intervals((8, 9), (True, False))
        [8, 8]
    """
    return [n if wraps else n - 1 for n, wraps in zip(grid, periodic)]


def extend(x: Tensor, axis: int, margin: int, periodic: bool, degree: int | None) -> Tensor:
    """Add `margin` ghost points at both ends of an axis.

    Periodic axes continue with their own points. Others continue, for a `degree`, the polynomial of that
    degree through the outermost points, and with zeros for None.

    Raises:
        ValueError: the axis has fewer points than that takes.

    Example:
        >>> x = torch.arange(5.0) ** 2
        >>> extend(x, 0, 1, False, degree=2)
        tensor([ 1.,  0.,  1.,  4.,  9., 16., 25.])
    """
    if margin == 0:
        return x
    n = x.shape[axis]
    needed = margin if periodic else 0 if degree is None else degree + 1
    if n < needed:
        raise ValueError(
            f"a grid with {n} points on an axis is too coarse for this local kernel, which takes {needed}: "
            "use a finer grid or a smaller kernel"
        )
    if periodic:
        before, after = x.narrow(axis, n - margin, margin), x.narrow(axis, 0, margin)
    elif degree is None:
        before = after = x.new_zeros(*x.shape[:axis], margin, *x.shape[axis + 1 :])
    else:
        rule = torch.tensor(_extrapolation(margin, degree), dtype=x.dtype, device=x.device)
        first = x.narrow(axis, 0, degree + 1).movedim(axis, -1)
        last = x.narrow(axis, n - degree - 1, degree + 1).movedim(axis, -1)
        before = (first @ rule.T).movedim(-1, axis)
        after = (last @ rule.flip(0, 1).T).movedim(-1, axis)
    return torch.cat([before, x, after], axis)


def _extrapolation(margin: int, degree: int) -> list[list[float]]:
    """Weights of the points 0, ..., degree for the polynomial through them at -margin, ..., -1."""
    nodes = range(degree + 1)
    return [
        [math.prod([(at - i) / (j - i) for i in nodes if i != j]) for j in nodes] for at in range(-margin, 0)
    ]


def smooth_coordinates(grid: Sequence[int], periodic: Sequence[bool], like: Tensor) -> Tensor:
    """Return coordinates as fields that local kernels may differentiate: `(channels, *grid)`.

    Cosine and sine round a periodic axis, where the coordinate itself would jump; along a bounded one a line
    from -1 to 1.

    Example:
        >>> smooth_coordinates((4, 3), (True, False), torch.zeros(())).shape
        torch.Size([3, 4, 3])
    """
    channels = []
    for axis, (m, wraps) in enumerate(zip(intervals(grid, periodic), periodic)):
        n = grid[axis]
        turn = torch.arange(n, dtype=like.dtype, device=like.device) * (2 * math.pi if wraps else 2) / m
        for values in (turn.cos(), turn.sin()) if wraps else (turn - 1,):
            shape = [n if a == axis else 1 for a in range(len(grid))]
            channels.append(values.view(shape).expand(*grid))
    return torch.stack(channels)
