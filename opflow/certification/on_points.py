"""Checks of models of fields at the points of a cloud."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import torch
from torch import Tensor, nn

from opflow.certification.certificate import Measured
from opflow.certification.inputs import domain_of, in_physical_units, jittered_points, scattered_fields
from opflow.metrics.errors import relative_l2
from opflow.nn.point_poses import POINT_GROUPS, PointPoses
from opflow.nn.representations import channel_matrix, resolve_kinds
from opflow.operators.symmetrize import Symmetrize

_TURNS = 3  # random elements of a continuous group
MESHES = (12, 24)  # points per axis


def takes_points(model: nn.Module) -> bool:
    """Whether a model is called with the coordinates of points."""
    if isinstance(model, Symmetrize):
        return isinstance(model.poses, PointPoses)
    return "coords" in inspect.signature(model.forward).parameters


@final
@dataclass(frozen=True)
class Cloud:
    """Values `(batch, point, channel)` at coordinates `(point, dim)` with quadrature weights."""

    values: Tensor
    coords: Tensor
    weights: Tensor | None

    def at(self, values: Tensor) -> "Cloud":
        """Return other values at the same points, in their dtype."""
        weights = None if self.weights is None else self.weights.to(values)
        return Cloud(values, self.coords.to(values), weights)

    def through(self, model: nn.Module, query: Tensor | None = None) -> Tensor:
        """Apply a model, whose output is wanted at `query`, or at the points."""
        inner: Any = _inner(model)
        options: dict[str, Any] = {}
        if self.weights is not None and "weights" in inspect.signature(inner.forward).parameters:
            options["weights"] = self.weights
        if getattr(inner, "timed", False):
            options["time"] = 0.5
        return model(self.values, self.coords, query, **options)


def sampled(model: nn.Module, channels: int, per_axis: Sequence[int], like: Tensor) -> Cloud:
    """Sample random functions at one random point in each cell of a box, in the domain of a model."""
    return _sampled_at(model, channels, *jittered_points(per_axis, like))


def _sampled_at(model: nn.Module, channels: int, unit: Tensor, weights: Tensor) -> Cloud:
    """Sample functions of the unit cube, and stretch it to the domain of a model."""
    values = in_physical_units(scattered_fields(channels, unit, unit), model, 2)
    box = domain_of(_inner(model), unit.shape[1])
    volume = 1.0 if box is None else float((box[:, 1] - box[:, 0]).prod())
    return Cloud(values, _stretched(model, unit), weights * volume)


def _stretched(model: nn.Module, unit: Tensor) -> Tensor:
    box = domain_of(_inner(model), unit.shape[1])
    if box is None:
        return unit
    low, high = box.to(unit.device).T
    return (low + (high - low) * unit.double()).to(unit)


def _inner(model: nn.Module) -> nn.Module:
    return model.model if isinstance(model, Symmetrize) else model


def oblong(n_dim: int) -> list[int]:
    """Return points per axis that differ from axis to axis."""
    return [12, 9, 6][:n_dim]


def n_dim_of(model: nn.Module, group: str | None) -> int:
    """Return the number of coordinates of the points that a model takes."""
    if isinstance(model, Symmetrize):
        return n_dim_of(model.model, model.group)
    return getattr(model, "coord_dim", None) or (POINT_GROUPS[group][0] if group in POINT_GROUPS else 2)


def equivariance(model: nn.Module, cloud: Cloud, group: str, kinds: Sequence) -> Iterator[Measured]:
    """Measure some random elements of a group, each followed by a translation.

    For a model with a domain, the cloud is first brought to a size that stays inside.
    """
    n_dim, proper = POINT_GROUPS[group]
    cloud, middle, longest = _with_room(model, cloud)
    noise = torch.Generator().manual_seed(0)
    y = cloud.through(model)
    kinds_in = resolve_kinds("in_kinds", kinds[0], cloud.values.shape[-1], n_dim)
    kinds_out = resolve_kinds("out_kinds", kinds[1], y.shape[-1], n_dim)
    for number in range(_TURNS):
        turn, _ = torch.linalg.qr(torch.randn(n_dim, n_dim, generator=noise, dtype=torch.float64))
        # Of those with reflections, every other one has none.
        wanted = 1.0 if proper or number % 2 else -1.0
        turn[0] *= wanted * torch.linalg.det(turn).sign()
        shift = longest * torch.rand(n_dim, generator=noise, dtype=torch.float64).to(y.device)
        turn = turn.to(y.device)
        coords = ((cloud.coords.double() - middle) @ turn.T + middle + shift).to(y)
        rho = [channel_matrix(of, turn).T.to(y) for of in (kinds_in, kinds_out)]
        turned = Cloud(cloud.values @ rho[0], coords, cloud.weights).through(model)
        what = "rotation" if wanted > 0 else "reflection, rotation"
        error = relative_l2((y @ rho[1]).mT, turned.mT).max().item()
        yield Measured("equivariance", f"{group}: {what} {number + 1}, and translation", error)


def _with_room(model: nn.Module, cloud: Cloud) -> tuple[Cloud, Tensor, float]:
    """Return a cloud, the point that it may be turned about, and how far it may go along each axis."""
    points = cloud.coords.double()
    box = domain_of(_inner(model), points.shape[-1])
    if box is None:
        return cloud, points.new_zeros(points.shape[-1]), 1.0
    box = box.to(points.device)
    middle, room = box.mean(1), float((box[:, 1] - box[:, 0]).min()) / 2
    flat = points.flatten(0, -2)
    around = points - (flat.amin(0) + flat.amax(0)) / 2
    coords = middle + 0.8 * room * around / around.norm(dim=-1).max()
    return replace(cloud, coords=coords.to(cloud.coords)), middle, 0.2 * room


def permutation(model: nn.Module, cloud: Cloud) -> Iterator[Measured]:
    """Measure another order of the points, with the output at the points and at others."""
    order = torch.randperm(len(cloud.coords), generator=torch.Generator().manual_seed(0))
    order = order.to(cloud.coords.device)
    weights = None if cloud.weights is None else cloud.weights[order]
    mixed = Cloud(cloud.values[:, order], cloud.coords[order], weights)
    y, again = cloud.through(model), mixed.through(model)
    error = relative_l2(again.mT, y[:, order].mT).max().item()
    yield Measured("permutation", "points in another order", error)
    query = cloud.coords[::3].contiguous()
    y, again = cloud.through(model, query), mixed.through(model, query)
    error = relative_l2(again.mT, y.mT).max().item()
    yield Measured("permutation", "points in another order, at queries", error)


def mesh(
    model: nn.Module, channels: int, ladder: Sequence[int], n_dim: int, like: Tensor
) -> Iterator[Measured]:
    """Measure meshes of a ladder against the finest, and twice the points in one half of the domain."""
    query = _stretched(model, jittered_points([6] * n_dim, like)[0])
    *coarser, finest = sorted(ladder)
    y = sampled(model, channels, [finest] * n_dim, like).through(model, query)
    for n in coarser:
        error = relative_l2(sampled(model, channels, [n] * n_dim, like).through(model, query).mT, y.mT)
        what = f"mesh of {n**n_dim} points, against {finest**n_dim}"
        yield Measured("mesh", what, error.max().item())
    halves = []
    for side, n in enumerate((finest, 2 * finest)):
        coords, weights = jittered_points([n, *[finest] * (n_dim - 1)], like)
        inside = (coords[:, 0] >= 0.5) == bool(side)
        halves.append((coords[inside], weights[inside]))
    coords, weights = (torch.cat(parts) for parts in zip(*halves))
    error = relative_l2(_sampled_at(model, channels, coords, weights).through(model, query).mT, y.mT)
    yield Measured("mesh", "twice the points in one half", error.max().item())
