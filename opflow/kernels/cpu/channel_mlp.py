"""Two channel-wise linear maps with a GELU between them, one tile of points at a time."""

from math import ceil

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.gelu import gelu, gelu_in_place, slope_times
from opflow.kernels.cpu.gemm import add_outer_blocks, multiply, multiply_blocks
from opflow.kernels.cpu.team import address, arguments_of, compiled, keep, next_item, partial_sums, run, total
from opflow.kernels.cpu.vectors import copy, move_to_sum, transpose, transpose_blocks, walsh

_TILE = 64  # points, so that their hidden layer stays in the first or second cache
_ITEM = 16 * _TILE
_SUMS = 32  # at most: partial gradients of the weights, added in one order on any number of threads


def forward(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, out: Tensor) -> None:
    """Write the layer of `(points, c)` to `out`, `(points, c_out)`; w1 in blocks; all contiguous."""
    points, n_in = x.shape
    tensors = (x, w1, b1, w2, b2, out)
    sizes = (points, n_in, len(b1), len(w2), len(w1) if w1.ndim == 3 else 1)
    run(_forward, ceil(points / _ITEM), (*sizes, *(t.data_ptr() for t in tensors)))


@compiled
def _forward(memory):
    points, n_in, hidden, n_out, n, x, w1, b1, w2, b2, out = to_fixed_tuple(arguments_of(memory), 11)
    in_n, hidden_n = n_in // n, hidden // n
    tile, transposed = (
        np.empty(_TILE * (hidden + n_in), np.float32),
        np.empty((in_n + n_out) * hidden, np.float32),
    )
    h, w1_t = address(tile), address(transposed)
    signed, w2_t = h + 4 * _TILE * hidden, w1_t + 4 * in_n * hidden
    transpose_blocks(w1, w1_t, hidden_n, in_n, n)
    transpose(w2, hidden, w2_t, n_out, hidden)
    item = next_item(memory)
    while item >= 0:
        end = min(points, (item + 1) * _ITEM)
        for first in range(item * _ITEM, end, _TILE):
            m = min(_TILE, end - first)
            y = out + 4 * first * n_out
            xt = x + 4 * first * n_in
            if n > 1:
                copy(xt, signed, m * n_in)
                walsh(signed, m, n_in, n)
                xt = signed
            multiply_blocks(h, xt, w1_t, m, hidden_n, in_n, n, b1, 0)
            walsh(h, m, hidden, n)
            gelu_in_place(h, m * hidden)
            multiply(y, n_out, h, hidden, 1, w2_t, n_out, m, n_out, hidden, b2, 0)
        item = next_item(memory)
    keep(tile)
    keep(transposed)


def backward(
    grad: Tensor, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, *, grad_x: Tensor | None
) -> tuple[Tensor, ...]:
    """Write the gradient of x to `grad_x`, when given, and return those of w1, b1, w2 and b2."""
    points, n_in = x.shape
    size = max(_ITEM, _TILE * ceil(points / (_TILE * _SUMS)))
    items = ceil(points / size)
    sums = partial_sums(items, (w1, b1, w2, b2))
    blocks = len(w1) if w1.ndim == 3 else 1
    sizes = (size, points, n_in, len(b1), len(w2), blocks, sums.shape[1])
    into = 0 if grad_x is None else grad_x.data_ptr()
    run(_backward, items, (*sizes, *(t.data_ptr() for t in (grad, x, w1, b1, w2, sums)), into))
    return total(sums, (w1, b1, w2, b2))


@compiled
def _backward(memory):
    values = to_fixed_tuple(arguments_of(memory), 14)
    size, points, n_in, hidden, n_out, n, step, grad, x, w1, b1, w2, sums, grad_x = values
    in_n, hidden_n = n_in // n, hidden // n
    tile = np.empty((4, _TILE * max(hidden, n_in)), np.float32)
    h, active, gh, signed = address(tile[0]), address(tile[1]), address(tile[2]), address(tile[3])
    row, transposed = np.ones(_TILE, np.float32), np.empty(in_n * hidden, np.float32)
    ones, w1_t = address(row), address(transposed)
    transpose_blocks(w1, w1_t, hidden_n, in_n, n)
    gradients = np.zeros(step, np.float32)  # of a few tiles: long sums of small numbers lose digits
    into_w1 = address(gradients)
    into_b1 = into_w1 + 4 * hidden * in_n
    into_w2 = into_b1 + 4 * hidden
    into_b2 = into_w2 + 4 * n_out * hidden
    item = next_item(memory)
    while item >= 0:
        end = min(points, (item + 1) * size)
        for first in range(item * size, end, _TILE):
            m = min(_TILE, end - first)
            gt = grad + 4 * first * n_out
            xt = x + 4 * first * n_in
            if n > 1:
                copy(xt, signed, m * n_in)
                walsh(signed, m, n_in, n)
                xt = signed
            multiply_blocks(h, xt, w1_t, m, hidden_n, in_n, n, b1, 0)
            walsh(h, m, hidden, n)
            gelu(h, active, m * hidden)
            multiply(into_w2, hidden, gt, 1, n_out, active, hidden, n_out, hidden, m, into_w2, hidden)
            multiply(into_b2, n_out, ones, m, 1, gt, n_out, 1, n_out, m, into_b2, n_out)
            multiply(gh, hidden, gt, n_out, 1, w2, hidden, m, hidden, n_out, 0, 0)
            slope_times(h, gh, m * hidden)  # h is now the gradient before the activation
            walsh(h, m, hidden, n)
            add_outer_blocks(into_w1, h, xt, m, hidden_n, in_n, n)
            multiply(into_b1, hidden, ones, m, 1, h, hidden, 1, hidden, m, into_b1, hidden)
            if grad_x:
                into = grad_x + 4 * first * n_in
                multiply_blocks(into, h, w1, m, in_n, hidden_n, n, 0, 0)
                walsh(into, m, n_in, n)
            if (first // _TILE) % 8 == 7:
                move_to_sum(into_w1, sums + 4 * item * step, step)
        move_to_sum(into_w1, sums + 4 * item * step, step)
        item = next_item(memory)
    keep(gradients)
    keep(tile)
    keep(row)
    keep(transposed)
