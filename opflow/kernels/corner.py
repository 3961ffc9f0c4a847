"""The corner tap of causal kernels, by whose inverse all others are multiplied before a recurrence starts."""

import torch
from torch import Tensor

from opflow.kernels.backend import runs_compiled

_WIDEST = 32  # channels of a group, up to which the calls of the library cost more than its blocks save


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
    recorded = weight.requires_grad and torch.is_grad_enabled()
    if runs_compiled(weight) and weight.shape[1] <= _WIDEST and not recorded:
        from opflow.kernels.cpu import corner as cpu

        taps, ratio = cpu.divide(weight.contiguous(), groups)
    else:
        taps, ratio = _divide(weight, groups)
    # Not a number: the taps are not finite, or the corner is all zeros.
    if not bool((ratio > weight.shape[1] * torch.finfo(ratio.dtype).eps).all()):
        _refuse(weight, ratio)
    return taps


def _divide(weight: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return the taps, and the smallest over the largest pivot of each group."""
    c = weight.shape[1]
    precise = weight if weight.device.type == "mps" else weight.double()
    taps = precise.reshape(groups, c, c, -1)
    lu, pivots, _ = torch.linalg.lu_factor_ex(taps[..., -1])
    right = taps.clone()
    right[..., -1] = torch.eye(c, dtype=taps.dtype, device=taps.device)
    taps = torch.linalg.lu_solve(lu, pivots, right.flatten(2)).view(right.shape)
    diagonal = lu.detach().diagonal(dim1=-2, dim2=-1).abs()
    ratio = diagonal.amin(-1) / diagonal.amax(-1)
    ratio = ratio.where(taps.detach().isfinite().flatten(1).all(1), torch.nan)
    return taps.to(weight.dtype).view(groups, c, *weight.shape[1:]), ratio


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
