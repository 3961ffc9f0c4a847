"""Sum over the edges of a graph, one block of channels at a time: no two threads write to one place."""

from math import ceil

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.gelu import gelu_in_place, slope_times
from opflow.kernels.cpu.team import address, arguments_of, compiled, floats, integers, keep, next_item, run
from opflow.kernels.cpu.vectors import add, add_scaled, scale

_BLOCK = 64  # channels


def forward(a: Tensor, b: Tensor, source: Tensor, target: Tensor, weight: Tensor, n: int) -> Tensor:
    """Return the sums `(batch, n, channel)` of a `(batch, point, channel)` and b `(node, channel)`."""
    batch, points, channels = a.shape
    out = a.new_zeros(batch, n, channels)
    sizes = (batch, points, channels, len(b), n, len(source))
    tensors = (a, b, source, target, weight, out)
    run(_forward, batch * ceil(channels / _BLOCK), (*sizes, *(t.data_ptr() for t in tensors)))
    return out


@compiled
def _forward(memory):
    values = to_fixed_tuple(arguments_of(memory), 12)
    batch, points, channels, rows, n, edges, a, b, source, target, weight, out = values
    sources, targets, weights = integers(source, edges), integers(target, edges), floats(weight, edges)
    tile = np.empty(_BLOCK, np.float32)
    z = address(tile)
    item = next_item(memory)
    while item >= 0:
        sample, first = item % batch, item // batch * _BLOCK
        size = min(_BLOCK, channels - first)
        a0, b0 = a + 4 * (sample * points * channels + first), b + 4 * first
        out0 = out + 4 * (sample * n * channels + first)
        for e in range(edges):
            s, t = sources[e], targets[e]
            add(a0 + 4 * s * channels, b0 + 4 * (t % rows) * channels, z, size)
            gelu_in_place(z, size)
            add_scaled(z, weights[e], out0 + 4 * t * channels, size)
        item = next_item(memory)
    keep(tile)


def backward(
    grad: Tensor, a: Tensor, b: Tensor, source: Tensor, target: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of a and b."""
    batch, points, channels = a.shape
    grad_a, grad_b = a.new_zeros(a.shape), b.new_zeros(b.shape)
    sizes = (batch, points, channels, len(b), grad.shape[1], len(source))
    tensors = (a, b, source, target, weight, grad, grad_a, grad_b)
    run(_backward, ceil(channels / _BLOCK), (*sizes, *(t.data_ptr() for t in tensors)))
    return grad_a, grad_b


@compiled
def _backward(memory):
    values = to_fixed_tuple(arguments_of(memory), 14)
    batch, points, channels, rows, n, edges, a, b, source, target, weight, grad, grad_a, grad_b = values
    sources, targets, weights = integers(source, edges), integers(target, edges), floats(weight, edges)
    tile = np.empty((2, _BLOCK), np.float32)
    z, g = address(tile[0]), address(tile[1])
    item = next_item(memory)
    while item >= 0:
        first = item * _BLOCK
        size = min(_BLOCK, channels - first)
        for sample in range(batch):
            offset = 4 * (sample * points * channels + first)
            grad0 = grad + 4 * (sample * n * channels + first)
            for e in range(edges):
                s, t = 4 * sources[e] * channels, targets[e]
                r = 4 * ((t % rows) * channels + first)
                add(a + offset + s, b + r, z, size)
                scale(grad0 + 4 * t * channels, weights[e], g, size)
                slope_times(z, g, size)
                add_scaled(z, np.float32(1), grad_a + offset + s, size)
                add_scaled(z, np.float32(1), grad_b + r, size)
        item = next_item(memory)
    keep(tile)
