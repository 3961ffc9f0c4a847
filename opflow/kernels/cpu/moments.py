"""Sums of squares of a field about its means, and their gradient."""

from math import ceil

from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.team import arguments_of, compiled, next_item, run
from opflow.kernels.cpu.vectors import add_square_offsets, add_times_offsets

_POINTS = 128  # of an item, summed in float32; the sums of items are added in float64


def squares_about(u: Tensor, centre: Tensor) -> Tensor:
    """Return the sums over points of (u - centre)^2: u `(batch, point, c)`, the others `(batch, c)`."""
    batch, points, channels = u.shape
    chunks = ceil(points / _POINTS)
    sums = u.new_zeros(batch, chunks, channels)
    addresses = (t.data_ptr() for t in (u, centre, sums))
    run(_squares_about, batch * chunks, (chunks, points, channels, *addresses))
    return sums.double().sum(1).to(u)


@compiled
def _squares_about(memory):
    chunks, points, c, u, centres, sums = to_fixed_tuple(arguments_of(memory), 6)
    item = next_item(memory)
    while item >= 0:
        batch, first = item // chunks, item % chunks * _POINTS
        for p in range(first, min(points, first + _POINTS)):
            add_square_offsets(
                u + 4 * (batch * points + p) * c, centres + 4 * batch * c, sums + 4 * item * c, c
            )
        item = next_item(memory)


def add_offsets(u: Tensor, centre: Tensor, scale: Tensor, out: Tensor) -> None:
    """Add (u - centre) scale to `out`; shapes as in `squares_about`, all contiguous."""
    batch, points, channels = u.shape
    chunks = ceil(points / _POINTS)
    addresses = (t.data_ptr() for t in (u, centre, scale, out))
    run(_add_offsets, batch * chunks, (chunks, points, channels, *addresses))


@compiled
def _add_offsets(memory):
    chunks, points, c, u, centres, scales, out = to_fixed_tuple(arguments_of(memory), 7)
    item = next_item(memory)
    while item >= 0:
        batch, first = item // chunks, item % chunks * _POINTS
        for p in range(first, min(points, first + _POINTS)):
            at = 4 * (batch * points + p) * c
            add_times_offsets(u + at, centres + 4 * batch * c, scales + 4 * batch * c, out + at, c)
        item = next_item(memory)
