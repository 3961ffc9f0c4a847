"""The last axis of an inverse transform, a channel MLP behind it and a skip beside it, tile by tile."""

from math import ceil

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.gelu import gelu, gelu_in_place, slope_times
from opflow.kernels.cpu.gemm import multiply
from opflow.kernels.cpu.team import address, arguments_of, compiled, keep, next_item, partial_sums, run, total
from opflow.kernels.cpu.vectors import copy, move_to_sum, transpose

_TILE = 64  # points
_LINES = 8  # of an item
_SUMS = 32  # at most: partial gradients of the weights, added in one order on any number of threads


def forward(u: Tensor, t: Tensor, basis: Tensor, *weights: Tensor, last: bool, out: Tensor) -> None:
    """Write the layer to `out`.

    Shapes:
        u and out `(lines, points, c)`, t `(lines, k, c)`, basis `(points, k)`; weights are w1, b1, w2, b2 and
        skip of `spectral_mlp_reference`; all contiguous.
    """
    lines, points, channels = u.shape
    sizes = (lines, points, channels, len(weights[0]), basis.shape[1], int(last))
    tensors = (u, t, basis, *weights, out)
    run(_forward, ceil(lines / _LINES), (*sizes, *(x.data_ptr() for x in tensors)))


@compiled
def _forward(memory):
    values = to_fixed_tuple(arguments_of(memory), 15)
    lines, points, c, hidden, modes, last, u, t, basis, w1, b1, w2, b2, skip, out = values
    tile = np.empty((3, _TILE * max(c, hidden)), np.float32)
    a, h, o = address(tile[0]), address(tile[1]), address(tile[2])
    constants = np.empty(c * (c + 2 * hidden), np.float32)
    skip_t = address(constants)
    w1_t = skip_t + 4 * c * c
    w2_t = w1_t + 4 * c * hidden
    transpose(skip, c, skip_t, c, c)
    transpose(w1, c, w1_t, hidden, c)
    transpose(w2, hidden, w2_t, c, hidden)
    item = next_item(memory)
    while item >= 0:
        for line in range(item * _LINES, min(lines, (item + 1) * _LINES)):
            for first in range(0, points, _TILE):
                m = min(_TILE, points - first)
                at = 4 * (line * points + first) * c
                row = basis + 4 * first * modes
                multiply(a, c, row, modes, 1, t + 4 * line * modes * c, c, m, c, modes, 0, 0)
                multiply(h, hidden, a, c, 1, w1_t, hidden, m, hidden, c, b1, 0)
                gelu_in_place(h, m * hidden)
                multiply(o, c, h, hidden, 1, w2_t, c, m, c, hidden, b2, 0)
                if last:
                    multiply(out + at, c, u + at, c, 1, skip_t, c, m, c, c, o, c)
                else:
                    multiply(o, c, u + at, c, 1, skip_t, c, m, c, c, o, c)
                    gelu(o, out + at, m * c)
        item = next_item(memory)
    keep(tile)
    keep(constants)


def backward(
    grad: Tensor, u: Tensor, t: Tensor, basis: Tensor, *weights: Tensor, last: bool, grad_t: Tensor, grad_u: Tensor
) -> tuple[Tensor, ...]:
    """Write the gradients of t and u, and return those of the weights."""
    lines, points, channels = u.shape
    size = max(_LINES, ceil(lines / _SUMS))
    items = ceil(lines / size)
    sums = partial_sums(items, weights)
    sizes = (size, lines, points, channels, len(weights[0]), basis.shape[1], int(last), sums.shape[1])
    tensors = (grad, u, t, basis, *weights, grad_t, grad_u, sums)
    run(_backward, items, (*sizes, *(x.data_ptr() for x in tensors)))
    return total(sums, weights)


@compiled
def _backward(memory):
    values = to_fixed_tuple(arguments_of(memory), 20)
    size, lines, points, c, hidden, modes, last, step = values[:8]
    grad, u, t, basis, w1, b1, w2, b2, skip, grad_t, grad_u, sums = values[8:]
    tile = np.empty((5, _TILE * max(c, hidden)), np.float32)
    a, h, active = address(tile[0]), address(tile[1]), address(tile[2])
    o, gh = address(tile[3]), address(tile[4])
    constants = np.ones(_TILE + c * (c + 2 * hidden), np.float32)
    ones = address(constants)
    skip_t = ones + 4 * _TILE
    w1_t = skip_t + 4 * c * c
    w2_t = w1_t + 4 * c * hidden
    transpose(skip, c, skip_t, c, c)
    transpose(w1, c, w1_t, hidden, c)
    transpose(w2, hidden, w2_t, c, hidden)
    gradients = np.zeros(step, np.float32)  # of a few tiles: long sums of small numbers lose digits
    into_w1 = address(gradients)
    into_b1 = into_w1 + 4 * hidden * c
    into_w2 = into_b1 + 4 * hidden
    into_b2 = into_w2 + 4 * c * hidden
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
                multiply(h, hidden, a, c, 1, w1_t, hidden, m, hidden, c, b1, 0)
                gelu(h, active, m * hidden)
                if last:
                    copy(grad + at, o, m * c)
                else:
                    multiply(o, c, active, hidden, 1, w2_t, c, m, c, hidden, b2, 0)
                    multiply(o, c, u + at, c, 1, skip_t, c, m, c, c, o, c)
                    slope_times(o, grad + at, m * c)
                # o is now the gradient before the last activation
                multiply(into_w2, hidden, o, 1, c, active, hidden, c, hidden, m, into_w2, hidden)
                multiply(into_b2, c, ones, m, 1, o, c, 1, c, m, into_b2, c)
                multiply(into_skip, c, o, 1, c, u + at, c, c, c, m, into_skip, c)
                multiply(grad_u + at, c, o, c, 1, skip, c, m, c, c, 0, 0)
                multiply(gh, hidden, o, c, 1, w2, hidden, m, hidden, c, 0, 0)
                slope_times(h, gh, m * hidden)  # h is now the gradient before the inner activation
                multiply(into_w1, c, h, 1, hidden, a, c, hidden, c, m, into_w1, c)
                multiply(into_b1, hidden, ones, m, 1, h, hidden, 1, hidden, m, into_b1, hidden)
                multiply(a, c, h, hidden, 1, w1, c, m, c, hidden, 0, 0)
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
