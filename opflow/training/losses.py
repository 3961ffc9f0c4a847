"""Relative losses: scalars that do not change with units or resolution."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def _mean_ratio(error: Tensor, scale: Tensor) -> Tensor:
    # A channel whose target vanishes has no relative error; it counts its absolute one.
    return (error / torch.where(scale > 0, scale, torch.ones_like(scale))).mean()


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

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Return the loss of `(batch, channel, *space)`."""
        return _mean_ratio(_norm(prediction - target), _norm(target))


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
        return _mean_ratio(self._norm(prediction - target), self._norm(target))

    def _norm(self, u: Tensor) -> Tensor:
        n_dim = u.ndim - 2
        lengths = self.lengths if isinstance(self.lengths, Sequence) else [self.lengths] * n_dim
        periodic = self.periodic if isinstance(self.periodic, Sequence) else [self.periodic] * n_dim
        if len(lengths) != n_dim or len(periodic) != n_dim:
            raise ValueError(
                f"the H1 loss was made for {max(len(lengths), len(periodic))} space axes, got a field of "
                f"shape {tuple(u.shape)}"
            )
        parts = [_norm(u)]
        for axis, (length, wraps) in enumerate(zip(lengths, periodic), start=2):
            n = u.shape[axis]
            h = length / (n - 1 if self.endpoint and not wraps else n)
            parts.append(_norm(_difference(u, axis, wraps)) / (2 * h))
        return torch.linalg.vector_norm(torch.stack(parts), dim=0)


def _norm(u: Tensor) -> Tensor:
    return torch.linalg.vector_norm(u.flatten(2), dim=2)


def _difference(u: Tensor, axis: int, periodic: bool) -> Tensor:
    """Return `2 h` times the derivative along an axis."""
    n = u.shape[axis]
    inner = u.narrow(axis, 2, n - 2) - u.narrow(axis, 0, n - 2)
    if periodic:
        before, after = u.narrow(axis, n - 1, 1), u.narrow(axis, 0, 1)
        first, last = u.narrow(axis, 1, 1) - before, after - u.narrow(axis, n - 2, 1)
    else:
        a, b, c = (u.narrow(axis, i, 1) for i in (0, 1, 2))
        first = 4 * b - 3 * a - c
        a, b, c = (u.narrow(axis, n - i, 1) for i in (1, 2, 3))
        last = 3 * a - 4 * b + c
    return torch.cat((first, inner, last), axis)


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
        ValueError: there is no loss of that name.
    """
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"there is no loss {loss!r}; choose one of {', '.join(LOSSES)}, or give a function")
    return LOSSES[loss](getattr(dataset, "grid", None))
