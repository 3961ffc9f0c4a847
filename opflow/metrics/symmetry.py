"""How far a model is from commuting with a symmetry, or with a change of grid."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from opflow.metrics.errors import relative_l2
from opflow.nn.grid_turns import GRID_GROUPS, GridTurn, require_centre
from opflow.nn.representations import resolve_kinds

if TYPE_CHECKING:
    from pde_data import Grid

Transform = Callable[[Tensor], Tensor]


GROUPS = GRID_GROUPS
"""The elements, from the identity on, of the point groups of a square grid, as matrices over (x, y)."""


@torch.no_grad()
def equivariance_error(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    action: str | Transform,
    output_action: Transform | None = None,
    in_kinds: str | Sequence[str] | None = None,
    out_kinds: str | Sequence[str] | None = None,
    about: str = "middle",
) -> Tensor:
    r"""Relative L2 distance of :math:`f(Rx)` from :math:`R f(x)`, per sample (Helwig et al. 2023, G-FNO).

    About the "middle", the array is rotated or flipped as it is: on a periodic grid that is the rotation or
    reflection about the origin followed by a translation by one point, so the number also tests invariance
    under that translation.

    Args:
        model: maps `(batch, channel, *space)` to `(batch, channel, *space)`.
        x: `(batch, channel, *space)`.
        action: a map of fields, or the name of a group in `GROUPS` ("p4", "p4m"), whose worst element
            counts.
        output_action: for a map, how the output transforms; as the input when None.
        in_kinds: for a group, how the input turns: "scalar", "pseudoscalar" (a vorticity changes its sign
            under reflections) or "vector", one kind for all fields or one for each; scalars when None.
        out_kinds: how the output turns, likewise.
        about: for a group, the fixed point: "middle" of the array, or "origin" of a periodic grid.

    Returns:
        `(batch,)`.

    Raises:
        ValueError: the group is unknown, or comes with an `output_action`, or a map with kinds; the kinds do
            not fit the channels; `x` has fewer than two space axes.

    Example:
        >>> x = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> equivariance_error(torch.square, x, "p4m")
        tensor([0., 0.])
        >>> gradient = lambda u: u.roll(-1, -1) - u
        >>> bool((equivariance_error(gradient, x, "p4") > 0.5).all())
        True
    """
    if not isinstance(action, str):
        if in_kinds or out_kinds:
            raise ValueError("in_kinds and out_kinds go with the name of a group; give an output_action")
        return relative_l2(model(action(x)), (output_action or action)(model(x)))
    if action not in GROUPS:
        raise ValueError(f"unknown group {action!r}: there are {', '.join(GROUPS)}, or pass a function")
    if output_action is not None:
        raise ValueError("output_action goes with one action; pass a function instead of a group name")
    if x.ndim < 4:
        raise ValueError(f"group {action!r} acts on two space axes, got a field {tuple(x.shape)}")
    require_centre(about)
    y = model(x)
    kinds = (
        resolve_kinds("in_kinds", in_kinds, x.shape[1]),
        resolve_kinds("out_kinds", out_kinds, y.shape[1]),
    )
    errors = []
    for element in GROUPS[action][1:]:
        on_input, on_output = (GridTurn(element, of, about) for of in kinds)
        errors.append(relative_l2(model(on_input(x)), on_output(y)))
    return torch.stack(errors).amax(0)


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
