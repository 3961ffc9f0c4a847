"""Affine couplings, one sample at a time, in one pass over the field.

Fields are `(batch, point, channel)`: of x and z the first channels are kept, the last `moved` change; of the
parameters the first half are shifts, the other the raw log-scales r, of which :math:`s = 2 tanh(r / 2)`.
Contiguous. The functions of r are evaluated for a tile of points at once, gathered, for the sake of vectors.
"""

import numpy as np
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.silu import exponential
from opflow.kernels.cpu.team import address, arguments_of, compiled, floats, keep, next_item, run

_TILE = 64  # points
_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
_ONE, _TWO = np.float32(1), np.float32(2)


def couple(x: Tensor, parameters: Tensor, inverse: bool, out: Tensor, logdet: Tensor) -> None:
    """Write `(x e^s + t)` or, inverse, `(x - t) e^-s`, and the sum of s or -s of each sample."""
    batch, points, channels = x.shape
    moved = parameters.shape[2] // 2
    addresses = (t.data_ptr() for t in (x, parameters, out, logdet))
    run(_couple, batch, (points, channels, moved, int(inverse), *addresses))


def gradients(
    x: Tensor, parameters: Tensor, grad: Tensor, grad_logdet: Tensor, grad_x: Tensor, grad_parameters: Tensor
) -> None:
    """Write the gradients of `couple`, not inverse, from those of its results."""
    batch, points, channels = x.shape
    moved = parameters.shape[2] // 2
    addresses = (t.data_ptr() for t in (x, parameters, grad, grad_logdet, grad_x, grad_parameters))
    run(_gradients, batch, (points, channels, moved, *addresses))


@njit(**_OPTIONS)
def _shares_and_scales(parameters, shares, scales, points, moved, sign):
    """Write tanh(r / 2) of some points, and exp(sign s)."""
    source = floats(parameters, points * 2 * moved)
    share, scale = floats(shares, points * moved), floats(scales, points * moved)
    for i in range(points):
        for c in range(moved):
            share[i * moved + c] = source[(2 * i + 1) * moved + c]
    for i in range(points * moved):
        e = exponential(share[i])
        t = (_ONE - e) / (_ONE + e)
        share[i] = t
        scale[i] = exponential(-sign * _TWO * t)


@njit(**_OPTIONS)
def _move(x, parameters, scales, out, points, channels, moved, inverse):
    source, target = floats(x, points * channels), floats(out, points * channels)
    shift, scale = floats(parameters, points * 2 * moved), floats(scales, points * moved)
    kept = channels - moved
    for i in range(points):
        at = i * channels
        for c in range(kept):
            target[at + c] = source[at + c]
        at += kept
        if inverse:
            for c in range(moved):
                target[at + c] = (source[at + c] - shift[2 * i * moved + c]) * scale[i * moved + c]
        else:
            for c in range(moved):
                target[at + c] = source[at + c] * scale[i * moved + c] + shift[2 * i * moved + c]


@njit(**_OPTIONS)
def _sum(x, size):
    values, total = floats(x, size), np.float64(0)
    for i in range(size):
        total += values[i]
    return total


def _couple(memory):
    arguments = to_fixed_tuple(arguments_of(memory), 8)
    points, channels, moved, inverse, x, parameters, out, logdet = arguments
    space = np.empty(2 * _TILE * moved, np.float32)
    shares, scales = address(space), address(space) + 4 * _TILE * moved
    sign = np.float32(-1) if inverse else np.float32(1)
    while True:
        item = next_item(memory)
        if item < 0:
            break
        total = np.float64(0)
        for first in range(0, points, _TILE):
            count = min(_TILE, points - first)
            at = item * points + first
            field, parameter = x + 4 * at * channels, parameters + 4 * at * 2 * moved
            _shares_and_scales(parameter, shares, scales, count, moved, sign)
            _move(field, parameter, scales, out + 4 * at * channels, count, channels, moved, inverse)
            total += _sum(shares, count * moved)
        floats(logdet + 4 * item, 1)[0] = 2 * sign * total
    keep(space)


@njit(**_OPTIONS)
def _back(x, grad, shares, scales, of_logdet, grad_x, grad_parameters, points, channels, moved):
    field, given, result = (
        floats(x, points * channels),
        floats(grad, points * channels),
        floats(grad_x, points * channels),
    )
    share, scale = floats(shares, points * moved), floats(scales, points * moved)
    parameter = floats(grad_parameters, points * 2 * moved)
    kept = channels - moved
    for i in range(points):
        at = i * channels
        for c in range(kept):
            result[at + c] = given[at + c]
        at += kept
        for c in range(moved):
            g, e, t = given[at + c], scale[i * moved + c], share[i * moved + c]
            result[at + c] = g * e
            parameter[2 * i * moved + c] = g
            parameter[(2 * i + 1) * moved + c] = (g * e * field[at + c] + of_logdet) * (_ONE - t * t)


def _gradients(memory):
    arguments = to_fixed_tuple(arguments_of(memory), 9)
    points, channels, moved, x, parameters, grad, grad_logdet, grad_x, grad_parameters = arguments
    space = np.empty(2 * _TILE * moved, np.float32)
    shares, scales = address(space), address(space) + 4 * _TILE * moved
    while True:
        item = next_item(memory)
        if item < 0:
            break
        of_logdet = floats(grad_logdet + 4 * item, 1)[0]
        for first in range(0, points, _TILE):
            count = min(_TILE, points - first)
            fields = 4 * (item * points + first) * channels
            halves = 4 * (item * points + first) * 2 * moved
            _shares_and_scales(parameters + halves, shares, scales, count, moved, _ONE)
            _back(
                *(x + fields, grad + fields, shares, scales, of_logdet, grad_x + fields),
                *(grad_parameters + halves, count, channels, moved),
            )
    keep(space)


_couple, _gradients = compiled(_couple), compiled(_gradients)
