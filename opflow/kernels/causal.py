r"""Causal convolutions of fields and the exact inverse.

An image is read from one of its corners: a point of the result depends on the point itself, through the
block A in the kernel's own corner, and on points nearer to the corner of the image. With its unknowns in that
order the convolution is a block triangular matrix. It is invertible if and only if A is, its determinant is
:math:`\det A` to the power of the number of points, and its inverse is a recurrence. CInC Flow, FInC Flow
and Inverse-Flow are this operator in one direction or the other.

Source: Nagar, Dufraisse, Varma, CInC Flow, 2021 (arXiv:2107.01358); Kallappa, Nagar, Varma, FInC Flow, 2023
(arXiv:2301.09266); Nagar, Varma, Inverse-Flow, 2025 (arXiv:2410.14634).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from opflow.kernels.causal_convolve import convolve
from opflow.kernels.causal_op import dispatch

Reverse = Sequence[bool] | Sequence[Sequence[bool]] | None
_METHODS = ("substitution", "fft", "fixed_point")


def causal_conv(x: Tensor, weight: Tensor, *, reverse: Reverse = None, groups: int = 1) -> Tensor:
    r"""Convolve a field with a kernel that looks back along every axis.

    .. math:: y_{o,i} = \sum_{c,\,0 \le a < k} W_{o,c,k-1-a}\, x_{c,i-a}

    for multi-indices i, a and k, with zeros outside the field: an ordinary convolution behind k - 1 zeros at
    the start of each axis. The tap `weight[..., -1, -1]` is the block on the diagonal. Under autocast the
    result is of single precision, so that `causal_solve` inverts it.

    Args:
        x: field `(batch, channel, *space)` with 1, 2 or 3 axes in space, float32 or float64.
        weight: kernel `(channel, channel // groups, *k)` of the same dtype.
        reverse: for each axis in space whether to look ahead instead, as if the axis were flipped before and
            after; or one such tuple for each group.
        groups: blocks of channels that do not mix.

    Raises:
        TypeError: x or the kernel is neither float32 nor float64, or they differ.
        ValueError: shapes do not fit, or the kernel is longer than the field.

    Example:
        >>> x = torch.tensor([[[1.0, 0.0, 0.0, 2.0]]])
        >>> causal_conv(x, torch.tensor([[[0.5, 1.0]]]))
        tensor([[[1.0000, 0.5000, 0.0000, 2.0000]]])
        >>> causal_conv(x, torch.tensor([[[0.5, 1.0]]]), reverse=(True,))
        tensor([[[1., 0., 1., 2.]]])
    """
    x, weight = _single_under_autocast(x, weight)
    flips = checked_flips(x, weight, reverse, groups)
    with torch.autocast(x.device.type, enabled=False):
        return convolve(x, weight, flips, groups)


def causal_solve(
    y: Tensor, weight: Tensor, *, reverse: Reverse = None, groups: int = 1, method: str = "substitution"
) -> Tensor:
    r"""Return the field x with `causal_conv(x, weight, reverse=reverse, groups=groups) == y`.

    With A the corner tap, by substitution along anti-diagonals, each point by

    .. math:: x_i = A^{-1} \Bigl(y_i - \sum_{a \ne 0} W_{k-1-a}\, x_{i-a}\Bigr).

    The gradient is the transposed solve by the same operation and one weight gradient of a convolution; only
    x and the kernel are kept for it, and it can be differentiated again. Errors grow as the field does: see
    `inverse_gain`.

    Args:
        y: field `(batch, channel, *space)` with 1, 2 or 3 axes in space, float32 or float64.
        weight: kernel `(channel, channel // groups, *k)` of the same dtype; its corner tap
            `weight[..., -1, -1]` may be any invertible matrix.
        reverse: as in `causal_conv`.
        groups: blocks of channels that do not mix.
        method: "substitution", which is always right; "fft", a convolution with the inverse's response to an
            impulse; or "fixed_point", which repeats :math:`x \leftarrow A^{-1} y - N x` until x stands still.
            The latter two are refused where `inverse_gain` has neither radius nor norm below 1: there,
            rounding errors of large values drown small ones.

    Raises:
        TypeError: y or the kernel is neither float32 nor float64, or they differ.
        ValueError: shapes do not fit, the kernel is longer than the field, its corner is singular or a weight
            is not finite; the method is unknown, or unstable with this kernel.

    Example:
        >>> weight = torch.tensor([[[0.5, 1.0]]])
        >>> causal_solve(torch.tensor([[[1.0, 0.5, 0.0, 2.0]]]), weight)
        tensor([[[1., 0., 0., 2.]]])
    """
    y, weight = _single_under_autocast(y, weight)
    flips = checked_flips(y, weight, reverse, groups)
    if method not in _METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(map(repr, _METHODS))}")
    return dispatch(y, weight, flips, groups, method)


def _single_under_autocast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return tensors of half precision in single precision under autocast: solves need the digits."""
    if not torch.is_autocast_enabled(tensors[0].device.type):
        return tensors
    half = (torch.float16, torch.bfloat16)
    return tuple(t.float() if t.dtype in half else t for t in tensors)


def checked_flips(x: Tensor, weight: Tensor, reverse: Reverse, groups: int) -> list[int]:
    """Refuse what does not fit; return for each group the reversed axes, the first axis as bit 0."""
    if x.dtype not in (torch.float32, torch.float64) or weight.dtype != x.dtype:
        raise TypeError(
            f"the field is {x.dtype} and the kernel {weight.dtype}; causal convolutions take both as float32 "
            "or both as float64: convert them, e.g. with .float()"
        )
    dims, shape = x.ndim - 2, tuple(weight.shape)
    if dims not in (1, 2, 3):
        raise ValueError(
            f"the field has shape {tuple(x.shape)}; expected (batch, channel, *space), 1 to 3 axes"
        )
    channels = x.shape[1]
    if groups < 1 or channels % groups:
        raise ValueError(f"{channels} channels do not divide into groups={groups}")
    if len(shape) != dims + 2 or shape[:2] != (channels, channels // groups) or 0 in shape:
        expected = ", ".join((str(channels), str(channels // groups), *(f"k{i + 1}" for i in range(dims))))
        raise ValueError(
            f"the kernel has shape {shape}; a field of shape {tuple(x.shape)} with groups={groups} takes "
            f"({expected})"
        )
    if any(k > n for k, n in zip(shape[2:], x.shape[2:])):
        raise ValueError(
            f"the kernel {shape[2:]} is longer than the field {tuple(x.shape[2:])}, so its far taps meet no "
            "point: use a smaller kernel or a larger field"
        )
    return _flips(reverse, groups, dims)


def _flips(reverse: Reverse, groups: int, dims: int) -> list[int]:
    if reverse is None:
        return [0] * groups
    rows = [reverse] * groups if all(isinstance(r, bool) for r in reverse) else list(reverse)
    if len(rows) != groups or any(
        isinstance(r, bool) or len(r) != dims or not all(isinstance(b, bool) for b in r) for r in rows
    ):
        raise ValueError(
            f"reverse is {reverse!r}; expected a tuple of {dims} bools, or one such tuple for each of the "
            f"{groups} groups"
        )
    return [sum(1 << axis for axis in range(dims) if row[axis]) for row in rows]  # pyright: ignore[reportIndexIssue]
