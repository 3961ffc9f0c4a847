r"""Poses of point clouds: their principal axes, with the signs that are left open.

For points p with weights q, centre c and covariance :math:`\sum_p q_p (p - c)(p - c)^T`, the rows of R are
its eigenvectors. Eigenvectors have no sign: the frame of a cloud is every choice of signs, those with
:math:`\det R = 1` for SO(d) (Puny et al., Frame Averaging for Invariant and Equivariant Network Design,
2022).
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from opflow.nn.representations import channel_matrix

POINT_GROUPS = {"SO(2)": (2, True), "O(2)": (2, False), "SO(3)": (3, True), "O(3)": (3, False)}
"""Number of dimensions, and whether reflections are left out."""

_TIE = 1e-6  # skewnesses that differ by less are equal
_LEAST_GAP = 1e3  # of eigenvalues, relative to the largest, in units of the rounding of the coordinates


class PointPoses:
    r"""The poses of a point cloud under rotations, with or without reflections, and translations.

    The weights are

    - "frame": the same for all choices of signs;
    - "canonical": the choice with the highest :math:`\sum_i s_i \gamma_i`, with the skewness
      :math:`\gamma_i` of the cloud along each axis, shared equally where several tie; it jumps there.

    Both jump where two eigenvalues cross; where two coincide, there are no axes, and it is an error.

    Args:
        group: name in `POINT_GROUPS`.
        in_kinds: one kind per input field.
        out_kinds: one kind per output field.
        method: "frame" or "canonical".
    """

    def __init__(self, group: str, in_kinds: Sequence[str], out_kinds: Sequence[str], method: str):
        self.n_dim, proper = POINT_GROUPS[group]
        self.proper, self.method = proper, method
        self.in_kinds, self.out_kinds = in_kinds, out_kinds
        signs = itertools.product((1.0, -1.0), repeat=self.n_dim)
        # Of the axes as they come, or with the last one reversed: `_axes` makes the determinant one.
        self.signs = torch.tensor([s for s in signs if not proper or torch.tensor(s).prod() > 0])

    def look(
        self,
        model: Callable,
        values: Tensor,
        coords: Tensor,
        query_coords: Tensor | None = None,
        **options: Any,
    ) -> "PointLook":
        """Look at values `(batch, point, channel)` at `coords` `(point, dim)` or `(batch, point, dim)`.

        An option `weights`, `(point,)` or `(batch, point)`, weighs the points. The options go to the model.

        Raises:
            ValueError: `coords` is no tensor, the points have another number of dimensions, or two of their
                principal axes have the same variance.
        """
        if not isinstance(coords, Tensor):
            raise ValueError(
                f"coords is a {type(coords).__name__}: give the coordinates themselves, which are turned"
            )
        if coords.shape[-1] != self.n_dim:
            raise ValueError(
                f"the group acts on {self.n_dim} dimensions, the points have {coords.shape[-1]}: "
                f"coords is {tuple(coords.shape)}"
            )
        weights = options.get("weights")
        mass = torch.ones_like(coords[..., 0]) if weights is None else weights.to(coords)
        mass = (mass / mass.sum(-1, keepdim=True)).double().unsqueeze(-1)
        if mass.ndim > coords.ndim:
            coords = coords.expand(*mass.shape[:-1], self.n_dim)
        centre = (mass * coords).sum(-2, keepdim=True)
        centred = coords.double() - centre
        axes = self._axes((mass * centred).mT @ centred, coords.dtype)
        turns = self.signs.to(axes)[:, :, None] * axes[..., None, :, :]  # (..., element, dim, dim)
        shares = self._shares(mass, centred @ axes.mT).to(values)
        batch = values.shape[0]
        return PointLook(
            shares.expand(batch, -1), turns, centre, self, model, values, coords, query_coords, options
        )

    def _axes(self, covariance: Tensor, dtype: torch.dtype) -> Tensor:
        variances, vectors = torch.linalg.eigh(covariance)
        if not torch.compiler.is_compiling():
            gap = (variances.diff(dim=-1).amin(-1) / variances[..., -1]).min().item()
            if not gap > _LEAST_GAP * torch.finfo(dtype).eps:
                raise ValueError(
                    f"the points have no principal axes: two of their variances differ by {gap:.1e} of the "
                    "largest. Weigh the points, or use a cloud that is not as long as it is wide; a square "
                    "grid has the finite groups p4 and p4m"
                )
        axes = vectors.mT
        if self.proper:
            sign = torch.linalg.det(axes).round()[..., None, None]
            axes = torch.cat([axes[..., :-1, :], axes[..., -1:, :] * sign], -2)
        return axes

    def _shares(self, mass: Tensor, along: Tensor) -> Tensor:
        """Return the weight of each element: `(element,)` for a shared cloud, `(batch, element)`."""
        signs = self.signs.to(along)
        if self.method == "frame":
            return along.new_full((*along.shape[:-2], len(signs)), 1 / len(signs))
        third, scale = (mass * along.pow(3)).sum(-2), (mass * along.abs().pow(3)).sum(-2)
        scores = (third / torch.where(scale > 0, scale, torch.ones_like(scale))) @ signs.T
        best = (scores >= scores.amax(-1, keepdim=True) - _TIE).to(scores)
        return best / best.sum(-1, keepdim=True)


@dataclass(frozen=True)
class PointLook:
    """A cloud seen in its poses; `weights` is `(batch, element)`, with rows of sum one."""

    weights: Tensor
    turns: Tensor
    centre: Tensor
    poses: PointPoses
    model: Callable
    values: Tensor
    coords: Tensor
    query_coords: Tensor | None
    options: dict[str, Any]

    @property
    def shared(self) -> bool:
        """Whether all samples are on one cloud."""
        return self.turns.ndim == 3

    def draw(self) -> Tensor:
        """Return the output in a pose drawn for each cloud."""
        if self.shared:
            return self.at(int(torch.multinomial(self.weights[0], 1)))
        return self.at_each(torch.multinomial(self.weights, 1)[:, 0])

    def at(self, element: int) -> Tensor:
        """Return the output of the model in one pose, turned back."""
        return self._at(self.turns[..., element, :, :])

    def at_each(self, elements: Tensor) -> Tensor:
        """Return the output with a pose for each of as many clouds: `elements` is `(batch,)`."""
        return self._at(self.turns[torch.arange(len(elements), device=elements.device), elements])

    def _at(self, turn: Tensor) -> Tensor:
        def place(points: Tensor) -> Tensor:
            return ((points.double() - self.centre) @ turn.mT).to(points)

        poses = self.poses
        values = self.values @ channel_matrix(poses.in_kinds, turn).mT.to(self.values)
        query = None if self.query_coords is None else place(self.query_coords)
        y = self.model(values, place(self.coords), query, **self.options)
        return y @ channel_matrix(poses.out_kinds, turn).to(y)
