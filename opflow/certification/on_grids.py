"""Checks of models of fields on grids."""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn

from opflow.certification.certificate import Measured
from opflow.certification.claims import n_modes_of
from opflow.certification.inputs import in_physical_units, periodic_fields
from opflow.metrics import GROUPS, equivariance_error, grid_shift_error
from opflow.nn.grid_turns import ALIASES, GridTurn, element_name
from opflow.nn.representations import resolve_kinds


@final
@dataclass(frozen=True)
class GridInputs:
    """The fields to certify on, and the ladder of grids, coarsest first."""

    fields: Tensor
    ladder: Sequence[tuple[int, ...]]

    @classmethod
    def random(cls, model: nn.Module, channels: int, like: Tensor, grids: Sequence | None) -> "GridInputs":
        """Draw functions with modes up to the highest of the model that the coarsest grid resolves."""
        modes = n_modes_of(model)
        n_dim = len(modes) or getattr(model, "n_dim", None) or 2
        highest = max(max(modes, default=16) // 2, 1)
        sizes = grids or [3 * highest + 1, 4 * highest, 6 * highest + 1]
        ladder = sorted((n,) * n_dim if isinstance(n, int) else tuple(n) for n in sizes)
        if any(len(grid) != n_dim for grid in ladder) or min(map(min, ladder)) < 4:
            raise ValueError(
                f"grids={list(sizes)}: expected numbers of points, at least 4, or one of them per space "
                f"axis, {n_dim} each"
            )
        highest = min(highest, (min(map(min, ladder)) - 1) // 2)
        fields = periodic_fields(channels, highest, ladder[-1], like)
        return cls(in_physical_units(fields, model, 1), ladder)

    @classmethod
    def given(cls, fields: Tensor, grids: Sequence | None) -> "GridInputs":
        """Take fields, whose grid is the finest of the ladder."""
        finest = tuple(fields.shape[2:])
        sizes = grids or [[max(4, 3 * n // 4) for n in finest], [max(4, n // 2) for n in finest]]
        ladder = {(n,) * len(finest) if isinstance(n, int) else tuple(n) for n in sizes}
        if grids is not None and (
            not ladder - {finest}
            or any(len(grid) != len(finest) or any(map(operator.gt, grid, finest)) for grid in ladder)
        ):
            raise ValueError(
                f"grids={list(grids)}: expected grids coarser than that of the fields, {finest}, which is "
                "the reference"
            )
        return cls(fields, sorted(ladder | {finest}))


def equivariance(
    model: nn.Module,
    x: Tensor,
    group: str,
    in_kinds: Sequence[str] | str | None,
    out_kinds: Sequence[str] | str | None,
) -> Iterator[Measured]:
    """Measure every element of a group but the identity."""
    kinds_in = resolve_kinds("in_kinds", in_kinds, x.shape[1])
    kinds_out = resolve_kinds("out_kinds", out_kinds, model(x).shape[1])
    about = getattr(model, "turns_about", "middle")
    for element in GROUPS[ALIASES.get(group, group)][1:]:
        turns = (GridTurn(element, kinds_in, about), GridTurn(element, kinds_out, about))
        error = equivariance_error(model, x, *turns).max().item()
        yield Measured("equivariance", f"{group}: {element_name(element)}", error)


def translation(model: nn.Module, x: Tensor) -> Iterator[Measured]:
    """Measure shifts by one point and by many along all axes."""
    axes = tuple(range(2, x.ndim))
    for name, shifts in (
        ("one point", [1] * len(axes)),
        ("a third of the box", [n // 3 for n in x.shape[2:]]),
    ):
        error = equivariance_error(model, x, lambda u, by=shifts: u.roll(tuple(by), axes))
        yield Measured("translation", f"translation by {name}", error.max().item())


def grid_shift(model: nn.Module, inputs: GridInputs) -> Iterator[Measured]:
    """Measure each grid of a ladder against the finest."""
    *coarser, finest = inputs.ladder
    for grid in coarser:
        error = grid_shift_error(model, inputs.fields, grid).max().item()
        yield Measured("grid", f"grid of {_size(grid)} points, against {_size(finest)}", error)


def _size(grid: Sequence[int]) -> str:
    return " x ".join(map(str, grid))
