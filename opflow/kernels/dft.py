r"""Truncated discrete Fourier transforms as real matrix products.

A spectral layer keeps m of n modes per axis. Forming only those with a dense matrix costs about 2 m flops a
point at the speed of a GEMM, where an FFT computes all n modes, moves them twice (shifts) and throws most
away. A real product also exports; complex FFTs do not convert to ONNX.

Along every axis a real field is projected on cosines and sines of the |k| kept, so all products are real and
none is done twice:

.. math:: e^{-i(k_1 x_1 + k_2 x_2)} = (c_1 - i s_1)(c_2 - i s_2)

The products with signed modes are sums of these few small projections (`combine`). Synthesis is the
transpose of analysis up to scaling, mode by mode, so `project` and its adjoint `expand` are all there is,
forwards and backwards.

Layout: fields `(batch, *space, channel)`, spectra `(modes, 2, batch, channel)` with the real and the
imaginary part on the second axis. Modes of an axis run 0, 1, ..., then -1, -2, ...; the last axis holds the
half spectrum 0, 1, ... . A `Slot` is (first mode, number of modes).
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import pad

from opflow.kernels.memory import empty

Slot = tuple[int, int]


def analyse(x: Tensor, slots: Sequence[Slot]) -> Tensor:
    r"""Return :math:`X_k = \frac1n \sum_j x_j e^{-2\pi i jk/n}` for the modes in `slots`."""
    return combine(project(x, matrices("analyse", x.shape[1:-1], slots, x)), slots)


def synthesise(y: Tensor, slots: Sequence[Slot], grid: Sequence[int]) -> Tensor:
    r"""Return the real part of :math:`x_j = \sum_k X_k e^{2\pi i jk/n}` on a grid of any size.

    Modes :math:`0 < k < n/2` of the last axis stand for their conjugates too and count twice.
    """
    return expand(split(y, slots), matrices("synthesise", grid, slots, y))


def project(x: Tensor, bases: Sequence[Tensor]) -> Tensor:
    """Project `(batch, *space, channel)` on the rows of one matrix per axis: `(batch, *rows, channel)`."""
    shape = x.shape
    for axis, basis in enumerate(bases, start=1):
        done = math.prod(x.shape[:axis])
        x = _product(basis.expand(done, -1, -1), x.reshape(done, shape[axis], -1))
        x = x.view(*shape[:1], *(len(b) for b in bases[:axis]), *shape[axis + 1 :])
    return x


def expand(t: Tensor, bases: Sequence[Tensor]) -> Tensor:
    """Apply the transpose of `project`, last axis first: `(batch, *rows, channel)` to a field."""
    for axis in range(len(bases), 0, -1):
        t = expand_axis(t, bases[axis - 1], axis)
    return t


def expand_axis(t: Tensor, basis: Tensor, axis: int) -> Tensor:
    """Apply the transpose of `basis` along one axis."""
    shape = t.shape
    before = math.prod(shape[:axis])
    t = _product(basis.T.expand(before, -1, -1), t.reshape(before, shape[axis], -1))
    return t.view(*shape[:axis], basis.shape[1], *shape[axis + 1 :])


def _product(a: Tensor, b: Tensor) -> Tensor:
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return torch.bmm(a, b)
    return torch.bmm(a, b, out=empty((len(a), a.shape[1], b.shape[2]), b))


def combine(t: Tensor, slots: Sequence[Slot]) -> Tensor:
    """Form signed complex modes from projections on cosines and sines."""
    batch, channels = t.shape[0], t.shape[-1]
    # (2, batch, 2, K1, ..., 2, K(d-1), Kd, channel); pairs are (cos, sin), on the last axis (cos, -sin)
    z = t.view(batch, *(s for n in t.shape[1:-1] for s in (2, n // 2)), channels).movedim(-3, 0)
    for axis, (first, count) in enumerate(slots[:-1], start=2):
        c, s = z.unbind(axis)
        rotated = torch.stack([s[1], -s[0]])  # -i s
        positive = (c + rotated).narrow(axis, 0, first + count)
        negative = (c - rotated).narrow(axis, 1, -first)
        z = torch.cat([positive, negative], axis)
    z = z.movedim((0, 1), (-3, -2))
    return z.reshape(math.prod(count for _, count in slots), 2, batch, channels)


def split(y: Tensor, slots: Sequence[Slot]) -> Tensor:
    """Apply the transpose of `combine`."""
    batch, channels = y.shape[-2:]
    z = y.view(*(count for _, count in slots), 2, batch, channels).movedim((-3, -2), (0, 1))
    for axis in range(len(slots), 1, -1):
        first, count = slots[axis - 2]
        positive, negative = z.narrow(axis, 0, first + count), z.narrow(axis, first + count, -first)
        size = max(first + count, 1 - first)
        behind = [0, 0] * (z.ndim - axis - 1)
        positive = pad(positive, [*behind, 0, size - (first + count)])
        negative = pad(negative, [*behind, 1, size - 1 + first])
        rotated = positive - negative
        z = torch.stack([positive + negative, torch.stack([-rotated[1], rotated[0]])], axis)
    z = z.movedim(0, -3)
    return z.reshape(batch, *(2 * _size(slot) for slot in slots[:-1]), 2 * slots[-1][1], channels)


def _size(slot: Slot) -> int:
    first, count = slot
    return max(first + count, 1 - first)


def matrices(kind: str, grid: Sequence[int], slots: Sequence[Slot], like: Tensor) -> list[Tensor]:
    """Return the matrix of each axis, for "analyse" or "synthesise", in the dtype of `like`."""
    build = _cached
    if torch.compiler.is_compiling():
        build = _build  # sizes may be symbolic, and the graph must own its constants
    halves = [False] * (len(slots) - 1) + [True]
    return [
        build(kind, n, count if half else _size((first, count)), half, like.dtype, like.device)
        for n, (first, count), half in zip(grid, slots, halves)
    ]


def _build(kind: str, n: int, size: int, half: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return cosines and sines (minus sines when `half`) of modes 0 .. size - 1: `(2 size, n)`."""
    modes, points = torch.arange(size, device=device), torch.arange(n, device=device)
    # Reduce the phase in integers: sin and cos of large arguments lose digits.
    phase = torch.remainder(modes[:, None] * points, n).to(torch.float64) * (2 * math.pi / n)
    matrix = torch.stack([phase.cos(), -phase.sin() if half else phase.sin()])
    if kind == "analyse":
        matrix = matrix / n
    elif half:
        matrix = matrix * (2.0 - ((modes == 0) | (2 * modes == n)).to(torch.float64))[:, None]
    return matrix.flatten(0, 1).to(dtype)


@lru_cache(maxsize=512)
def _cached(kind: str, n: int, size: int, half: bool, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():
        return _build(kind, n, size, half, dtype, device)
