"""Group norm with a gain and an offset per sample and channel, and SiLU, one sample at a time in cache.

Fields are `(batch, point, channel)`, what belongs to a sample and channel `(batch, channel)`; contiguous.
"""

import numpy as np
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.gemm import multiply
from opflow.kernels.cpu.silu import silu, silu_slope
from opflow.kernels.cpu.team import address, arguments_of, compiled, floats, keep, next_item, run
from opflow.kernels.cpu.vectors import move_to_sum

EPS = 1e-5
_TILE = 64  # points, the sums of which are added up: long sums of small numbers lose digits
_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


def forward(
    x: Tensor, gain: Tensor, offset: Tensor, groups: int, activate: bool, out: Tensor
) -> tuple[Tensor, Tensor]:
    """Write the norm of x to `out`; return the mean of the group and one over its deviation, per channel."""
    batch, points, channels = x.shape
    mean, rate = x.new_zeros(2, batch, channels)
    addresses = (t.data_ptr() for t in (x, gain, offset, mean, rate, out))
    run(_forward, batch, (points, channels, groups, int(activate), *addresses))
    return mean, rate


@njit(**_OPTIONS)
def _add_rows(x, ones, part, total, points, channels):
    multiply(part, channels, ones, points, 1, x, channels, 1, channels, points, 0, 0)
    move_to_sum(part, total, channels)


@njit(**_OPTIONS)
def _squares(x, mean, out, points, channels):
    source, target = floats(x, points * channels), floats(out, points * channels)
    middle = floats(mean, channels)
    for i in range(points):
        for c in range(channels):
            difference = source[i * channels + c] - middle[c]
            target[i * channels + c] = difference * difference


@njit(**_OPTIONS)
def _average(sums, channels, groups, points):
    """Replace the sum of each channel by the mean of its group."""
    values, size = floats(sums, channels), channels // groups
    for first in range(0, channels, size):
        total = np.float64(0)
        for c in range(first, first + size):
            total += values[c]
        for c in range(first, first + size):
            values[c] = total / (size * points)


@njit(**_OPTIONS)
def _line(gain, offset, mean, rate, factor, constant, channels):
    """Write the norm of a channel as factor x + constant."""
    g, o, m, r = (
        floats(gain, channels),
        floats(offset, channels),
        floats(mean, channels),
        floats(rate, channels),
    )
    a, b = floats(factor, channels), floats(constant, channels)
    for c in range(channels):
        a[c] = g[c] * r[c]
        b[c] = o[c] - a[c] * m[c]


@njit(**_OPTIONS)
def _apply(x, factor, constant, out, points, channels, activate):
    source, target = floats(x, points * channels), floats(out, points * channels)
    a, b = floats(factor, channels), floats(constant, channels)
    if activate:
        for i in range(points):
            for c in range(channels):
                target[i * channels + c] = silu(a[c] * source[i * channels + c] + b[c])
    else:
        for i in range(points):
            for c in range(channels):
                target[i * channels + c] = a[c] * source[i * channels + c] + b[c]


@compiled
def _forward(memory):
    values = to_fixed_tuple(arguments_of(memory), 10)
    points, channels, groups, activate, x, gain, offset, mean, rate, out = values
    row, tile, lines = (
        np.ones(_TILE, np.float32),
        np.empty(_TILE * channels, np.float32),
        np.empty(2 * channels, np.float32),
    )
    ones, squares, factor = address(row), address(tile), address(lines)
    constant = factor + 4 * channels
    item = next_item(memory)
    while item >= 0:
        sample, at = 4 * item * points * channels, 4 * item * channels
        for first in range(0, points, _TILE):
            xt = x + sample + 4 * first * channels
            _add_rows(xt, ones, factor, mean + at, min(_TILE, points - first), channels)
        _average(mean + at, channels, groups, points)
        for first in range(0, points, _TILE):
            m = min(_TILE, points - first)
            _squares(x + sample + 4 * first * channels, mean + at, squares, m, channels)
            _add_rows(squares, ones, factor, rate + at, m, channels)
        _average(rate + at, channels, groups, points)
        rates = floats(rate + at, channels)
        for c in range(channels):
            rates[c] = 1 / np.sqrt(rates[c] + EPS)
        _line(gain + at, offset + at, mean + at, rate + at, factor, constant, channels)
        _apply(x + sample, factor, constant, out + sample, points, channels, activate)
        item = next_item(memory)
    keep(row)
    keep(tile)
    keep(lines)


