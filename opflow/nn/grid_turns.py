"""Turns of fields on a grid as moves of axes and channels, which no compiler has to look into."""

from collections.abc import Sequence

import torch
from torch import Tensor

from opflow.nn.representations import GROUPS, channel_matrix

_EVEN = GROUPS["p4m"]

GRID_GROUPS: dict[str, tuple[Tensor, ...]] = {
    **GROUPS,
    "mx": (_EVEN[0], _EVEN[4]),
    "my": (_EVEN[0], _EVEN[6]),
    "p2mm": (_EVEN[0], _EVEN[2], _EVEN[4], _EVEN[6]),
}
"""`GROUPS` and the smaller groups with mirrors: of x, of y, of both. The identity is the first element."""

ALIASES = {"C4": "p4", "D4": "p4m"}

CENTRES = ("middle", "origin")


class GridTurn:
    """One element of a point group, acting on fields `(batch, channel, *space)` of given kinds.

    Values are moved and change their sign, so that nothing is rounded. Turning by the transposed matrix is
    the way back.

    Args:
        matrix: signed permutation of the first space axes, of integers; further axes, such as time, stay.
        kinds: one kind per field, see `opflow.nn.representations`.
        about: the fixed point: the "middle" of the array, or the "origin" of a periodic grid, its first
            point. The two differ by a translation, which matters where the law knows places, as under a
            forcing.

    Example:
        >>> quarter = GridTurn(GROUPS["p4"][1], ["vector"])
        >>> x = torch.arange(8.0).view(1, 2, 2, 2)
        >>> torch.equal(quarter(x)[:, 0], -x[:, 1].rot90(1, (1, 2)))
        True
    """

    def __init__(self, matrix: Tensor, kinds: Sequence[str], about: str = "middle"):
        source = matrix.abs().argmax(1).tolist()
        self.flipped = [2 + s for s, sign in zip(source, matrix.sum(1).tolist()) if sign < 0]
        self.shift = 1 if about == "origin" else 0
        self.order = [2 + s for s in source]
        on_channels = channel_matrix(kinds, matrix)
        self.channels: list[int] = on_channels.abs().argmax(1).tolist()
        self.signs: list[int] = on_channels.sum(1).tolist()
        self.swaps_axes = self.order != sorted(self.order)

    def __call__(self, x: Tensor) -> Tensor:
        """Turn a field."""
        if self.flipped:
            x = x.flip(self.flipped)
            if self.shift:  # the first point stays
                x = x.roll([self.shift] * len(self.flipped), self.flipped)
        x = x.permute(0, 1, *self.order, *range(2 + len(self.order), x.ndim))
        if min(self.signs) > 0 and self.channels == sorted(self.channels):
            return x
        return torch.stack([x[:, c] if s > 0 else -x[:, c] for c, s in zip(self.channels, self.signs)], 1)


def require_centre(about: str) -> None:
    """Refuse what is not one of `CENTRES`."""
    if about not in CENTRES:
        raise ValueError(f"about={about!r} is not one of {', '.join(map(repr, CENTRES))}")


def element_name(matrix: Tensor) -> str:
    """Say in words what an element of a group of the square does.

    Example:
        >>> [element_name(turn) for turn in GROUPS["p4m"][3:6]]
        ['rotation by 270', 'reflection of x', 'reflection of x, rotation by 90']
    """
    turns = [index for index, turn in enumerate(GROUPS["p4m"]) if torch.equal(turn, matrix)][0]
    rotation = f"rotation by {90 * (turns % 4)}"
    if turns < 4:
        return "identity" if turns == 0 else rotation
    return {4: "reflection of x", 6: "reflection of y"}.get(turns, f"reflection of x, {rotation}")
