"""How far a model is from commuting with a symmetry, or with a change of grid."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from opflow.metrics.errors import relative_l2

if TYPE_CHECKING:
    from pde_data import Grid

Transform = Callable[[Tensor], Tensor]


def _rotation(quarter_turns: int) -> Transform:
    return lambda u: u.rot90(quarter_turns, (-2, -1))


def _reflected_rotation(quarter_turns: int) -> Transform:
    return lambda u: u.flip(-2).rot90(quarter_turns, (-2, -1))


_ROTATIONS = {f"rotate {90 * k}": _rotation(k) for k in (1, 2, 3)}
_REFLECTIONS = {f"reflect, rotate {90 * k}": _reflected_rotation(k) for k in range(4)}

GROUPS: dict[str, dict[str, Transform]] = {
    "p4": _ROTATIONS,
    "p4m": _ROTATIONS | _REFLECTIONS,
}
"""The elements, without the identity, of the point groups of a square grid, acting on scalar fields."""


@torch.no_grad()
def equivariance_error(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    action: str | Transform,
    output_action: Transform | None = None,
) -> Tensor:
    r"""Relative L2 distance of :math:`f(Rx)` from :math:`R f(x)`, per sample (Helwig et al. 2023, G-FNO).

    Rotating or flipping the array of a periodic grid is the rotation or reflection about the origin
    followed by a translation, so the number also tests invariance under that translation.

    Args:
        model: maps `(batch, channel, *space)` to `(batch, channel, *space)`.
        x: `(batch, channel, *space)`.
        action: a map of fields, or the name of a group in `GROUPS` ("p4", "p4m"), whose worst element
            counts.
        output_action: how the output transforms; as the input when None. Give it where the two differ,
            for example for a vorticity, which changes its sign under reflections.

    Returns:
        `(batch,)`.

    Raises:
        ValueError: the group is unknown, comes with an `output_action`, or asks for a square 2-D grid that
            `x` does not have.

    Example:
        >>> x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> equivariance_error(torch.square, x, "p4m")
        tensor([0., 0.])
        >>> gradient = lambda u: u.roll(-1, -1) - u
        >>> bool((equivariance_error(gradient, x, "p4") > 0.5).all())
        True
    """
    if isinstance(action, str):
        if action not in GROUPS:
            raise ValueError(f"unknown group {action!r}: there are {', '.join(GROUPS)}, or pass a function")
        if output_action is not None:
            raise ValueError("output_action goes with one action; pass a function instead of a group name")
        if x.ndim != 4 or x.shape[-1] != x.shape[-2]:
            raise ValueError(f"group {action!r} acts on square 2-D grids, got a field {tuple(x.shape)}")
        errors = [equivariance_error(model, x, element) for element in GROUPS[action].values()]
        return torch.stack(errors).amax(0)
    return relative_l2(model(action(x)), (output_action or action)(model(x)))


@torch.no_grad()
def grid_shift_error(
    model: Callable[[Tensor], Tensor], x: Tensor, sizes: Sequence[int], grid: "Grid | None" = None
) -> Tensor:
    r"""Relative L2 distance of one model on two grids: what changes when only the grid does.

    The input `x` is restricted, :math:`P`, to a coarser grid; the number compares :math:`f(Px)` with
    :math:`P f(x)` there. It is zero for an operator that acts on functions, as long as inputs and outputs
    have no modes that the coarse grid cannot hold. :math:`P` is `pde_data.resample`: spectral on periodic
    axes, linear interpolation on others, whose error then counts as well.

    Args:
        model: maps `(batch, channel, *space)` to `(batch, channel, *space)` on any grid.
        x: `(batch, channel, *space)` on the fine grid.
        sizes: points per axis of the coarse grid.
        grid: the fine grid; a periodic unit box when None.

    Returns:
        `(batch,)`.

    Raises:
        ValueError: `sizes` has another number of axes than `x`, or is finer on some axis; `grid` is not that
            of `x`.

    Example:
        >>> t = torch.arange(32, dtype=torch.float64) / 32
        >>> x = torch.cos(2 * torch.pi * t).reshape(1, 1, 32)
        >>> float(grid_shift_error(torch.square, x, (16,)).round(decimals=12))
        0.0
        >>> laplacian_without_spacing = lambda u: u.roll(1, -1) - 2 * u + u.roll(-1, -1)
        >>> float(grid_shift_error(laplacian_without_spacing, x, (16,))) > 2.9
        True
    """
    from pde_data import Grid, resample

    sizes = tuple(sizes)
    if len(sizes) != x.ndim - 2 or any(new > old for new, old in zip(sizes, x.shape[2:])):
        raise ValueError(f"the coarse grid {sizes} does not lie below the grid of x, {tuple(x.shape[2:])}")
    fine = Grid(tuple(x.shape[2:])) if grid is None else grid
    coarse = fine.with_sizes(sizes)
    return relative_l2(model(resample(x, fine, coarse)), resample(model(x), fine, coarse))
