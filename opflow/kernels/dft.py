r"""Truncated discrete Fourier transform along one axis, as a real matrix product.

A spectral layer keeps m of n modes. Forming only those with a dense (n, m) matrix costs about 4 m flops a
point and runs at the speed of a GEMM, where the FFT computes all n modes, moves them twice (shifts) and
throws most away. A real product also exports: complex FFTs do not convert to ONNX.

Complex numbers are kept as pairs of real ones. The pair index sits directly in front of the modes, so
that the transform along the next axis is again one matrix product on a view:

    (..., n2, n1) --last axis--> (..., n2, 2, m1) = (..., 2 n2, m1) --next axis--> (..., 2, m2, m1)

With forward normalisation, :math:`X_k = \frac{1}{n} \sum_j x_j e^{-2\pi i jk/n}` and
:math:`x_j = \sum_k X_k e^{2\pi i jk/n}`.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor


def analyse_grid(x: Tensor, slots: Sequence[tuple[int, int]]) -> Tensor:
    """Transform all space axes of `(batch, channel, *space)` to `(batch, channel, 2, modes)`.

    `slots` holds (first mode, number of modes) per axis; real `x` gives the half spectrum on the last.
    """
    if x.is_complex():
        spectrum = analyse(torch.view_as_real(x).unsqueeze(-1), *slots[-1]).squeeze(-1)
    else:
        spectrum = analyse_real(x, *slots[-1])
    for slot in slots[-2::-1]:
        spectrum = analyse(spectrum, *slot).flatten(-2)
    return spectrum


def synthesise_grid(
    y: Tensor, slots: Sequence[tuple[int, int]], grid: Sequence[int], complex_data: bool = False
) -> Tensor:
    """Inverse of `analyse_grid` on a grid of any size: `(batch, channel, *grid)`."""
    for (first, count), n in zip(slots[:-1], grid):
        y = synthesise(y.unflatten(-1, (count, -1)), first, n)
    first, n = slots[-1][0], grid[-1]
    if complex_data:
        pairs = synthesise(y.unsqueeze(-1), first, n)
        return torch.view_as_complex(pairs.squeeze(-1).contiguous())
    return synthesise_real(y, first, n)


def analyse_real(x: Tensor, first: int, count: int) -> Tensor:
    """Transform the last axis of real `(..., n)` to modes first, ..., first + count - 1: `(..., 2, count)`."""
    n = x.shape[-1]
    y = x @ matrix("analyse_real", n, first, count, x)
    return y.unflatten(-1, (2, count))


def synthesise_real(y: Tensor, first: int, n: int) -> Tensor:
    """Return the real part of the inverse transform of `(..., 2, count)` on n points: `(..., n)`.

    Half-spectrum input: modes k > 0 stand for themselves and their conjugates and count twice, except a
    Nyquist mode (2 k = n).
    """
    count = y.shape[-1]
    return y.flatten(-2) @ matrix("synthesise_real", n, first, count, y)


def analyse(x: Tensor, first: int, count: int) -> Tensor:
    """Transform axis -3 of complex pairs `(..., n, 2, r)` to `(..., 2, count, r)`."""
    n = x.shape[-3]
    y = matrix("analyse", n, first, count, x) @ x.flatten(-3, -2)
    return y.unflatten(-2, (2, count))


def synthesise(y: Tensor, first: int, n: int) -> Tensor:
    """Inverse-transform axis -2 of complex pairs `(..., 2, count, r)` to n points: `(..., n, 2, r)`."""
    count = y.shape[-2]
    x = matrix("synthesise", n, first, count, y) @ y.flatten(-3, -2)
    return x.unflatten(-2, (n, 2))


def matrix(kind: str, n, first: int, count: int, like: Tensor) -> Tensor:
    """Return the real matrix of one of the four transforms, in the dtype and on the device of `like`."""
    if torch.compiler.is_compiling() or not isinstance(n, int):
        # Traced: n may be symbolic and the graph must own its constants.
        return _build(kind, n, first, count, like.dtype, like.device)
    return _cached(kind, n, first, count, like.dtype, like.device)


@lru_cache(maxsize=512)
def _cached(kind: str, n: int, first: int, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return _build(kind, n, first, count, dtype, device)


def _build(kind: str, n, first: int, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    points = torch.arange(n, device=device)
    modes = torch.arange(first, first + count, device=device)
    # Reduce the phase in integers: sin and cos of large arguments lose digits.
    phase = torch.remainder(points[:, None] * modes[None, :], n).to(torch.float64) * (2 * math.pi / n)
    cos, sin = phase.cos(), phase.sin()  # (n, count)
    if kind == "analyse_real":  # (n, 2 count)
        matrix = torch.cat([cos, -sin], 1) / n
    elif kind == "synthesise_real":  # (2 count, n)
        twice = 2.0 - ((modes == 0) | (2 * modes == n)).to(torch.float64)
        matrix = torch.cat([(cos * twice).T, (-sin * twice).T], 0)
    elif kind == "analyse":  # (2 count, 2 n): rows (part, mode), columns (point, part)
        real = torch.stack([cos.T, sin.T], -1)
        imag = torch.stack([-sin.T, cos.T], -1)
        matrix = torch.cat([real, imag], 0).flatten(1) / n
    else:  # "synthesise", (2 n, 2 count): rows (point, part), columns (part, mode)
        real = torch.cat([cos, -sin], 1)
        imag = torch.cat([sin, cos], 1)
        matrix = torch.stack([real, imag], 1).flatten(0, 1)
    return matrix.to(dtype)
