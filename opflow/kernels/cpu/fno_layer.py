"""The pointwise part of a Fourier layer, and the last axis of its inverse transform, line by line.

Along a line of the last axis everything behind the spectrum happens to one tile of points in a core's cache:
only u, the transformed spectrum and the results come from memory and go there.
"""

from math import ceil

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.gelu import gelu, gelu_in_place, slope_times
from opflow.kernels.cpu.gemm import multiply
from opflow.kernels.cpu.team import address, arguments_of, compiled, keep, next_item, partial_sums, run, total
from opflow.kernels.cpu.vectors import add_times, copy, move_to_sum, repeat, times, transpose

_TILE = 64  # points
_LINES = 8  # of an item
_SUMS = 32  # at most: partial gradients of the weights, added in one order on any number of threads


def forward(
    u: Tensor,
    t: Tensor,
    basis: Tensor,
    *weights: Tensor,
    local: Tensor | None,
    last: bool,
    out: Tensor,
    kept: Tensor | None,
) -> None:
    """Write the layer to `out` and its inner field a to `kept`, when given.

    Shapes:
        u, local, out and kept `(lines, points, c)`, t `(lines, k, c)`, basis `(points, k)`; weights are skip,
        w1, b1, w2, b2 and gate of `fno_layer_reference`; all contiguous.
    """
    lines, points, channels = u.shape
    sizes = (lines, points, channels, len(weights[1]), basis.shape[1], int(last))
    addresses = [x.data_ptr() for x in (u, t, basis, *weights, out)]
    optional = [0 if x is None else x.data_ptr() for x in (local, kept)]
    run(_forward, ceil(lines / _LINES), (*sizes, *addresses, *optional))


@compiled
def _forward(memory):
    lines, points, c, hidden, modes, last, u, t, basis, skip, w1, b1, w2, b2, gate, out, local, kept = (
        to_fixed_tuple(arguments_of(memory), 18)
    )
    tile = np.empty((3, _TILE * max(c, hidden)), np.float32)
    z, h, o = address(tile[0]), address(tile[1]), address(tile[2])
    constants = np.empty(c * (c + 2 * hidden + _TILE), np.float32)
    gates = address(constants)
    skip_t = gates + 4 * _TILE * c
    w1_t = skip_t + 4 * c * c
    w2_t = w1_t + 4 * c * hidden
    repeat(gate, gates, c, _TILE)
    transpose(skip, c, skip_t, c, c)
    transpose(w1, c, w1_t, hidden, c)
    transpose(w2, hidden, w2_t, c, hidden)
    item = next_item(memory)
    while item >= 0:
        for line in range(item * _LINES, min(lines, (item + 1) * _LINES)):
            for first in range(0, points, _TILE):
                m = min(_TILE, points - first)
                at = 4 * (line * points + first) * c
                a = kept + at if kept else o
                row = basis + 4 * first * modes
                from_t = t + 4 * line * modes * c
                multiply(a, c, row, modes, 1, from_t, c, m, c, modes, local + at if local else 0, c)
                multiply(a, c, u + at, c, 1, skip_t, c, m, c, c, a, c)
                if not last:
                    gelu(a, z, m * c)
                multiply(h, hidden, a if last else z, c, 1, w1_t, hidden, m, hidden, c, b1, 0)
                gelu_in_place(h, m * hidden)
                multiply(o, c, h, hidden, 1, w2_t, c, m, c, hidden, b2, 0)
                add_times(u + at, gates, o, m * c)
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
    a: Tensor,
    basis: Tensor,
    *weights: Tensor,
    last: bool,
    grad_t: Tensor,
    grad_local: Tensor | None,
) -> tuple[Tensor, ...]:
    """Write the gradient of t to `grad_t`, that of the local part to `grad_local`, when given, and that of u,
    but for what t passes on, over a.

    Returns the gradients of the weights.
    """
    lines, points, channels = u.shape
    size = max(_LINES, ceil(lines / _SUMS))
    items = ceil(lines / size)
    sums = partial_sums(items, weights)
    sizes = (size, lines, points, channels, len(weights[1]), basis.shape[1], int(last), sums.shape[1])
    tensors = (grad, u, a, basis, *weights, grad_t, sums)
    into_local = 0 if grad_local is None else grad_local.data_ptr()
    run(_backward, items, (*sizes, *(x.data_ptr() for x in tensors), into_local))
    return total(sums, weights)


