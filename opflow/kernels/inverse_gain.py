"""How far the inverse of a causal convolution can carry errors and fields."""

from math import cos, pi
from typing import NamedTuple

import torch
from torch import Tensor

from opflow.kernels.corner import divide_by_corner

_SAMPLES = (16, 16, 8)  # frequencies along each axis, for each step of the kernel; by the number of axes


class InverseGain(NamedTuple):
    r"""Measures of N, the other taps behind :math:`A^{-1}`; the inverse is :math:`(1 + N)^{-1} A^{-1}`.

    Where `norm` is below 1, and so wherever the larger but cheaper `bound` is, the inverse for fields of any
    size obeys :math:`\|L^{-1} A\|_2 \le 1 / (1 - \mathrm{norm})`. Where only `radius` is, it still does not
    grow with the size.
    """

    bound: Tensor
    r"""Sum over the taps of :math:`\|A^{-1} W_a\|_2`."""
    radius: Tensor
    r"""Largest spectral radius of :math:`\hat N(\omega)` at the frequencies sampled; an estimate."""
    norm: Tensor
    r"""No less than :math:`\sup_\omega \|\hat N(\omega)\|_2`, and at most a few percent above."""


def tap_bound(weight: Tensor, groups: int = 1) -> Tensor:
    """Return `bound` of `inverse_gain` alone, cheap enough for each step of a training.

    Example:
        >>> tap_bound(torch.tensor([[[-0.25, 0.5, 2.0]]]))
        tensor(0.3750)
    """
    return _bound(_taps(weight, groups))


def inverse_gain(weight: Tensor, groups: int = 1) -> InverseGain:
    r"""Measure how the inverse of a causal convolution grows: the largest figures of any group.

    With :math:`\hat N(\omega) = \sum_{a \ne 0} A^{-1} W_{k-1-a}\, e^{-i a \cdot \omega}` sampled at n
    frequencies along each axis. Between samples its norm is bounded as trigonometric polynomials of degree m
    are, by the largest sample times :math:`\cos(\pi m / n)^{-1}` for each axis. Differentiable.

    Args:
        weight: kernel `(channel, channel // groups, *k)` of `causal_conv`, float32 or float64.
        groups: blocks of channels that do not mix.

    Raises:
        ValueError: a corner is singular, or a weight is not finite.

    Example:
        >>> bound, radius, norm = inverse_gain(torch.tensor([[[-0.25, 0.5, 2.0]]]))
        >>> round(float(bound), 3), round(float(radius), 3), round(float(norm), 3)
        (0.375, 0.375, 0.375)
    """
    taps = _taps(weight, groups)
    spectrum, slack = _spectrum(taps)
    radius = torch.linalg.eigvals(spectrum).abs().amax()
    bound, sampled = _bound(taps), torch.linalg.matrix_norm(spectrum, ord=2).amax()
    return InverseGain(bound, radius, torch.minimum(bound, slack * sampled))


def _taps(weight: Tensor, groups: int) -> Tensor:
    """Return N, `(group, c, c, *k)`, with zeros in place of the corner."""
    taps = divide_by_corner(weight, groups)
    corner = torch.ones(weight.shape[2:], dtype=torch.bool, device=weight.device)
    corner.view(-1)[:-1] = False
    return taps.masked_fill(corner, 0)


def _bound(taps: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(taps.flatten(3).movedim(-1, 1), ord=2).sum(1).amax()


def _spectrum(taps: Tensor) -> tuple[Tensor, float]:
    """Return N at frequencies that represent all, `(..., c, c)`, and what its norm may exceed them by."""
    steps = [k - 1 for k in taps.shape[3:]]
    sizes = [_SAMPLES[len(steps) - 1] * m or 1 for m in steps]
    axes = tuple(range(3, taps.ndim))
    # Reading the taps from the other end changes phases, but neither norms nor radii; real weights make half
    # of the frequencies enough.
    spectrum = torch.fft.rfftn(taps, s=sizes, dim=axes).flatten(3).movedim(-1, 1)
    slack = 1.0
    for m, n in zip(steps, sizes):
        slack /= cos(pi * m / n)
    return spectrum, slack
