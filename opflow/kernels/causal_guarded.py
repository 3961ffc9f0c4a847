"""Two ways to invert a causal convolution that are right only where its inverse does not grow with the field.

Substitution keeps the small entries of a growing solution accurate; these mix all entries, so that rounding
errors of the large ones drown the small ones. `refuse_growth` stands before both.
"""

import torch
from torch import Tensor

from opflow.kernels.causal_convolve import convolve
from opflow.kernels.inverse_gain import inverse_gain, tap_bound


def refuse_growth(weight: Tensor, groups: int, method: str) -> None:
    """Raise ValueError unless a norm or the spectral radius shows that the inverse does not grow."""
    if tap_bound(weight, groups) < 1:
        return
    _, radius, norm = inverse_gain(weight, groups)
    if not min(radius, norm) < 1:
        raise ValueError(
            f"method={method!r} needs an inverse that does not grow, but the spectral radius of the taps "
            f"reaches {float(radius):.3g} and their norm {float(norm):.3g}; one of them below 1 would do. "
            "Use method='substitution', or scale the taps other than the corner down"
        )


def fft(y: Tensor, impulse_response: Tensor) -> Tensor:
    """Convolve `(batch, channel, *space)` with the inverse's response to impulses `(c, channel, *space)`.

    Row b of the response belongs to an impulse in channel b of each group, at the origin of the field.
    """
    c, channels, *space = impulse_response.shape
    sizes, axes = [2 * n for n in space], tuple(range(2, y.ndim))
    kernel = torch.fft.rfftn(impulse_response, s=sizes, dim=axes).unflatten(1, (channels // c, c))
    field = torch.fft.rfftn(y, s=sizes, dim=axes).unflatten(1, (channels // c, c))
    product = torch.einsum("igo...,bgi...->bgo...", kernel, field).flatten(1, 2)
    x = torch.fft.irfftn(product, s=sizes, dim=axes)
    return x[(..., *(slice(n) for n in space))]


def impulses(y: Tensor, c: int) -> Tensor:
    """Return fields `(c, channel, *space)`: number b has an impulse in channel b of each group."""
    field = y.new_zeros(c, *y.shape[1:])
    unit = torch.eye(c, dtype=y.dtype, device=y.device)
    field[(..., *(0,) * (y.ndim - 2))] = unit.repeat(1, y.shape[1] // c)
    return field


def fixed_point(y: Tensor, taps: Tensor) -> Tensor:
    """Repeat x <- A^-1 y - N x with taps of `divide_by_corner` until x stands still.

    N is nilpotent: after one step for each diagonal, x is exact but for rounding.
    """
    groups = len(taps)
    last = (..., *(-1,) * (y.ndim - 2))
    corner = taps[last]
    right = torch.einsum("goi,bgi...->bgo...", corner, y.unflatten(1, (groups, -1))).flatten(1, 2)
    others = taps.clone()
    others[last] = 0
    x = right
    for _ in range(sum(y.shape[2:])):
        update = right - convolve(x, others.flatten(0, 1), [0] * groups, groups)
        change, size = (update - x).abs().amax(), update.abs().amax()
        x = update
        if change <= torch.finfo(x.dtype).eps * size:
            break
    return x
