"""How long a rollout stays with the truth."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from opflow.metrics._checks import norm, pair, ratio
from opflow.metrics.errors import relative_l2


def rollout_error(prediction: Tensor, target: Tensor, metric: Callable = relative_l2) -> Tensor:
    """Error against time: `metric` at every step of a rollout.

    Args:
        prediction: `(batch, step, channel, *space)`.
        target: the same shape.
        metric: a function of two `(batch, channel, *space)` fields that returns `(batch,)`.

    Returns:
        `(batch, step)`.

    Raises:
        ValueError: the shapes differ, or there is no space axis.

    Example:
        >>> truth = torch.ones(1, 3, 1, 4)
        >>> growth = torch.tensor([1.0, 1.25, 1.5]).reshape(1, 3, 1, 1)
        >>> rollout_error(growth * truth, truth)
        tensor([[0.0000, 0.2500, 0.5000]])
    """
    prediction, target = pair(prediction, target, 4, "(batch, step, channel, *space)")
    return metric(prediction.flatten(0, 1), target.flatten(0, 1)).unflatten(0, prediction.shape[:2])


def correlation(prediction: Tensor, target: Tensor) -> Tensor:
    r"""Pearson correlation over channels and space at every step of a rollout.

    :math:`\langle p' y' \rangle / \sqrt{\langle p'^2 \rangle \langle y'^2 \rangle}`, primes being
    deviations from the mean; zero where a field is constant.

    Args:
        prediction: `(batch, step, channel, *space)`.
        target: the same shape.

    Returns:
        `(batch, step)`, between -1 and 1.

    Raises:
        ValueError: the shapes differ, or there is no space axis.

    Example:
        >>> y = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3)
        >>> float(correlation(5 - 2 * y, y).round(decimals=5))
        -1.0
    """
    prediction, target = pair(prediction, target, 4, "(batch, step, channel, *space)")
    p, y = prediction.flatten(2), target.flatten(2)
    p, y = p - p.mean(2, keepdim=True), y - y.mean(2, keepdim=True)
    return ratio((p * y).sum(2), norm(p, (2,)) * norm(y, (2,)))


def correlation_time(
    prediction: Tensor, target: Tensor, times: Sequence[float] | Tensor, threshold: float = 0.8
) -> Tensor:
    """Time at which the correlation of a rollout with the truth first falls below a threshold.

    Between steps the correlation is interpolated linearly; at time zero, where the rollout starts from the
    truth, it is one. A rollout that never falls below has `inf`; one with a correlation that is not a
    number has fallen below.

    Args:
        prediction: `(batch, step, channel, *space)`.
        target: the same shape.
        times: `(step,)`, since the initial state; positive and increasing.
        threshold: below one.

    Returns:
        `(batch,)`, in the unit of `times`.

    Raises:
        ValueError: the shapes differ, `times` does not fit them or does not increase, or `threshold` is not
            below one.

    Example:
        >>> truth = torch.tensor([1.0, -1.0]).expand(1, 2, 1, 2)
        >>> correlation_time(truth * torch.tensor([1.0, -1.0]).reshape(1, 2, 1, 1), truth, [1.0, 2.0], 0.5)
        tensor([1.2500])
    """
    if threshold >= 1:
        raise ValueError(f"threshold must be below 1, the correlation at the start, got {threshold}")
    values = correlation(prediction, target).nan_to_num(-1.0)
    at = torch.as_tensor(times, dtype=values.dtype, device=values.device)
    if at.shape != values.shape[1:]:
        raise ValueError(f"times needs one entry per step ({values.shape[1]}), got shape {tuple(at.shape)}")
    at = torch.cat([at.new_zeros(1), at])
    if not (at.diff() > 0).all():
        raise ValueError(f"times must be positive and increase, got {at[1:].tolist()}")
    values = torch.cat([values.new_ones(len(values), 1), values], dim=1)
    below = values < threshold
    first = below.int().argmax(1).clamp_min(1)[:, None]
    before, after = values.gather(1, first - 1)[:, 0], values.gather(1, first)[:, 0]
    start, end = at[first - 1][:, 0], at[first][:, 0]
    crossing = start + (end - start) * (before - threshold) / (before - after)
    return torch.where(below.any(1), crossing, torch.full_like(crossing, torch.inf))