def backward(
    grad: Tensor,
    x: Tensor,
    gain: Tensor,
    offset: Tensor,
    mean: Tensor,
    rate: Tensor,
    groups: int,
    activate: bool,
    grad_x: Tensor,
) -> tuple[Tensor, Tensor]:
    """Write the gradient of x to `grad_x`; return those of gain and offset."""
    batch, points, channels = x.shape
    grad_gain, grad_offset = x.new_zeros(2, batch, channels)
    tensors = (grad, x, gain, offset, mean, rate, grad_x, grad_gain, grad_offset)
    run(_backward, batch, (points, channels, groups, int(activate), *(t.data_ptr() for t in tensors)))
    return grad_gain, grad_offset


@njit(**_OPTIONS)
def _slopes(grad, x, factor, constant, out, points, channels, activate):
    """Write the gradient before the activation."""
    source, target = floats(x, points * channels), floats(out, points * channels)
    a, b, g = floats(factor, channels), floats(constant, channels), floats(grad, points * channels)
    if activate:
        for i in range(points):
            for c in range(channels):
                at = i * channels + c
                target[at] = g[at] * silu_slope(a[c] * source[at] + b[c])
    else:
        for at in range(points * channels):
            target[at] = g[at]


@njit(**_OPTIONS)
def _centred_times(x, mean, other, out, points, channels):
    source, target = floats(x, points * channels), floats(out, points * channels)
    middle, factor = floats(mean, channels), floats(other, points * channels)
    for i in range(points):
        for c in range(channels):
            at = i * channels + c
            target[at] = (source[at] - middle[c]) * factor[at]


@njit(**_OPTIONS)
def _to_gradient(grad, x, mean, factor, tilt, lift, points, channels):
    """Replace the gradient behind the norm by the one before it."""
    target, source = floats(grad, points * channels), floats(x, points * channels)
    middle, a, b, c0 = (
        floats(mean, channels),
        floats(factor, channels),
        floats(tilt, channels),
        floats(lift, channels),
    )
    for i in range(points):
        for c in range(channels):
            at = i * channels + c
            target[at] = a[c] * target[at] + b[c] * (source[at] - middle[c]) + c0[c]


@compiled
def _backward(memory):
    values = to_fixed_tuple(arguments_of(memory), 13)
    points, channels, groups, activate, grad, x, gain, offset, mean, rate, grad_x, grad_gain, grad_offset = (
        values
    )
    row, tile, lines = (
        np.ones(_TILE, np.float32),
        np.empty(_TILE * channels, np.float32),
        np.empty((4, channels), np.float32),
    )
    ones, products = address(row), address(tile)
    factor, constant, tilt, lift = address(lines[0]), address(lines[1]), address(lines[2]), address(lines[3])
    item = next_item(memory)
    while item >= 0:
        sample, at = 4 * item * points * channels, 4 * item * channels
        _line(gain + at, offset + at, mean + at, rate + at, factor, constant, channels)
        for first in range(0, points, _TILE):
            m, here = min(_TILE, points - first), sample + 4 * first * channels
            _slopes(grad + here, x + here, factor, constant, grad_x + here, m, channels, activate)
            _add_rows(grad_x + here, ones, tilt, grad_offset + at, m, channels)
            _centred_times(x + here, mean + at, grad_x + here, products, m, channels)
            _add_rows(products, ones, tilt, grad_gain + at, m, channels)
        gains, rates = floats(gain + at, channels), floats(rate + at, channels)
        from_gain, from_offset = floats(grad_gain + at, channels), floats(grad_offset + at, channels)
        for c in range(channels):
            from_gain[c] *= rates[c]
            lines[2, c], lines[3, c] = gains[c] * from_gain[c], gains[c] * from_offset[c]
        _average(tilt, channels, groups, points)
        _average(lift, channels, groups, points)
        for c in range(channels):
            lines[2, c] *= -rates[c] * rates[c]
            lines[3, c] *= -rates[c]
        _to_gradient(grad_x + sample, x + sample, mean + at, factor, tilt, lift, points, channels)
        item = next_item(memory)
    keep(row)
    keep(tile)
    keep(lines)
