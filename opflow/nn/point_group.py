"""A point group of the square grid, and how it permutes its elements and the Fourier modes of a field."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opflow.nn.representations import GROUPS


@dataclass(frozen=True)
class PointGroup:
    """Turns of the plane as matrices, the identity first.

    Args:
        turns: `(element, 2, 2)`, signed permutations that are closed under products and inverses.
        blocks: number of blocks that maps of features fall into, see `opflow.nn.group_linear`. The elements
            stand in the order k c, c fastest, with k in a subgroup of as many elements: products of two half
            turns or mirrors, numbered by the bits of their factors.

    Example:
        >>> group = PointGroup.named("p4m")
        >>> group.order, group.quotients()[1, :4].tolist()  # a quarter turn taken back
        (8, [3, 0, 1, 2])
    """

    turns: Tensor
    blocks: int

    @classmethod
    def named(cls, name: str) -> "PointGroup":
        """Return the group of that name in `opflow.nn.representations.GROUPS`.

        Raises:
            ValueError: there is none.
        """
        if name not in GROUPS:
            raise ValueError(f"group={name!r} is not one of {', '.join(map(repr, GROUPS))}")
        turns = torch.stack(GROUPS[name])
        if name == "p4m":  # there a mirror comes before the quarter turn, here behind it
            turns = torch.cat([turns[:4], turns[4] @ turns[:4]])
        return cls(turns, len(turns) // 2)

    @property
    def order(self) -> int:
        """Number of elements."""
        return len(self.turns)

    def quotients(self) -> Tensor:
        r"""Return the element :math:`g^{-1} h` for each pair: `(g, h)`, indices."""
        products = self.turns.mT[:, None] @ self.turns
        same = (products[:, :, None] == self.turns).all(-1).all(-1)
        return same.int().argmax(-1)

    def turned_modes(self, halves: Sequence[int]) -> Tensor:
        r"""Return the place of the mode :math:`g^{-1} k` for each mode k and each g: `(modes, g)`.

        Modes are those of the box :math:`|k_a| \le` `halves[a]` in ascending order, the last axis fastest.
        The first two axes, which turn, have the same half.

        Example:
            >>> PointGroup.named("p4").turned_modes((1, 1))[:3, 1].tolist()  # (-1, -1), (-1, 0), (-1, 1)
            [2, 5, 8]
        """
        modes = torch.cartesian_prod(*(torch.arange(-h, h + 1) for h in halves))
        turned = modes[:, None].expand(-1, self.order, -1).clone()
        turned[..., :2] = torch.einsum(
            "gab,ka->kgb", self.turns, modes[:, :2]
        )  # the inverse is the transpose
        place = torch.zeros(turned.shape[:-1], dtype=torch.long)
        for axis, half in enumerate(halves):
            place = place * (2 * half + 1) + turned[..., axis] + half
        return place

    def orbits(self, halves: Sequence[int]) -> Tensor:
        """Return for each mode of the box of `turned_modes` the number of its orbit, counted from zero.

        Example:
            >>> PointGroup.named("p4").orbits((1, 1)).tolist()
            [0, 1, 0, 1, 2, 1, 0, 1, 0]
        """
        return self.turned_modes(halves).amin(1).unique(return_inverse=True)[1]


IDENTITY = PointGroup(torch.eye(2, dtype=torch.long)[None], 1)
"""The group without turns: features over it are plain channels."""
