r"""Convolutions of images with 3x3 kernels by Winograd's algorithm, four by four points at a time.

A polynomial product of degree five is known from its values at six points, infinity among them: an output of
four points then takes six multiplications in place of twelve, and a tile of an image 36 in place of 144. With
the matrices below, the transpose of that algorithm is, along each axis,

.. math:: y = A^T\, [(G w) \odot (B^T x)]

for x of six points, w of three and y of four. Over channels, the 36 products of a tile become 36 matrix
products for many tiles; tiles pass through them in a core's cache.

Fields are `(batch, row, column, channel)`; transformed weights are `(6, 6, in, out)`.

Source: Winograd, Arithmetic Complexity of Computations, 1980; Lavin and Gray, Fast Algorithms for
Convolutional Neural Networks, 2016. The points 0, ±√½, ±√2 keep rounding errors smaller than the usual
0, ±1, ±2 do.
"""

from functools import lru_cache
from math import ceil

import numpy as np
import torch
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.gemm import multiply
from opflow.kernels.cpu.products import bmm
from opflow.kernels.cpu.team import address, arguments_of, compiled, keep, next_item, run
from opflow.kernels.cpu.vectors import repeat
from opflow.kernels.memory import empty

_CACHE = 1 << 20  # bytes, of which the transformed tiles of an item take no more
_CHUNK = 64  # tiles, whose transforms the second cache holds while the gradient of the weights grows
_APART = 16  # numbers between the 36 transforms, else a multiple of 4096 bytes apart and rivals in the caches
_COLUMNS = 64  # input channels of one product for that gradient
_POINTS = (0.0, 0.5**0.5, -(0.5**0.5), 2.0**0.5, -(2.0**0.5))


@lru_cache
def matrices() -> tuple[Tensor, Tensor, Tensor]:
    """Return A `(6, 4)`, B `(6, 6)` and G `(6, 3)` in float64.

    Row j of A and of G holds the powers of point j, those of G over N_j, the product of its distances from
    the others; column j of B the coefficients of the polynomial that vanishes at the others.
    """
    points = np.array(_POINTS)
    a, b, g = np.zeros((6, 4)), np.zeros((6, 6)), np.zeros((6, 3))
    for j, point in enumerate(points):
        others = np.delete(points, j)
        a[j], g[j] = point ** np.arange(4), point ** np.arange(3) / np.prod(point - others)
        b[:5, j] = np.poly(others)[::-1]
    a[5, 3] = g[5, 2] = 1
    b[:, 5] = np.poly(points)[::-1]
    return torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(g)


@lru_cache
def _single() -> tuple[Tensor, ...]:
    a, b, g = (m.float() for m in matrices())
    return a, a.T.contiguous(), b.T.contiguous(), g, g.T.contiguous()


def transform_weight(weight: Tensor) -> Tensor:
    """Return the transform of `(3, 3, in, out)`."""
    g = _single()[3]
    _, _, n_in, n_out = weight.shape
    half = empty((6, 3, n_in * n_out), weight)
    bmm(g, weight.reshape(1, 3, -1), half.view(1, 6, -1))
    return bmm(g, half, empty((6, 6, n_in * n_out), weight)).view(6, 6, n_in, n_out)


