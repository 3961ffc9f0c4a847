"""Errors of a field against the true one, one number per sample."""

from collections.abc import Sequence

import torch
from torch import Tensor

from opflow.metrics._checks import norm, pair, per_axis, ratio


def relative_l2(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    r"""Relative L2 error per sample: :math:`\|p - y\|_2 / \|y\|_2` over space, mean over channels.

    The grid weights cancel, so the number does not depend on the resolution. Equal to
    `neuralop.LpLoss(d, p=2, reduction="mean")` averaged over the batch, up to its `eps`. A channel whose
    target is zero everywhere counts :math:`\|p\|_2`.

    Args:
        prediction: `(batch, channel, *space)`.
        target: the same shape.
        weights: quadrature weights `(batch, *space)` where points lie unevenly; all alike when None.

    Returns:
        `(batch,)`.

    Raises:
        ValueError: the shapes differ, or there is no space axis.

    Example:
        >>> y = torch.ones(2, 1, 8, 8)
        >>> relative_l2(1.5 * y, y)
        tensor([0.5000, 0.5000])
    """
    prediction, target = pair(prediction, target, 3, "(batch, channel, *space)")
    root = 1.0 if weights is None else _measure(weights, target).sqrt()
    space = tuple(range(2, target.ndim))
    return ratio(norm(root * (prediction - target), space), norm(root * target, space)).mean(1)


def relative_h1(
    prediction: Tensor,
    target: Tensor,
    spacing: float | Sequence[float] | None = None,
    periodic: bool | Sequence[bool] = True,
) -> Tensor:
    r"""Relative H1 error per sample, mean over channels.

    :math:`\sqrt{\|e\|^2 + \|\nabla e\|^2} / \sqrt{\|y\|^2 + \|\nabla y\|^2}` with :math:`e = p - y`. The
    gradient is taken by second-order central differences, which wrap around on periodic axes and are
    one-sided of second order at the ends of the others. Equal to `neuralop.H1Loss(d, reduction="mean")` on
    periodic axes, up to its `eps`.

    Args:
        prediction: `(batch, channel, *space)`.
        target: the same shape.
        spacing: distance of grid points, one number or one per axis; by default one over the number of
            points of the axis, a box of side one.
        periodic: whether an axis is periodic, one answer or one per axis.

    Returns:
        `(batch,)`.

    Raises:
        ValueError: the shapes differ, there is no space axis, or `spacing` or `periodic` has the wrong
            length.

    Example:
        >>> x = torch.arange(64, dtype=torch.float64) / 64
        >>> y = torch.sin(2 * torch.pi * x).reshape(1, 1, 64)
        >>> float(relative_h1(1.1 * y, y).round(decimals=12))
        0.1
    """
    prediction, target = pair(prediction, target, 3, "(batch, channel, *space)")
    sizes = target.shape[2:]
    steps = per_axis([1 / n for n in sizes] if spacing is None else spacing, len(sizes), "spacing")
    wraps = per_axis(periodic, len(sizes), "periodic")
    space = tuple(range(2, target.ndim))

    def square(u: Tensor) -> Tensor:
        total = norm(u, space).square()
        for axis, (h, wrap) in enumerate(zip(steps, wraps), start=2):
            total = total + norm(_derivative(u, axis, h, wrap), space).square()
        return total

    return ratio(square(prediction - target).sqrt(), square(target).sqrt()).mean(1)


def _derivative(u: Tensor, axis: int, h: float, periodic: bool) -> Tensor:
    if periodic:
        return (u.roll(-1, axis) - u.roll(1, axis)) / (2 * h)
    return torch.gradient(u, spacing=h, dim=axis, edge_order=2)[0]


def nrmse(prediction: Tensor, target: Tensor, eps: float = 1e-7, weights: Tensor | None = None) -> Tensor:
    r"""Root mean square error over the root mean square of the target, per sample, mean over channels.

    :math:`\sqrt{\langle (p-y)^2 \rangle / (\langle y^2 \rangle + \epsilon)}`, brackets being means over
    space: the definition of The Well (Ohana et al. 2024).

    Args:
        prediction: `(batch, channel, *space)`.
        target: the same shape.
        eps: keeps the quotient finite for a target of zero.
        weights: quadrature weights `(batch, *space)` where points lie unevenly; all alike when None.

    Returns:
        `(batch,)`.

    Raises:
        ValueError: the shapes differ, or there is no space axis.

    Example:
        >>> y = torch.ones(1, 1, 4)
        >>> float(nrmse(3 * y, y).round(decimals=4))
        2.0
    """
    prediction, target = pair(prediction, target, 3, "(batch, channel, *space)")
    error, scale = _mean((prediction - target).square(), weights), _mean(target.square(), weights)
    return (error / (scale + eps)).sqrt().mean(1)


def vrmse(prediction: Tensor, target: Tensor, eps: float = 1e-7, weights: Tensor | None = None) -> Tensor:
    r"""Root mean square error over the standard deviation of the target, per sample, mean over channels.

    :math:`\sqrt{\langle (p-y)^2 \rangle / (\langle (y - \langle y \rangle)^2 \rangle + \epsilon)}`: the
    main score of The Well (Ohana et al. 2024). To predict the mean of the target scores one.

    Args:
        prediction: `(batch, channel, *space)`.
        target: the same shape.
        eps: keeps the quotient finite for a constant target.
        weights: quadrature weights `(batch, *space)` where points lie unevenly; all alike when None.

    Returns:
        `(batch,)`.

    Raises:
        ValueError: the shapes differ, or there is no space axis.

    Example:
        >>> y = torch.tensor([[[9.0, 11.0, 9.0, 11.0]]])
        >>> float(vrmse(torch.full_like(y, 10.0), y).round(decimals=4))
        1.0
    """
    prediction, target = pair(prediction, target, 3, "(batch, channel, *space)")
    error = _mean((prediction - target).square(), weights)
    mean = _mean(target, weights)[(..., *(None,) * (target.ndim - 2))]
    scale = _mean((target - mean).square(), weights)
    return (error / (scale + eps)).sqrt().mean(1)


def _mean(u: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean over space `(batch, channel)`."""
    space = tuple(range(2, u.ndim))
    if weights is None:
        return u.mean(space)
    measure = _measure(weights, u)
    return (measure * u).sum(space) / measure.sum(space)


def _measure(weights: Tensor, u: Tensor) -> Tensor:
    expected = (u.shape[0], *u.shape[2:])
    if weights.shape != expected:
        raise ValueError(f"weights need the shape (batch, *space), {expected}, got {tuple(weights.shape)}")
    return weights[:, None]