@compiled
def _backward(memory):
    values = to_fixed_tuple(arguments_of(memory), 21)
    size, lines, points, c, hidden, modes, last, step = values[:8]
    grad, u, inner, basis, skip, w1, b1, w2, b2, gate, grad_t, sums, into_local = values[8:]
    tile = np.empty((6, _TILE * max(c, hidden)), np.float32)
    z, h, active = address(tile[0]), address(tile[1]), address(tile[2])
    o, ga, product = address(tile[3]), address(tile[4]), address(tile[5])
    constants = np.ones(_TILE + c * (2 * hidden + _TILE), np.float32)
    ones = address(constants)
    gates = ones + 4 * _TILE
    w1_t = gates + 4 * _TILE * c
    w2_t = w1_t + 4 * c * hidden
    repeat(gate, gates, c, _TILE)
    transpose(w1, c, w1_t, hidden, c)
    transpose(w2, hidden, w2_t, c, hidden)
    gradients = np.zeros(step, np.float32)  # of a few tiles: long sums of small numbers lose digits
    into_skip = address(gradients)
    into_w1 = into_skip + 4 * c * c
    into_b1 = into_w1 + 4 * hidden * c
    into_w2 = into_b1 + 4 * hidden
    into_b2 = into_w2 + 4 * c * hidden
    into_gate = into_b2 + 4 * c
    item = next_item(memory)
    while item >= 0:
        tiles = 0
        for line in range(item * size, min(lines, (item + 1) * size)):
            for first in range(0, points, _TILE):
                m = min(_TILE, points - first)
                at = 4 * (line * points + first) * c
                a, x = inner + at, u + at
                if last:
                    copy(a, z, m * c)
                    copy(grad + at, o, m * c)
                else:
                    gelu(a, z, m * c)
                multiply(h, hidden, z, c, 1, w1_t, hidden, m, hidden, c, b1, 0)
                gelu(h, active, m * hidden)
                if not last:
                    multiply(o, c, active, hidden, 1, w2_t, c, m, c, hidden, b2, 0)
                    add_times(x, gates, o, m * c)
                    slope_times(o, grad + at, m * c)
                # o is now the gradient before the last activation
                multiply(into_w2, hidden, o, 1, c, active, hidden, c, hidden, m, into_w2, hidden)
                multiply(into_b2, c, ones, m, 1, o, c, 1, c, m, into_b2, c)
                times(o, x, product, m * c)
                multiply(into_gate, c, ones, m, 1, product, c, 1, c, m, into_gate, c)
                multiply(active, hidden, o, c, 1, w2, hidden, m, hidden, c, 0, 0)
                slope_times(h, active, m * hidden)  # the gradient before the inner activation
                multiply(into_w1, c, h, 1, hidden, z, c, hidden, c, m, into_w1, c)
                multiply(into_b1, hidden, ones, m, 1, h, hidden, 1, hidden, m, into_b1, hidden)
                multiply(ga, c, h, hidden, 1, w1, c, m, c, hidden, 0, 0)
                if not last:
                    copy(a, z, m * c)
                    slope_times(z, ga, m * c)
                g = ga if last else z  # the gradient of a
                if into_local:
                    copy(g, into_local + at, m * c)
                multiply(into_skip, c, g, 1, c, x, c, c, c, m, into_skip, c)
                times(o, gates, a, m * c)
                multiply(a, c, g, c, 1, skip, c, m, c, c, a, c)
                into_t, row = grad_t + 4 * line * modes * c, basis + 4 * first * modes
                multiply(into_t, c, row, 1, modes, g, c, modes, c, m, into_t if first else 0, c)
                tiles += 1
                if tiles % 8 == 0:
                    move_to_sum(into_skip, sums + 4 * item * step, step)
        move_to_sum(into_skip, sums + 4 * item * step, step)
        item = next_item(memory)
    keep(tile)
    keep(constants)
    keep(gradients)
