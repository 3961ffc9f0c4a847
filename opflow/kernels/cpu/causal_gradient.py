"""Gradient of the kernel of a causal convolution: products of rows of two fields, an image at a time.

The library's weight gradient wants a padded copy and reorders all fields into memory of its own, which costs
more than the products. Here a copy of one group of one image exists, channels last, with its margin of zeros.
"""

from math import ceil

import numpy as np
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.gemm import multiply
from opflow.kernels.cpu.team import address, arguments_of, compiled, floats, integers, keep, next_item, run
from opflow.kernels.cpu.vectors import move_to_sum

_SUMS = 32  # at most: partial gradients, added in one order on any number of threads


def weight_gradient(x: Tensor, grad: Tensor, flips: Tensor, c: int, up: int, left: int) -> Tensor:
    """Return the gradient `(channel, c, up, left)` from fields `(batch, channel, row, column)`, contiguous.

    `flips` `(group,)`, int64, has bit 0 set for reversed rows and bit 1 for reversed columns.
    """
    batch, channels, rows, columns = x.shape
    groups, images = channels // c, max(1, ceil(batch / _SUMS))
    chunks = ceil(batch / images)
    sums = x.new_zeros(chunks, groups, up, c, left, c)
    sizes = (batch, groups, c, rows, columns, up - 1, left - 1, images)
    run(_gradient, chunks * groups, (*sizes, *(t.data_ptr() for t in (x, grad, flips, sums))))
    return sums.sum(0).permute(0, 2, 4, 1, 3).reshape(channels, c, up, left)


@njit(nogil=True, error_model="numpy")
def _channels_last(field, c, rows, columns, origin, down, across, out, out_row):
    """Write `(c, rows, columns)`, read from `origin` with these steps, as rows of `(columns, c)`."""
    plane = rows * columns
    source, target = floats(field, c * plane), floats(out, (rows - 1) * out_row + columns * c)
    for s in range(c):
        for i in range(rows):
            at, to = s * plane + origin + i * down, i * out_row + s
            for _ in range(columns):
                target[to] = source[at]
                at += across
                to += c


@compiled
def _gradient(memory):
    values = to_fixed_tuple(arguments_of(memory), 12)
    batch, groups, c, rows, columns, up, left, most, x, grad, flips, sums = values
    plane, width, out_row = rows * columns, (left + 1) * c, (columns + left) * c
    padded = np.zeros((rows + up) * out_row, np.float32)
    totals = np.zeros((up + 1) * c * width, np.float32)
    field, into = address(padded), address(totals)
    turned = integers(flips, groups)
    item = next_item(memory)
    while item >= 0:
        group, first = item % groups, item // groups * most
        origin, down, across = 0, columns, 1
        if turned[group] & 1:
            origin, down = origin + (rows - 1) * columns, -columns
        if turned[group] & 2:
            origin, across = origin + columns - 1, -1
        for image in range(first, min(batch, first + most)):
            at = 4 * (image * groups + group) * c * plane
            inner = field + 4 * (up * out_row + left * c)
            _channels_last(x + at, c, rows, columns, origin, down, across, inner, out_row)
            for i in range(rows):
                right = grad + at + 4 * (origin + i * down)
                for k in range(up + 1):
                    # What a row sees through row k of the kernel: windows that overlap.
                    seen, target = field + 4 * (i + k) * out_row, into + 4 * k * c * width
                    multiply(target, width, right, plane, across, seen, c, c, width, columns, target, width)
            move_to_sum(into, sums + 4 * item * (up + 1) * c * width, (up + 1) * c * width)
        item = next_item(memory)
    keep(padded)
    keep(totals)
