"""Group-equivariant Fourier neural operator."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from opflow.nn.arguments import arguments
from opflow.nn.embed import periodic_coordinates, symmetric_coordinates
from opflow.nn.group_block import GroupBlock, GroupMLP, PublishedGroupBlock
from opflow.nn.group_linear import GroupLifting, GroupLinear, GroupProjection
from opflow.nn.normalize import Normalizer
from opflow.nn.point_group import IDENTITY, PointGroup
from opflow.nn.representations import channel_matrix, resolve_kinds
from opflow.operators.base import Operator, require_positive

_EMBEDDINGS = {"symmetric": symmetric_coordinates, "periodic": periodic_coordinates}


class GFNO(Operator):
    r"""Fourier neural operator that commutes with the turns of the square, by construction.

    For every element R of the group, :math:`f(R x) = R f(x)` up to rounding, where R moves the array of a
    square grid and turns the channels as their kinds say (`in_kinds`, `out_kinds`). It holds before and after
    training, the fitted normalisation included. On a grid with unequal sides the operator runs as well, with
    no such symmetry to keep; and the grid of `out_grid` has another middle, about which the output turns.

    Features have one slot per element of the group; the lifting fills each slot with the field as it looks
    from there, layers depend on the quotient of two slots alone, and the projection turns the slots back and
    sums them. At equal numbers of parameters, 10 channels of p4 or 7 of p4m stand beside 20 of an FNO.

    Args:
        n_modes: modes kept per axis, negative and positive together: two equal numbers for fields over the
            plane, and a third for a time axis behind it, which does not turn. The kept set is
            :math:`|k| \le \lfloor (m - 1) / 2 \rfloor`, which the group maps to itself.
        in_channels: channels of the input field.
        out_channels: channels of the output field.
        hidden_channels: channels of the features, each with a slot per element of the group.
        n_layers: number of Fourier layers.
        group: "p4" (quarter turns) or "p4m" (with reflections).
        in_kinds: what the input channels hold: "scalar", "pseudoscalar" (changes sign under reflections, as
            the vorticity of a plane flow does) or "vector" (two channels), one kind for all or one per field;
            scalars when None.
        out_kinds: likewise for the output.
        positional_embedding: "symmetric" appends the squared distance from the middle of the array, and the
            time where there is one. "periodic" appends :math:`\cos 2\pi x + \cos 2\pi y` instead: turns are
            then about the first point of a periodic grid, as those of a law with a forcing are, which differ
            from turns of the array by a translation. None makes the model translation-equivariant as well.
        norm: None for layers in the form of our `FNO`; "instance_norm" for the published network.
        radial: kernels that are constant on the orbits of the group, between plain channels; for fields that
            no element changes.

    Shapes:
        `(batch, in_channels, *space)` to `(batch, out_channels, *space)`.

    Raises:
        ValueError: an argument, or the shape of an input, does not fit; the message says what would.

    Source: Helwig et al., Group Equivariant Fourier Neural Operators for Partial Differential Equations,
        2023.

    Example:
        >>> model = GFNO(n_modes=(8, 8), in_channels=1, out_channels=1, hidden_channels=4, n_layers=2)
        >>> x = torch.randn(2, 1, 16, 16)
        >>> torch.allclose(model(x.rot90(1, (2, 3))), model(x).rot90(1, (2, 3)), atol=1e-5)
        True
    """

    def __init__(
        self,
        n_modes: Sequence[int],
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        n_layers: int = 4,
        group: str = "p4",
        in_kinds: str | Sequence[str] | None = None,
        out_kinds: str | Sequence[str] | None = None,
        positional_embedding: str | None = "symmetric",
        norm: str | None = None,
        radial: bool = False,
    ):
        config = arguments(locals())
        if isinstance(n_modes, int) or len(n_modes) not in (2, 3) or min(n_modes) < 1:
            raise ValueError(
                f"n_modes={n_modes!r} needs one number of modes per axis of the plane, and one for time "
                "where the fields have it, such as (16, 16) or (16, 16, 8)"
            )
        require_positive(
            in_channels=in_channels,
            out_channels=out_channels,
            hidden_channels=hidden_channels,
            n_layers=n_layers,
        )
        if positional_embedding not in (*_EMBEDDINGS, None):
            known = ", ".join(map(repr, (*_EMBEDDINGS, None)))
            raise ValueError(f"positional_embedding={positional_embedding!r} is not one of {known}")
        if norm not in ("instance_norm", None):
            raise ValueError(f"norm={norm!r} is not one of 'instance_norm', None")
        elements = PointGroup.named(group)
        super().__init__(in_channels, out_channels, len(n_modes))
        self.config = config
        self.n_modes = tuple(n_modes)
        self.group = group
        self.in_kinds = resolve_kinds("in_kinds", in_kinds, in_channels)
        self.out_kinds = resolve_kinds("out_kinds", out_kinds, out_channels)
        self.positional_embedding = positional_embedding
        self.turns_about = "origin" if positional_embedding == "periodic" else "middle"

        turns = [channel_matrix(kinds, elements.turns) for kinds in (self.in_kinds, self.out_kinds)]
        self.normalizer = Normalizer(in_channels, out_channels, *turns)
        if radial:
            _refuse_what_turns(group, in_kinds=turns[0], out_kinds=turns[1])
        slots = IDENTITY if radial else elements
        embedded = len(n_modes) - 1 if positional_embedding else 0
        into = channel_matrix((*self.in_kinds, *("scalar",) * embedded), slots.turns)
        out_of = channel_matrix(self.out_kinds, slots.turns)
        width = hidden_channels
        self.lifting = GroupLifting(into, width)
        block = GroupBlock if norm is None else PublishedGroupBlock
        self.blocks = nn.ModuleList(
            block(width, n_modes, elements, last=layer == n_layers - 1, radial=radial)
            for layer in range(n_layers)
        )
        hidden = width if norm is None else 4 * width
        self.projection = GroupMLP(GroupLinear(width, hidden, slots), GroupProjection(hidden, out_of))

    def operate(self, x: Tensor, out_grid: Sequence[int] | None) -> Tensor:
        """Map a normalised field to a normalised field; the last layer moves it to `out_grid`."""
        if self.positional_embedding:
            embedding = _EMBEDDINGS[self.positional_embedding](x.shape[2:], x)
            embedding = embedding.expand(x.shape[0], *(-1,) * (x.ndim - 1))
            x = torch.cat([x, embedding], 1)
        u = self.lifting(x)
        for block in self.blocks[:-1]:
            u = block(u)
        return self.projection(self.blocks[-1](u, out_grid))


def _refuse_what_turns(group: str, **turns: Tensor) -> None:
    for name, matrices in turns.items():
        if not (matrices == torch.eye(matrices.shape[-1])).all():
            raise ValueError(
                f"radial kernels act on plain channels, which cannot hold what an element of {group!r} "
                f"changes: {name} must be scalars; use radial=False for others"
            )
