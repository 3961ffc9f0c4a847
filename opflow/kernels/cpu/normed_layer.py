"""The pointwise part of a published G-FNO layer, and the last axis of its inverse transform, by tiles."""

from math import ceil

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.gelu import gelu, gelu_in_place, slope_times
from opflow.kernels.cpu.gemm import add_outer_blocks, multiply, multiply_blocks
from opflow.kernels.cpu.team import address, arguments_of, compiled, keep, next_item, partial_sums, run, total
from opflow.kernels.cpu.vectors import copy, move_to_sum, transpose_blocks, walsh

_TILE = 64  # points
_LINES = 8  # of an item
_SUMS = 32  # at most: partial gradients of the weights, added in one order on any number of threads


def forward(u: Tensor, t: Tensor, basis: Tensor, *weights: Tensor, last: bool, out: Tensor) -> None:
    """Write the layer to `out`.

    Shapes:
        u and out `(lines, points, c)`, t `(lines, k, c)`, basis `(points, k)`; weights are w1, b1, w2, b2 and
        skip of `normed_layer_reference`, and t comes with its channels transformed by `walsh`; all
        contiguous.
    """
    lines, points, channels = u.shape
    sizes = (lines, points, channels, len(weights[1]), basis.shape[1], int(last), len(weights[0]))
    tensors = (u, t, basis, *weights, out)
    run(_forward, ceil(lines / _LINES), (*sizes, *(x.data_ptr() for x in tensors)))


@compiled
def _forward(memory):
    values = to_fixed_tuple(arguments_of(memory), 16)
    lines, points, c, hidden, modes, last, n = values[:7]
    u, t, basis, w1, b1, w2, b2, skip, out = values[7:]
    c_n, hidden_n = c // n, hidden // n
    tile = np.empty((4, _TILE * max(c, hidden)), np.float32)
    a, h, o, x = address(tile[0]), address(tile[1]), address(tile[2]), address(tile[3])
    constants = np.empty(c_n * (c + 2 * hidden), np.float32)
    skip_t = address(constants)
    w1_t = skip_t + 4 * c * c_n
    w2_t = w1_t + 4 * c * hidden_n
    transpose_blocks(skip, skip_t, c_n, c_n, n)
    transpose_blocks(w1, w1_t, hidden_n, c_n, n)
    transpose_blocks(w2, w2_t, c_n, hidden_n, n)
    item = next_item(memory)
    while item >= 0:
        for line in range(item * _LINES, min(lines, (item + 1) * _LINES)):
            for first in range(0, points, _TILE):
                m = min(_TILE, points - first)
                at = 4 * (line * points + first) * c
                row = basis + 4 * first * modes
                multiply(a, c, row, modes, 1, t + 4 * line * modes * c, c, m, c, modes, 0, 0)
                multiply_blocks(h, a, w1_t, m, hidden_n, c_n, n, b1, 0)
                walsh(h, m, hidden, n)
                gelu_in_place(h, m * hidden)
                walsh(h, m, hidden, n)
                multiply_blocks(o, h, w2_t, m, c_n, hidden_n, n, b2, 0)
                copy(u + at, x, m * c)
                walsh(x, m, c, n)
                multiply_blocks(o, x, skip_t, m, c_n, c_n, n, o, c)
                walsh(o, m, c, n)
                if last:
                    copy(o, out + at, m * c)
                else:
                    gelu(o, out + at, m * c)
        item = next_item(memory)
    keep(tile)
    keep(constants)


def backward(
    grad: Tensor,
    u: Tensor,
    t: Tensor,
    basis: Tensor,
    *weights: Tensor,
    last: bool,
    grad_t: Tensor,
    grad_u: Tensor,
) -> tuple[Tensor, ...]:
    """Write the gradients of t and u, and return those of the weights."""
    lines, points, channels = u.shape
    size = max(_LINES, ceil(lines / _SUMS))
    items = ceil(lines / size)
    sums = partial_sums(items, weights)
    sizes = (
        size,
        lines,
        points,
        channels,
        len(weights[1]),
        basis.shape[1],
        int(last),
        len(weights[0]),
        sums.shape[1],
    )
    tensors = (grad, u, t, basis, *weights, grad_t, grad_u, sums)
    run(_backward, items, (*sizes, *(x.data_ptr() for x in tensors)))
    return total(sums, weights)


