r"""Truncated discrete Fourier transforms as real matrix products.

A spectral layer keeps m of n modes per axis. Forming only those with a dense matrix costs about 4 m flops a
point at the speed of a GEMM, where an FFT computes all n modes, moves them twice (shifts) and throws most
away. A real product also exports; complex FFTs do not convert to ONNX.

Fields are `(batch, *space, channel)`, spectra `(batch, 2, modes, channel)` with real and imaginary part on
the second axis. In between, too, the pair of parts sits directly in front of the modes, so that the transform
of the next axis is again one product on a view:

    (..., n1, n2, c) --last axis--> (..., n1, 2, m2 c) = (..., 2 n1, m2 c) --next axis--> (..., 2 m1, m2 c)

A `Slot` is (first mode, number of modes); the last axis holds the half spectrum 0, 1, ... .
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from opflow.kernels.backend import is_eager, runs_compiled
from opflow.kernels.memory import empty

Slot = tuple[int, int]


def analyse(x: Tensor, slots: Sequence[Slot]) -> Tensor:
    r"""Return :math:`X_k = \frac1n \sum_j x_j e^{-2\pi i jk/n}` for the modes in `slots`."""
    *firsts, last = matrices("analyse", x.shape[1:-1], slots, x)
    return contract(apply(last, x), firsts)


def synthesise(y: Tensor, slots: Sequence[Slot], grid: Sequence[int]) -> Tensor:
    r"""Return the real part of :math:`x_j = \sum_k X_k e^{2\pi i jk/n}` on a grid of any size.

    Modes :math:`0 < k < n/2` of the last axis stand for their conjugates too and count twice.
    """
    *firsts, last = matrices("synthesise", grid, slots, y)
    return apply(last, expand(y, firsts, 2 * slots[-1][1]))


def zero_mode(slots: Sequence[Slot]) -> int:
    """Return the place of the constant among the modes."""
    place = 0
    for first, count in slots:
        place = place * count - first
    return place


def constant(slots: Sequence[Slot], like: Tensor) -> Tensor:
    """Return the spectrum of the constant one, without channels: `(2, modes)`.

    Example:
        >>> constant([(-1, 3), (0, 2)], torch.zeros(()))[0]
        tensor([0., 0., 1., 0., 0., 0.])
    """
    spectrum = like.new_zeros(2, math.prod(count for _, count in slots))
    spectrum[0, zero_mode(slots)] = 1.0
    return spectrum


def apply(basis: Tensor, x: Tensor) -> Tensor:
    """Apply the matrix of the last axis: `(..., size, channel)`."""
    y = _product(basis, x.reshape(-1, *x.shape[-2:]))
    return y.view(*x.shape[:-2], basis.shape[0], x.shape[-1])


def contract(x: Tensor, bases: Sequence[Tensor]) -> Tensor:
    """Apply the matrices of the other axes, last first.

    From `(batch, *grid, 2 m, channel)` to `(batch, 2, modes, channel)`.
    """
    batch, *grid, size, channels = x.shape
    modes = size // 2
    for basis in reversed(bases):
        grid.pop()
        x = _product(basis, x.reshape(batch * math.prod(grid), basis.shape[1], modes * channels))
        modes *= basis.shape[0] // 2
    return x.view(batch, 2, modes, channels)


def expand(z: Tensor, bases: Sequence[Tensor], size: int) -> Tensor:
    """Apply the matrices of the other axes, first first: the adjoint of `contract` with transposed ones.

    `size` is that of the last axis, twice its modes.
    """
    batch, _, modes, channels = z.shape
    grid: list[int] = []
    for basis in bases:
        modes //= basis.shape[1] // 2
        z = _product(basis, z.reshape(batch * math.prod(grid), basis.shape[1], modes * channels))
        grid.append(basis.shape[0] // 2)
    return z.view(batch, *grid, size, channels)


def _product(basis: Tensor, x: Tensor) -> Tensor:
    if runs_compiled(x) and not torch.is_grad_enabled():
        from opflow.kernels.cpu.products import bmm

        return bmm(basis, x.contiguous(), out=empty((x.shape[0], basis.shape[0], x.shape[-1]), x))
    return torch.bmm(basis.expand(x.shape[0], -1, -1), x)


def matrices(kind: str, grid: Sequence[int], slots: Sequence[Slot], like: Tensor) -> list[Tensor]:
    """Return the matrix of each axis, for "analyse" or "synthesise", in the dtype of `like`."""
    # Under a compiler sizes may be symbolic, and the graph must own its constants; others make no real ones.
    build = _cached if is_eager(like) else _build
    halves = [False] * (len(slots) - 1) + [True]
    return [
        build(kind, n, first, count, half, like.dtype, like.device)
        for n, (first, count), half in zip(grid, slots, halves)
    ]


def _build(
    kind: str, n: int, first: int, count: int, half: bool, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Return the real matrix of one axis; modes are rows (part, mode), points (point, part) or (point,)."""
    modes, points = torch.arange(first, first + count, device=device), torch.arange(n, device=device)
    # Reduce the phase in integers: sin and cos of large arguments lose digits.
    phase = torch.remainder(modes[:, None] * points, n).to(torch.float64) * (2 * math.pi / n)
    cos, sin = phase.cos(), phase.sin()
    if half:  # (2 count, n)
        matrix = torch.cat([cos, -sin])
    else:  # (2 count, 2 n), a product with cos - i sin
        matrix = torch.cat([torch.stack([cos, sin], -1), torch.stack([-sin, cos], -1)]).flatten(1)
    if kind == "analyse":
        return (matrix / n).to(dtype)
    if half:
        twice = 2.0 - ((modes == 0) | (2 * modes == n)).to(torch.float64)
        matrix = matrix * torch.cat([twice, twice])[:, None]
    return matrix.T.to(dtype).contiguous()


@lru_cache(maxsize=512)
def _cached(kind: str, n: int, first: int, count: int, half: bool, dtype, device) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return _build(kind, n, first, count, half, dtype, device)
