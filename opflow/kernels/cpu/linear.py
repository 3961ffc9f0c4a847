"""A linear map of the channels at many points."""

from math import ceil

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.gemm import multiply
from opflow.kernels.cpu.team import address, arguments_of, compiled, keep, next_item, run
from opflow.kernels.cpu.vectors import move_to_sum

_TILE, _ITEMS = 96, 64  # points of a product, products that are shared out, at most
_BLOCK = 64  # rows and columns of the gradient of the weight that an item sums up
_DEPTH = 256  # points of one product for it, the sums of which are added up


def forward(x: Tensor, matrix: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """Write `x matrix + bias` to `out`; x `(points, in)`, matrix `(in, out)`; contiguous."""
    points, n_in = x.shape
    size = _TILE * ceil(points / (_TILE * _ITEMS))
    addresses = (x.data_ptr(), matrix.data_ptr(), 0 if bias is None else bias.data_ptr(), out.data_ptr())
    run(_forward, ceil(points / size), (size, points, n_in, matrix.shape[1], *addresses))


@compiled
def _forward(memory):
    size, points, n_in, n_out, x, matrix, bias, out = to_fixed_tuple(arguments_of(memory), 8)
    item = next_item(memory)
    while item >= 0:
        end = min(points, (item + 1) * size)
        for first in range(item * size, end, _TILE):
            at, m = x + 4 * first * n_in, min(_TILE, end - first)
            multiply(out + 4 * first * n_out, n_out, at, n_in, 1, matrix, n_out, m, n_out, n_in, bias, 0)
        item = next_item(memory)


def weight_gradient(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of weight and bias from `(points, out)` and `(points, in)`; contiguous."""
    points, n_in = x.shape
    n_out = grad.shape[1]
    weight, bias = x.new_zeros(n_out, n_in), x.new_zeros(n_out)
    across = ceil(n_in / _BLOCK)
    addresses = (t.data_ptr() for t in (grad, x, weight, bias))
    run(_weight_gradient, ceil(n_out / _BLOCK) * across, (points, n_in, n_out, across, *addresses))
    return weight, bias


@compiled
def _weight_gradient(memory):
    points, n_in, n_out, across, grad, x, weight, bias = to_fixed_tuple(arguments_of(memory), 8)
    block, row = np.empty(_BLOCK * _BLOCK, np.float32), np.ones(_DEPTH, np.float32)
    part, ones = address(block), address(row)
    item = next_item(memory)
    while item >= 0:
        top, left = item // across * _BLOCK, item % across * _BLOCK
        high, wide = min(_BLOCK, n_out - top), min(_BLOCK, n_in - left)
        for first in range(0, points, _DEPTH):
            k = min(_DEPTH, points - first)
            g, at = grad + 4 * (first * n_out + top), x + 4 * (first * n_in + left)
            multiply(part, wide, g, 1, n_out, at, n_in, high, wide, k, 0, 0)
            for i in range(high):
                move_to_sum(part + 4 * i * wide, weight + 4 * ((top + i) * n_in + left), wide)
            if left == 0:
                multiply(part, high, ones, k, 1, g, n_out, 1, high, k, 0, 0)
                move_to_sum(part, bias + 4 * top, high)
        item = next_item(memory)
    keep(block)
    keep(row)
