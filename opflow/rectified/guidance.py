"""Classifier-free guidance: a condition that is left out now and then, and stressed later."""

from collections.abc import Callable

import torch
from torch import Tensor


def drop(
    condition: Tensor, probability: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Leave out the condition of some samples, for training.

    Args:
        condition: `(batch, ...)`.
        probability: share of the samples without, in [0, 1).
        generator: where the random numbers come from.

    Returns:
        The condition, zero where it is left out, and whether it is there, `(batch,)`, one or zero.

    Raises:
        ValueError: the probability is out of range.

    Example:
        >>> condition, there = drop(torch.ones(1000, 2), 0.1, torch.Generator().manual_seed(0))
        >>> torch.equal(condition[:, 0], there), 0.85 < float(there.mean()) < 0.95
        (True, True)
    """
    require_dropout(probability)
    there = torch.rand(len(condition), generator=generator, device=condition.device) >= probability
    there = there.to(condition)
    return condition * there.reshape(-1, *(1,) * (condition.ndim - 1)), there


def require_dropout(probability: float) -> None:
    """Refuse a probability that is none, or certainty."""
    if not 0 <= probability < 1:
        raise ValueError(f"dropout={probability} must be in [0, 1): the share of samples without condition")


def guided(velocity: Callable[[Tensor, Tensor], Tensor], condition: Tensor, scale: float) -> Tensor:
    r"""Velocity towards a condition, :math:`v_0 + s (v_c - v_0)`, in one call of twice the batch.

    Args:
        velocity: a function of a condition `(2 batch, ...)` and of whether it is there `(2 batch,)`.
        condition: `(batch, ...)`.
        scale: s; 1 is the velocity of the condition, 0 that without it.

    Source: Ho, Salimans, Classifier-Free Diffusion Guidance, 2022; for flows Zheng et al., Guided Flows,
    2023.

    Example:
        >>> guided(lambda c, there: there[:, None] * c, torch.ones(1, 1), scale=2.0)
        tensor([[2.]])
    """
    there = condition.new_ones(len(condition))
    if scale == 1:
        return velocity(condition, there)
    both = velocity(torch.cat([condition, torch.zeros_like(condition)]), torch.cat([there, 0 * there]))
    given, without = both.chunk(2)
    return without + scale * (given - without)
