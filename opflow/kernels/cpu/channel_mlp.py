"""Two channel-wise linear maps with a GELU between them, one tile of points at a time."""

from math import ceil

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.gelu import gelu, gelu_in_place, slope_times
from opflow.kernels.cpu.gemm import multiply
from opflow.kernels.cpu.team import address, arguments_of, compiled, keep, next_item, partial_sums, run, total
from opflow.kernels.cpu.vectors import move_to_sum, transpose

_TILE = 64  # points, so that their hidden layer stays in the first or second cache
_ITEM = 16 * _TILE
_SUMS = 32  # at most: partial gradients of the weights, added in one order on any number of threads


def forward(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, out: Tensor) -> None:
    """Write the layer of `(points, c)` to `out`, `(points, c_out)`; all contiguous."""
    points, n_in = x.shape
    tensors = (x, w1, b1, w2, b2, out)
    sizes = (points, n_in, len(w1), len(w2))
    run(_forward, ceil(points / _ITEM), (*sizes, *(t.data_ptr() for t in tensors)))


@compiled
def _forward(memory):
    points, n_in, hidden, n_out, x, w1, b1, w2, b2, out = to_fixed_tuple(arguments_of(memory), 10)
    tile, transposed = np.empty(_TILE * hidden, np.float32), np.empty((n_in + n_out) * hidden, np.float32)
    h, w1_t = address(tile), address(transposed)
    w2_t = w1_t + 4 * n_in * hidden
    transpose(w1, n_in, w1_t, hidden, n_in)
    transpose(w2, hidden, w2_t, n_out, hidden)
    item = next_item(memory)
    while item >= 0:
        end = min(points, (item + 1) * _ITEM)
        for first in range(item * _ITEM, end, _TILE):
            m = min(_TILE, end - first)
            y = out + 4 * first * n_out
            multiply(h, hidden, x + 4 * first * n_in, n_in, 1, w1_t, hidden, m, hidden, n_in, b1, 0)
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
    sizes = (size, points, n_in, len(w1), len(w2), sums.shape[1])
    into = 0 if grad_x is None else grad_x.data_ptr()
    run(_backward, items, (*sizes, *(t.data_ptr() for t in (grad, x, w1, b1, w2, sums)), into))
    return total(sums, (w1, b1, w2, b2))


@compiled
def _backward(memory):
    values = to_fixed_tuple(arguments_of(memory), 13)
    size, points, n_in, hidden, n_out, step, grad, x, w1, b1, w2, sums, grad_x = values
    tile = np.empty((3, _TILE * hidden), np.float32)
    h, active, gh = address(tile[0]), address(tile[1]), address(tile[2])
    row, transposed = np.ones(_TILE, np.float32), np.empty(n_in * hidden, np.float32)
    ones, w1_t = address(row), address(transposed)
    transpose(w1, n_in, w1_t, hidden, n_in)
    gradients = np.zeros(step, np.float32)  # of a few tiles: long sums of small numbers lose digits
    into_w1 = address(gradients)
    into_b1 = into_w1 + 4 * hidden * n_in
    into_w2 = into_b1 + 4 * hidden
    into_b2 = into_w2 + 4 * n_out * hidden
    item = next_item(memory)
    while item >= 0:
        end = min(points, (item + 1) * size)
        for first in range(item * size, end, _TILE):
            m = min(_TILE, end - first)
            xt, gt = x + 4 * first * n_in, grad + 4 * first * n_out
            multiply(h, hidden, xt, n_in, 1, w1_t, hidden, m, hidden, n_in, b1, 0)
            gelu(h, active, m * hidden)
            multiply(into_w2, hidden, gt, 1, n_out, active, hidden, n_out, hidden, m, into_w2, hidden)
            multiply(into_b2, n_out, ones, m, 1, gt, n_out, 1, n_out, m, into_b2, n_out)
            multiply(gh, hidden, gt, n_out, 1, w2, hidden, m, hidden, n_out, 0, 0)
            slope_times(h, gh, m * hidden)  # h is now the gradient before the activation
            multiply(into_w1, n_in, h, 1, hidden, xt, n_in, hidden, n_in, m, into_w1, n_in)
            multiply(into_b1, hidden, ones, m, 1, h, hidden, 1, hidden, m, into_b1, hidden)
            if grad_x:
                multiply(grad_x + 4 * first * n_in, n_in, h, hidden, 1, w1, n_in, m, n_in, hidden, 0, 0)
            if (first // _TILE) % 8 == 7:
                move_to_sum(into_w1, sums + 4 * item * step, step)
        move_to_sum(into_w1, sums + 4 * item * step, step)
        item = next_item(memory)
    keep(gradients)
    keep(tile)
    keep(row)
    keep(transposed)
