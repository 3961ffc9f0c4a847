"""The corner tap of causal kernels, by whose inverse all others are multiplied before a recurrence starts."""

import torch
from torch import Tensor


def divide_by_corner(weight: Tensor, groups: int) -> Tensor:
    r"""Return :math:`A^{-1} W` as `(groups, c, c, *k)`, with :math:`A^{-1}` in place of the corner.

    Computed in float64 on devices that have it, so that a badly scaled corner costs no digits.

    Args:
        weight: kernel `(groups * c, c, *k)`.
        groups: blocks of channels that do not mix.

    Raises:
        ValueError: a weight is not finite, or a corner is singular.

    Example:
        >>> divide_by_corner(torch.tensor([[[3.0, 2.0]]]), 1)
        tensor([[[[1.5000, 0.5000]]]])
    """
    c = weight.shape[1]
    precise = weight if weight.device.type == "mps" else weight.double()
    taps = precise.reshape(groups, c, c, -1)
    lu, pivots, _ = torch.linalg.lu_factor_ex(taps[..., -1])
    right = taps.clone()
    right[..., -1] = torch.eye(c, dtype=taps.dtype, device=taps.device)
    taps = torch.linalg.lu_solve(lu, pivots, right.flatten(2)).view(right.shape)
    diagonal = lu.diagonal(dim1=-2, dim2=-1).abs()
    ratio = diagonal.amin(-1) / diagonal.amax(-1)  # NaN for a corner of zeros
    if not bool((ratio > c * torch.finfo(taps.dtype).eps).all() & taps.isfinite().all()):
        _refuse(weight, ratio)
    return taps.to(weight.dtype).view(groups, c, *weight.shape[1:])


def _refuse(weight: Tensor, ratio: Tensor) -> None:
    ratio = ratio.nan_to_num(0)
    finite = weight.isfinite()
    if not finite.all():
        raise ValueError(
            f"{int((~finite).sum())} of the {weight.numel()} weights of the causal kernel are not finite, so "
            "training has diverged: go back to a checkpoint and lower the learning rate, or bound the gain "
            "of the inverse"
        )
    raise ValueError(
        f"the corner tap weight[..., -1, -1] of group {int(ratio.argmin())} is singular: its smallest pivot "
        f"is {float(ratio.amin()):.1e} of the largest. Parametrise the corner so that it stays invertible, "
        "e.g. triangular with a positive diagonal"
    )