def adjoint_of_transform_weight(grad: Tensor) -> Tensor:
    """Return the gradient of `(3, 3, in, out)` from that of its transform."""
    g_t = _single()[4]
    _, _, n_in, n_out = grad.shape
    half = bmm(g_t, grad.view(6, 6, -1), empty((6, 3, n_in * n_out), grad))
    out = empty((3, 3, n_in, n_out), grad)
    bmm(g_t, half.view(1, 6, -1), out.view(1, 3, -1))
    return out


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None, pad: int, out: Tensor) -> None:
    """Write the correlation of x, `pad` zeros around it, with a transformed weight to `out`; contiguous."""
    _, a_t, b_t, _, _ = _single()
    batch, rows, columns, n_in = x.shape
    _, out_rows, out_columns, n_out = out.shape
    down, across = ceil(out_rows / 4), ceil(out_columns / 4)
    tiles = batch * down * across
    size = min(tiles, max(12, _CACHE // (36 * 4 * (n_in + n_out)) // 6 * 6))
    sizes = (size, tiles, down, across, rows, columns, n_in, out_rows, out_columns, n_out, pad)
    addresses = (t.data_ptr() for t in (x, weight, out, a_t, b_t))
    run(_convolve, ceil(tiles / size), (*sizes, *addresses, 0 if bias is None else bias.data_ptr()))


@njit(nogil=True, error_model="numpy")
def _place(tile, down, across):
    """Return the image of a tile and the row and column of its first point."""
    strip = tile // across
    return strip // down, strip % down * 4, tile % across * 4


@njit(nogil=True, error_model="numpy")
def _analyse(x, rows, columns, channels, row, column, matrix, size, half, out, step):
    """Multiply `size` rows and columns of an image from (row, column) on by a `(6, size)` matrix each.

    Points outside the image are zero. The 36 results of a channel are `step` numbers apart.
    """
    top, bottom = max(0, -row), min(size, rows - row)
    left, right = max(0, -column), min(size, columns - column)
    width = right - left
    source = x + 4 * ((row + top) * columns + column + left) * channels
    multiply(
        *(half, width * channels, matrix + 4 * top, size, 1, source, columns * channels),
        *(6, width * channels, bottom - top, 0, 0),
    )
    for k in range(6):
        line = half + 4 * k * width * channels
        multiply(
            out + 24 * k * step, step, matrix + 4 * left, size, 1, line, channels, 6, channels, width, 0, 0
        )


@compiled
def _convolve(memory):
    values = to_fixed_tuple(arguments_of(memory), 17)
    size, tiles, down, across, rows, columns, n_in, out_rows, out_columns, n_out, pad = values[:11]
    x, weight, out, a_t, b_t, bias = values[11:]
    v_step, m_step = size * n_in + _APART, size * n_out + _APART
    before, after = np.empty(36 * v_step, np.float32), np.empty(36 * m_step, np.float32)
    scratch, constants = np.empty(36 * max(n_in, n_out), np.float32), np.empty(4 * n_out, np.float32)
    v, m, half, biases = address(before), address(after), address(scratch), 0
    if bias:
        biases = address(constants)
        repeat(bias, biases, n_out, 4)
    item = next_item(memory)
    while item >= 0:
        first = item * size
        count = min(size, tiles - first)
        for i in range(count):
            image, row, column = _place(first + i, down, across)
            source, into = x + 4 * image * rows * columns * n_in, v + 4 * i * n_in
            _analyse(source, rows, columns, n_in, row - pad, column - pad, b_t, 6, half, into, v_step)
        for k in range(36):
            u = weight + 4 * k * n_in * n_out
            vk, mk = v + 4 * k * v_step, m + 4 * k * m_step
            multiply(mk, n_out, vk, n_in, 1, u, n_out, count, n_out, n_in, 0, 0)
        for i in range(count):
            image, row, column = _place(first + i, down, across)
            for k in range(6):
                source = m + 4 * (6 * k * m_step + i * n_out)
                multiply(half + 16 * k * n_out, n_out, a_t, 6, 1, source, m_step, 4, n_out, 6, 0, 0)
            high, wide = min(4, out_rows - row), min(4, out_columns - column)
            target = out + 4 * ((image * out_rows + row) * out_columns + column) * n_out
            multiply(
                target, out_columns * n_out, a_t, 6, 1, half, 4 * n_out, high, wide * n_out, 6, biases, 0
            )
        item = next_item(memory)
    keep(before)
    keep(after)
    keep(scratch)
    keep(constants)


def weight_gradient(x: Tensor, grad: Tensor, pad: int) -> Tensor:
    """Return the gradient of the transformed weight, from that of the result; contiguous."""
    a, _, b_t, _, _ = _single()
    batch, rows, columns, n_in = x.shape
    _, out_rows, out_columns, n_out = grad.shape
    down, across = ceil(out_rows / 4), ceil(out_columns / 4)
    tiles = batch * down * across
    result = empty((6, 6, n_in, n_out), x)
    v, m = (empty((36, _CHUNK * c + _APART), x) for c in (n_in, n_out))
    blocks = ceil(n_in / _COLUMNS)
    for first in range(0, tiles, _CHUNK):
        count = min(_CHUNK, tiles - first)
        for field, high, wide, channels, margin, matrix, size, into in (
            (x, rows, columns, n_in, pad, b_t, 6, v),
            (grad, out_rows, out_columns, n_out, 0, a, 4, m),
        ):
            sizes = (first, count, down, across, high, wide, channels, margin, size)
            run(_analyse_all, ceil(count / 8), (*sizes, *(t.data_ptr() for t in (field, matrix, into))))
        sizes = (count, n_in, n_out, blocks, int(first > 0))
        run(_add_products, 36 * blocks, (*sizes, *(t.data_ptr() for t in (v, m, result))))
    return result


@compiled
def _analyse_all(memory):
    values = to_fixed_tuple(arguments_of(memory), 12)
    first, count, down, across, rows, columns, channels, pad, size, x, matrix, out = values
    scratch = np.empty(36 * channels, np.float32)
    half = address(scratch)
    item = next_item(memory)
    while item >= 0:
        for i in range(8 * item, min(count, 8 * item + 8)):
            image, row, column = _place(first + i, down, across)
            source, into = x + 4 * image * rows * columns * channels, out + 4 * i * channels
            step = _CHUNK * channels + _APART
            _analyse(source, rows, columns, channels, row - pad, column - pad, matrix, size, half, into, step)
        item = next_item(memory)
    keep(scratch)


@compiled
def _add_products(memory):
    count, n_in, n_out, blocks, more, v, m, out = to_fixed_tuple(arguments_of(memory), 8)
    item = next_item(memory)
    while item >= 0:
        k, first = item // blocks, item % blocks * _COLUMNS
        vk, mk = v + 4 * (k * (_CHUNK * n_in + _APART) + first), m + 4 * k * (_CHUNK * n_out + _APART)
        target, height = out + 4 * (k * n_in + first) * n_out, min(_COLUMNS, n_in - first)
        start = target if more else 0
        multiply(target, n_out, vk, 1, n_in, mk, n_out, height, n_out, count, start, n_out)
        item = next_item(memory)
