"""Mean and variance of fields over points and slots, and the gradient of the variance."""

import numpy as np
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.team import arguments_of, compiled, floats, next_item, run

_ROWS = 64  # summed in float32 before the sum goes to float64


def moments(u: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of `(batch, point, slot, c)`, contiguous: `(batch, c)` each."""
    batch, *sizes, channels = u.shape
    mean, variance = (u.new_empty(batch, channels) for _ in range(2))
    run(_moments, batch, (*sizes, channels, *(t.data_ptr() for t in (u, mean, variance))))
    return mean, variance


_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


@njit(**_OPTIONS)
def _power_sums(u, points, width, centre, power, row, total):
    """Write the sum of u - centre, or of its square, over the points, to `total`."""
    field = floats(u, points * width)
    total[:] = 0
    for first in range(0, points, _ROWS):
        row[:] = 0
        for p in range(first, min(points, first + _ROWS)):
            for j in range(width):
                offset = field[p * width + j] - centre[j]
                row[j] += offset if power == 1 else offset * offset
        for j in range(width):
            total[j] += row[j]


@compiled
def _moments(memory):
    points, slots, channels, u, means, variances = to_fixed_tuple(arguments_of(memory), 6)
    width = slots * channels
    centre, row = np.empty(width, np.float32), np.empty(width, np.float32)
    total = np.empty(width, np.float64)
    item = next_item(memory)
    while item >= 0:
        mean, variance = (
            floats(means + 4 * item * channels, channels),
            floats(variances + 4 * item * channels, channels),
        )
        at = u + 4 * item * points * width
        centre[:] = 0
        _power_sums(at, points, width, centre, 1, row, total)
        for c in range(channels):
            mean[c] = total[c::channels].sum() / (points * slots)
        for j in range(width):
            centre[j] = mean[j % channels]
        _power_sums(at, points, width, centre, 2, row, total)
        for c in range(channels):
            variance[c] = total[c::channels].sum() / (points * slots)
        item = next_item(memory)


def scaled_offsets(u: Tensor, mean: Tensor, scale: Tensor, out: Tensor) -> Tensor:
    """Write (u - mean) scale to `out`; u and out `(batch, point, slot, c)`, the others `(batch, c)`."""
    batch, *sizes, channels = u.shape
    addresses = (t.data_ptr() for t in (u, mean.contiguous(), scale.contiguous(), out))
    run(_scaled_offsets, batch, (*sizes, channels, *addresses))
    return out


@compiled
def _scaled_offsets(memory):
    points, slots, channels, u, means, scales, out = to_fixed_tuple(arguments_of(memory), 7)
    width = slots * channels
    centre, factor = np.empty(width, np.float32), np.empty(width, np.float32)
    item = next_item(memory)
    while item >= 0:
        mean, scale = (
            floats(means + 4 * item * channels, channels),
            floats(scales + 4 * item * channels, channels),
        )
        for j in range(width):
            centre[j], factor[j] = mean[j % channels], scale[j % channels]
        source = floats(u + 4 * item * points * width, points * width)
        target = floats(out + 4 * item * points * width, points * width)
        for p in range(points):
            for j in range(width):
                target[p * width + j] = (source[p * width + j] - centre[j]) * factor[j]
        item = next_item(memory)
