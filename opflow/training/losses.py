"""Relative losses: scalars that do not change with units or resolution."""

from collections.abc import Callable, Sequence, Sized
from typing import Any, cast

import torch
from torch import Tensor

from pde_data import MeshDataset, PointBatch


class RelativeL2:
    r"""Relative L2 error, mean over samples and channels.

    :math:`\frac{1}{BC} \sum_{b,c} \|p_{bc} - y_{bc}\|_2 / \|y_{bc}\|_2`, the norms over space (the weights
    of a uniform grid cancel). A channel whose target is zero everywhere counts :math:`\|p\|_2`. The same
    ratio as `neuralop.LpLoss.rel`, which sums it over samples and channels.

    Example:
        >>> y = torch.ones(2, 1, 8, 8)
        >>> RelativeL2()(1.5 * y, y)
        tensor(0.5000)
    """

    def __call__(self, prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the loss of `(batch, channel, *space)`; quadrature weights are `(batch, *space)`."""
        if weights is not None:
            root = weights.sqrt()[:, None]
            prediction, target = root * prediction, root * target
        return _RelativeError.apply(prediction, target, (), ())


class RelativeH1:
    r"""Relative H1 error, mean over samples and channels: slopes count, so small scales are learnt.

    With :math:`e = p - y`,
    :math:`\frac{1}{BC} \sum_{b,c} \sqrt{\|e\|^2 + \|\nabla e\|^2} / \sqrt{\|y\|^2 + \|\nabla y\|^2}`.
    Gradients are second-order central differences, one-sided at the ends of axes that are not periodic. The
    same ratio as `neuralop.H1Loss.rel` on periodic axes, which sums it over samples and channels.

    Args:
        lengths: side of the box along each axis, one number for all; 1 by default.
        periodic: whether the axes wrap around, one answer or one per axis.
        endpoint: whether the last point of a non-periodic axis lies on the boundary, so that `n` points
            make `n - 1` intervals.

    Example:
        >>> y = torch.sin(2 * torch.pi * torch.arange(64) / 64).reshape(1, 1, 64)
        >>> RelativeH1()(1.1 * y, y)
        tensor(0.1000)
    """

    def __init__(
        self,
        lengths: float | Sequence[float] = 1.0,
        periodic: bool | Sequence[bool] = True,
        endpoint: bool = False,
    ):
        self.lengths, self.periodic, self.endpoint = lengths, periodic, endpoint

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of `(batch, channel, *space)`."""
        sizes = target.shape[2:]
        lengths = self.lengths if isinstance(self.lengths, Sequence) else [self.lengths] * len(sizes)
        periodic = self.periodic if isinstance(self.periodic, Sequence) else [self.periodic] * len(sizes)
        if not len(lengths) == len(periodic) == len(sizes):
            raise ValueError(
                f"the H1 loss was made for lengths={self.lengths} and periodic={self.periodic}, one entry "
                f"per space axis, got a field of shape {tuple(target.shape)}"
            )
        intervals = [n - 1 if self.endpoint and not wraps else n for n, wraps in zip(sizes, periodic)]
        slopes = tuple(n / (2 * length) for n, length in zip(intervals, lengths))
        return _RelativeError.apply(prediction, target, slopes, tuple(periodic))


class _RelativeError(torch.autograd.Function):
    r"""Mean of :math:`\|p - y\| / \|y\|` with :math:`\|u\|^2 = |u|^2 + \sum_a |s_a D_a u|^2`.

    `D_a u` are the differences of next and previous point along axis `a`, `s_a = 1 / (2 h_a)`; without axes
    it is the L2 norm. One function with its gradient written out, because autograd pads every slice of a
    difference with zeros to full size: this takes half the time.
    """

    @staticmethod
    def forward(ctx, prediction, target, slopes, periodic):
        if ctx.needs_input_grad[1]:
            raise ValueError("relative losses have a gradient for the prediction only; detach the target")
        error = prediction - target
        size, differences = _norm(error, slopes, periodic)
        scale, _ = _norm(target, slopes, periodic)
        # A channel whose target vanishes has no relative error; it counts its absolute one.
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        ctx.save_for_backward(error, size * scale, *differences)
        ctx.slopes, ctx.periodic = slopes, periodic
        return (size / scale).mean()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        error, sizes, *differences = ctx.saved_tensors
        total = error.clone()
        for axis, (d, slope, wraps) in enumerate(zip(differences, ctx.slopes, ctx.periodic), start=2):
            _add_adjoint_difference(total, d, axis, wraps, slope**2)
        # No error, no slope: the subgradient zero.
        factor = torch.where(sizes > 0, gradient / (sizes.numel() * sizes), torch.zeros_like(sizes))
        return total.mul_(factor.reshape(factor.shape + (1,) * (total.ndim - 2))), None, None, None


def _norm(u: Tensor, slopes: tuple[float, ...], periodic: tuple[bool, ...]) -> tuple[Tensor, list[Tensor]]:
    """Return the norms `(batch, channel)`, and the differences they are made of."""
    size = torch.linalg.vector_norm(u.flatten(2), dim=2)
    differences = []
    for axis, (slope, wraps) in enumerate(zip(slopes, periodic), start=2):
        differences.append(_difference(u, axis, wraps))
        size = torch.hypot(size, slope * torch.linalg.vector_norm(differences[-1].flatten(2), dim=2))
    return size, differences


def _difference(u: Tensor, axis: int, periodic: bool) -> Tensor:
    """Next point less previous point along an axis; one-sided of second order at the ends of an open one."""
    n = u.shape[axis]
    inner = u.narrow(axis, 2, n - 2) - u.narrow(axis, 0, n - 2)
    if periodic:
        first = u.narrow(axis, 1, 1) - u.narrow(axis, n - 1, 1)
        last = u.narrow(axis, 0, 1) - u.narrow(axis, n - 2, 1)
    else:
        first = 4 * u.narrow(axis, 1, 1) - 3 * u.narrow(axis, 0, 1) - u.narrow(axis, 2, 1)
        last = 3 * u.narrow(axis, n - 1, 1) - 4 * u.narrow(axis, n - 2, 1) + u.narrow(axis, n - 3, 1)
    return torch.cat((first, inner, last), axis)


def _add_adjoint_difference(total: Tensor, d: Tensor, axis: int, periodic: bool, factor: float) -> None:
    """Add `factor` times the transpose of `_difference`, applied to `d`."""
    n = d.shape[axis]
    inner, first, last = d.narrow(axis, 1, n - 2), d.narrow(axis, 0, 1), d.narrow(axis, n - 1, 1)
    terms = [(2, n - 2, inner, 1), (0, n - 2, inner, -1)]
    if periodic:
        terms += [(1, 1, first, 1), (n - 1, 1, first, -1), (0, 1, last, 1), (n - 2, 1, last, -1)]
    else:
        terms += [(0, 1, first, -3), (1, 1, first, 4), (2, 1, first, -1)]
        terms += [(n - 1, 1, last, 3), (n - 2, 1, last, -4), (n - 3, 1, last, 1)]
    for start, length, values, sign in terms:
        total.narrow(axis, start, length).add_(values, alpha=sign * factor)


def _h1_on(grid: Any) -> RelativeH1:
    if grid is None:
        return RelativeH1()
    return RelativeH1(grid.lengths, grid.periodic, endpoint=grid.location == "node")


LOSSES: dict[str, Callable[[Any], Callable[[Tensor, Tensor], Tensor]]] = {
    "l2": lambda grid: RelativeL2(),
    "h1": _h1_on,
}
"""Losses by name: functions of a `pde_data.Grid`, or None, that return `(prediction, target) -> scalar`."""


def make_loss(loss: str | Callable, dataset: Any = None) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the loss of a name, on the grid of a data set where it has one (a periodic unit box otherwise).

    Raises:
        ValueError: there is no loss of that name, or it needs a grid where there are scattered points.
    """
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"there is no loss {loss!r}; choose one of {', '.join(LOSSES)}, or give a function")
    if loss != "l2" and _lies_on_points(dataset):
        raise ValueError(
            f"the loss {loss!r} takes differences along the axes of a grid, and these data lie at the nodes "
            "of meshes: use loss='l2'"
        )
    return LOSSES[loss](getattr(dataset, "grid", None))


def _lies_on_points(dataset: Any) -> bool:
    if isinstance(dataset, MeshDataset):
        return True
    if getattr(dataset, "grid", None) is not None or not (isinstance(dataset, Sized) and len(dataset)):
        return False
    return hasattr(dataset, "__getitem__") and isinstance(cast(Any, dataset)[0], PointBatch)
