r"""Poses of fields on a grid: which elements of a group to look at a field through, and with what weight.

A *frame* is a set of group elements, with weights, that turns with the field:
:math:`w_g(hx) = w_{gh}(x)`. The mean :math:`\sum_g w_g(x)\, g^{-1} f(gx)` is then equivariant whatever f is.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from opflow.kernels import dft
from opflow.nn.grid_turns import ALIASES, GRID_GROUPS, GridTurn

_DIRECTION = (2.0, 1.0)  # on no mirror axis of the square: its eight images are all different
_HIGHEST_MODE = 4  # of the part of a field that decides on its pose
_MARGIN = 0.1  # elements that score less than the best by so much have no weight in a frame
_FLAT = 1e-24  # a mean square gradient below this, relative to the field's mean square, is none
_TIE = 1e-9  # scores of a canonical pose closer than this are equal


class GridPoses:
    r"""The elements of a point group of the square as poses of fields on a grid.

    The score of a pose is the skewness of the derivative along the direction (2, 1), of the part of the field
    with modes up to 4, summed over channels:

    .. math:: s_g(x) = \langle (a \cdot \nabla (g x))^3 \rangle / \langle |\nabla x|^2 \rangle^{3/2}

    It is a functional of the function, the same on every grid that has these modes, and does not change under
    translations. The weights are

    - "average": the same for all elements;
    - "frame": in proportion to :math:`\max(0, s_g - \max_h s_h + 0.1)`, continuous in the field but at
      constant fields;
    - "canonical": the highest score, shared equally where several tie; it jumps there.

    Args:
        group: name in `GRID_GROUPS`, or "C4", "D4".
        in_kinds: one kind per input field.
        out_kinds: one kind per output field.
        method: "average", "frame" or "canonical".
        about: the fixed point, see `GridTurn`.
    """

    def __init__(
        self,
        group: str,
        in_kinds: Sequence[str],
        out_kinds: Sequence[str],
        method: str,
        about: str = "middle",
    ):
        elements = GRID_GROUPS[ALIASES.get(group, group)]
        self.method = method
        self.turns = [GridTurn(g, in_kinds, about) for g in elements]
        self.back = [GridTurn(g.T, out_kinds, about) for g in elements]
        self.directions = [(g.T.double() @ torch.tensor(_DIRECTION).double()).tolist() for g in elements]

    def look(self, model: Callable, x: Tensor, out_grid: Sequence[int] | None = None) -> "GridLook":
        """Look at a field `(batch, channel, *space)` through the group."""
        if self.method == "average":
            weights = x.new_full((x.shape[0], len(self.turns)), 1 / len(self.turns))
        else:
            scores = self._scores(x.detach())
            behind = scores.amax(1, keepdim=True) - scores
            weights = (_MARGIN - behind).relu() if self.method == "frame" else (behind <= _TIE).double()
            weights = (weights / weights.sum(1, keepdim=True)).to(x)
        return GridLook(weights, self, model, x, out_grid)

    def _scores(self, x: Tensor) -> Tensor:
        x = x.movedim(1, -1).double()
        highest = [min(_HIGHEST_MODE, (n - 1) // 3) for n in x.shape[1:3]]
        slots = [(-highest[0], 2 * highest[0] + 1), (0, highest[1] + 1)]
        spectrum = dft.analyse(x.flatten(3), slots)  # (batch, 2, modes, time and channel)
        rows, columns = (torch.arange(f, f + c, dtype=x.dtype, device=x.device) for f, c in slots)
        wave = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).flatten(1)[:, :, None]
        rotated = torch.stack([-spectrum[:, 1], spectrum[:, 0]], 1)  # times i
        points = [3 * k + 1 for k in highest]  # the mean of a cube is exact there
        along_x, along_y = (dft.synthesise(rotated * k, slots, points) for k in wave)
        scores, frames = [], math.prod(x.shape[3:-1])
        for (a, b), turn in zip(self.directions, self.turns):
            cubes = (a * along_x + b * along_y).pow(3).mean((1, 2))
            of_source = [sign for _, sign in sorted(zip(turn.channels, turn.signs))]
            scores.append((cubes * cubes.new_tensor(of_source * frames)).sum(1))
        square = (along_x.square() + along_y.square()).mean((1, 2)).sum(1)
        level = x.square().mean((1, 2)).flatten(1).sum(1)
        flat = square <= _FLAT * level  # what is left of a constant field is rounding
        scores = torch.stack(scores, 1) / torch.where(flat, torch.ones_like(square), square).pow(1.5)[:, None]
        return scores.masked_fill(flat[:, None], 0.0)


@dataclass(frozen=True)
class GridLook:
    """A field seen through the elements of a group; `weights` is `(batch, element)`, with rows of sum one."""

    weights: Tensor
    poses: GridPoses
    model: Callable
    x: Tensor
    out_grid: Sequence[int] | None

    @property
    def shared(self) -> bool:
        """Whether all fields have the same weights."""
        return self.poses.method == "average"

    def draw(self) -> Tensor:
        """Return the output through an element drawn for each field."""
        return self.at_each(torch.multinomial(self.weights, 1)[:, 0])

    def at(self, element: int) -> Tensor:
        """Return :math:`g^{-1} f(g x)`, with one element for all fields."""
        return self._at(element, self.x)

    def at_each(self, elements: Tensor) -> Tensor:
        """Return :math:`g^{-1} f(g x)`, with an element for each field: `elements` is `(batch,)`."""
        x, poses = self.x, self.poses
        grids = (x.shape[2:4], (x.shape[2:] if self.out_grid is None else self.out_grid)[:2])
        if any(a != b for a, b in grids):  # poses have different shapes: a call for each element in use
            y, places = [], []
            for element in elements.unique().tolist():
                places.append((elements == element).nonzero()[:, 0])
                y.append(self._at(element, x[places[-1]]))
            return torch.cat(y)[torch.cat(places).argsort()]
        samples = torch.arange(x.shape[0], device=x.device)
        posed = torch.stack([turn(x) for turn in poses.turns], 1)[samples, elements]
        y = self.model(posed, self.out_grid)
        return torch.stack([turn(y) for turn in poses.back], 1)[samples, elements]

    def _at(self, element: int, x: Tensor) -> Tensor:
        turn, out_grid = self.poses.turns[element], self.out_grid
        if out_grid is not None and turn.swaps_axes:
            out_grid = (out_grid[1], out_grid[0], *out_grid[2:])
        return self.poses.back[element](self.model(turn(x), out_grid))
