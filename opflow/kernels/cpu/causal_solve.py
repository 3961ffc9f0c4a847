"""The recurrence of `causal_solve` along anti-diagonals, a few images at a time.

The points of a diagonal, of several images side by side, are the columns of matrix products with the taps.
Only the diagonals that the kernel reaches back to exist in this layout, in a buffer that slides along; fields
are read and written in their own, whether the points of a channel or the channels of a point lie together,
from either end of each axis.
"""

from math import ceil

import numpy as np
import torch
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.gemm import multiply
from opflow.kernels.cpu.team import address, arguments_of, compiled, floats, integers, keep, next_item, run
from opflow.kernels.cpu.vectors import copy
from opflow.kernels.memory import empty

_LANES = 128  # columns of a product that are worth the most images side by side
_IMAGES = 16  # at most
_SLOTS = 4  # lengths of what the kernel reaches back, in the buffer that slides


def solve(y: Tensor, taps: Tensor, flips: Tensor) -> Tensor:
    """Return x for y `(batch, channel, row, column)`, and taps of `divide_by_corner`, contiguous.

    y is contiguous or channels-last, and x alike. `flips` `(group,)`, int64, has bit 0 set for reversed rows
    and bit 1 for reversed columns.
    """
    batch, channels, rows, columns = y.shape
    groups, c, _, up, left = taps.shape
    most = min(_IMAGES, ceil(_LANES / min(rows, columns)), ceil(batch * groups / torch.get_num_threads()))
    images = max(1, min(most, batch))
    if y.is_contiguous():
        x, between = empty(y.shape, y), (rows * columns, 1)
    else:
        x, between = empty((batch, rows, columns, channels), y).permute(0, 3, 1, 2), (1, channels)
    sizes = (batch, groups, c, rows, columns, up - 1, left - 1, images, *between)
    addresses = (t.data_ptr() for t in (y, taps, flips, x))
    run(_solve, ceil(batch / images) * groups, (*sizes, *addresses))
    return x


@njit(nogil=True, error_model="numpy")
def _gather(field, start, step, channel, image, c, points, images, lanes, row):
    """Write points of a diagonal, `step` numbers apart in the field, as `(c, points, image)` at `lanes`."""
    for o in range(c):
        out = floats(lanes + 4 * o * row, points * images)
        for v in range(images):
            source = floats(field + 4 * (o * channel + v * image), image)
            at = start
            for p in range(points):
                out[p * images + v] = source[at]
                at += step


@njit(nogil=True, error_model="numpy")
def _scatter(field, start, step, channel, image, c, points, images, lanes, row):
    """Do the opposite of `_gather`."""
    for o in range(c):
        source = floats(lanes + 4 * o * row, points * images)
        for v in range(images):
            out = floats(field + 4 * (o * channel + v * image), image)
            at = start
            for p in range(points):
                out[at] = source[p * images + v]
                at += step


@njit(nogil=True, error_model="numpy")
def _arrange(taps, out, c, up, left):
    """Write taps `(c, c, up + 1, left + 1)` as `(up + 1, c, left + 1, c)`, by the row they look back to.

    What they find is subtracted, but for the right-hand side, which the corner finds.
    """
    size = (up + 1) * (left + 1)
    source, target = floats(taps, c * c * size), floats(out, c * c * size)
    for o in range(c):
        for s in range(c):
            for a in range(up + 1):
                for b in range(left + 1):
                    value = source[(o * c + s) * size + (up - a) * (left + 1) + b]
                    target[((a * c + o) * (left + 1) + b) * c + s] = value if a == 0 and b == left else -value


@compiled
def _solve(memory):
    values = to_fixed_tuple(arguments_of(memory), 14)
    batch, groups, c, rows, columns, up, left, most, channel, point, y, taps, flips, x = values
    reach, width = up + left, (left + 1) * c
    row = (rows + up) * most  # lanes of a channel: those above the first row stay zero
    diagonal = c * row
    buffer = np.empty((_SLOTS * reach + 1) * diagonal, np.float32)
    scratch = np.empty(diagonal, np.float32)
    arranged = np.empty((up + 1) * c * width, np.float32)
    slots, partial, matrices = address(buffer), address(scratch), address(arranged)
    turned = integers(flips, groups)
    item = next_item(memory)
    while item >= 0:
        group, first = item % groups, item // groups * most
        images = min(most, batch - first)
        _arrange(taps + 4 * group * (up + 1) * c * width, matrices, c, up, left)
        image = groups * c * rows * columns
        at = 4 * (first * image + group * c * channel)
        origin, down, across = 0, columns * point, point
        if turned[group] & 1:
            origin, down = origin + (rows - 1) * down, -down
        if turned[group] & 2:
            origin, across = origin + (columns - 1) * across, -across
        buffer[:] = 0
        slot = reach
        for d in range(rows + columns - 1):
            if slot > _SLOTS * reach:
                for s in range(reach):
                    copy(slots + 4 * (slot - reach + s) * diagonal, slots + 4 * s * diagonal, diagonal)
                slot = reach
            low, high = max(0, d - columns + 1), min(rows, d + 1)
            n = (high - low) * images
            here = slots + 4 * (slot * diagonal + (low + up) * images)
            start, step = origin + low * down + (d - low) * across, down - across
            _gather(y + at, start, step, channel, image, c, high - low, images, here, row)
            for a in range(up + 1):
                # Columns of the row a above, from `left` to the left on.
                back = here - 4 * ((a + left) * diagonal + a * images)
                into, into_row = (here, row) if a == up and up > 0 else (partial, n)
                sums = partial if a > 0 else 0
                weights = matrices + 4 * a * c * width
                multiply(into, into_row, weights, width, 1, back, row, c, n, width, sums, n)
            if up == 0:
                for o in range(c):
                    copy(partial + 4 * o * n, here + 4 * o * row, n)
            _scatter(x + at, start, step, channel, image, c, high - low, images, here, row)
            slot += 1
        item = next_item(memory)
    keep(buffer)
    keep(scratch)
    keep(arranged)