@compiled
def _backward(memory):
    values = to_fixed_tuple(arguments_of(memory), 21)
    size, lines, points, c, hidden, modes, last, n, step = values[:9]
    grad, u, t, basis, w1, b1, w2, b2, skip, grad_t, grad_u, sums = values[9:]
    c_n, hidden_n = c // n, hidden // n
    tile = np.empty((6, _TILE * max(c, hidden)), np.float32)
    a, h, active = address(tile[0]), address(tile[1]), address(tile[2])
    o, gh, x = address(tile[3]), address(tile[4]), address(tile[5])
    constants = np.ones(_TILE + c_n * (c + 2 * hidden), np.float32)
    ones = address(constants)
    skip_t = ones + 4 * _TILE
    w1_t = skip_t + 4 * c * c_n
    w2_t = w1_t + 4 * c * hidden_n
    transpose_blocks(skip, skip_t, c_n, c_n, n)
    transpose_blocks(w1, w1_t, hidden_n, c_n, n)
    transpose_blocks(w2, w2_t, c_n, hidden_n, n)
    gradients = np.zeros(step, np.float32)  # of a few tiles: long sums of small numbers lose digits
    into_w1 = address(gradients)
    into_b1 = into_w1 + 4 * hidden * c_n
    into_w2 = into_b1 + 4 * hidden
    into_b2 = into_w2 + 4 * c * hidden_n
    into_skip = into_b2 + 4 * c
    item = next_item(memory)
    while item >= 0:
        tiles = 0
        for line in range(item * size, min(lines, (item + 1) * size)):
            for first in range(0, points, _TILE):
                m = min(_TILE, points - first)
                at = 4 * (line * points + first) * c
                row, line_t = basis + 4 * first * modes, 4 * line * modes * c
                multiply(a, c, row, modes, 1, t + line_t, c, m, c, modes, 0, 0)
                multiply_blocks(h, a, w1_t, m, hidden_n, c_n, n, b1, 0)
                walsh(h, m, hidden, n)
                gelu(h, active, m * hidden)
                walsh(active, m, hidden, n)
                copy(u + at, x, m * c)
                walsh(x, m, c, n)
                if last:
                    copy(grad + at, o, m * c)
                else:
                    multiply_blocks(o, active, w2_t, m, c_n, hidden_n, n, b2, 0)
                    multiply_blocks(o, x, skip_t, m, c_n, c_n, n, o, c)
                    walsh(o, m, c, n)
                    slope_times(o, grad + at, m * c)
                walsh(o, m, c, n)
                # o is now the gradient before the last activation
                add_outer_blocks(into_w2, o, active, m, c_n, hidden_n, n)
                multiply(into_b2, c, ones, m, 1, o, c, 1, c, m, into_b2, c)
                add_outer_blocks(into_skip, o, x, m, c_n, c_n, n)
                multiply_blocks(x, o, skip, m, c_n, c_n, n, 0, 0)
                walsh(x, m, c, n)
                copy(x, grad_u + at, m * c)
                multiply_blocks(gh, o, w2, m, hidden_n, c_n, n, 0, 0)
                walsh(gh, m, hidden, n)
                slope_times(h, gh, m * hidden)  # h is now the gradient before the inner activation
                walsh(h, m, hidden, n)
                add_outer_blocks(into_w1, h, a, m, hidden_n, c_n, n)
                multiply(into_b1, hidden, ones, m, 1, h, hidden, 1, hidden, m, into_b1, hidden)
                multiply_blocks(a, h, w1, m, c_n, hidden_n, n, 0, 0)
                into_t = grad_t + line_t
                multiply(into_t, c, row, 1, modes, a, c, modes, c, m, into_t if first else 0, c)
                tiles += 1
                if tiles % 8 == 0:
                    move_to_sum(into_w1, sums + 4 * item * step, step)
        move_to_sum(into_w1, sums + 4 * item * step, step)
        item = next_item(memory)
    keep(tile)
    keep(constants)
    keep(gradients)
