"""Conditions of a flow, as users give them."""

import torch
from torch import Tensor

from opflow.kernels.backend import is_eager


def as_batch(
    cond: Tensor | int | None, condition: int | tuple[int, ...] | None, n: int, like: Tensor
) -> Tensor | None:
    """Return the condition of each of n samples, on the device and in the dtype of the weights.

    Args:
        cond: what the user gave, with a batch axis or without.
        condition: what the flow was built for.
        n: number of samples.
        like: a weight of the flow.

    Raises:
        ValueError: there is none but should be, or the other way round; shapes or labels do not fit.

    Example:
        >>> as_batch(3, 10, 2, torch.zeros(1)).tolist()
        [3, 3]
        >>> as_batch(torch.tensor([3, 4, 5]), 10, 2, torch.zeros(1))
        Traceback (most recent call last):
            ...
        ValueError: 2 samples need as many conditions or one without a batch axis, got 3
    """
    if condition is None:
        if cond is not None:
            raise ValueError("this flow has no condition: leave cond out, or build it with condition=...")
        return None
    if cond is None:
        raise ValueError(f"this flow was built with condition={condition}: pass cond")
    cond = torch.as_tensor(cond, device=like.device)
    shape = () if isinstance(condition, int) else tuple(condition)
    if tuple(cond.shape) == shape:
        cond = cond.expand(n, *shape)
    if tuple(cond.shape[1:]) != shape or cond.ndim != len(shape) + 1:
        raise ValueError(
            f"this flow was built with condition={condition}: cond should have shape (batch, "
            f"{', '.join(map(str, shape))}), got {tuple(cond.shape)}"
        )
    if len(cond) != n:
        raise ValueError(f"{n} samples need as many conditions or one without a batch axis, got {len(cond)}")
    if not isinstance(condition, int):
        return cond.to(like.dtype)
    if cond.is_floating_point() or (
        is_eager(cond) and n and not 0 <= int(cond.min()) <= int(cond.max()) < condition
    ):
        raise ValueError(
            f"this flow has {condition} classes: cond holds integers from 0 to {condition - 1}, got "
            f"{cond.dtype} between {cond.min().item() if n else 0} and {cond.max().item() if n else 0}"
        )
    return cond.long()


def from_pair(x: Tensor, condition: int | tuple[int, ...] | None) -> Tensor | None:
    """Return the condition that the first member of a pair of training data is; labels come as numbers.

    Raises:
        ValueError: a flow over classes is given something else than one number per sample.

    Example:
        >>> from_pair(torch.tensor([[3.0], [4.0]]), 10)
        tensor([3, 4])
    """
    if condition is None or not isinstance(condition, int):
        return None if condition is None else x
    if x.shape[1:].numel() != 1:
        raise ValueError(
            f"this flow has {condition} classes: pairs begin with one label, got {tuple(x.shape[1:])}"
        )
    return x.flatten().round().long()
