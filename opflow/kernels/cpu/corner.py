"""Multiply the taps of causal kernels by the inverse of their corner, in double precision."""

import numpy as np
import torch
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.team import arguments_of, compiled, doubles, floats, run


def divide(weight: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Return `divide_by_corner` of a contiguous kernel, and smallest over largest pivot of each group.

    The ratio is NaN where something is not finite, or the corner has no pivot at all.
    """
    c, k = weight.shape[1], weight[0, 0].numel()
    taps, ratios = torch.empty_like(weight), torch.empty(groups, dtype=torch.float64)
    run(_divide, 1, (groups, c, k, weight.data_ptr(), taps.data_ptr(), ratios.data_ptr()))
    return taps.view(groups, c, *weight.shape[1:]), ratios


@compiled
def _divide(memory):
    groups, c, k, weight, taps, ratios = to_fixed_tuple(arguments_of(memory), 6)
    n = c * k
    rows = np.empty((c, n + c))  # taps, and the identity that becomes the inverse
    pivots = doubles(ratios, groups)
    for group in range(groups):
        source, target = floats(weight + 4 * group * c * n, c * n), floats(taps + 4 * group * c * n, c * n)
        for o in range(c):
            for i in range(n):
                rows[o, i] = source[o * n + i]
            rows[o, n:] = 0
            rows[o, n + o] = 1
        smallest, largest = np.inf, 0.0
        for p in range(c):  # Gauss and Jordan's elimination of the corner's columns
            column, best = p * k + k - 1, p
            for o in range(p + 1, c):
                if abs(rows[o, column]) > abs(rows[best, column]):
                    best = o
            for i in range(n + c):
                rows[p, i], rows[best, i] = rows[best, i], rows[p, i]
            pivot = rows[p, column]
            smallest, largest = min(smallest, abs(pivot)), max(largest, abs(pivot))
            rows[p] /= pivot
            for o in range(c):
                if o != p:
                    factor = rows[o, column]
                    for i in range(n + c):
                        rows[o, i] -= factor * rows[p, i]
        finite = True
        for o in range(c):
            for i in range(n):
                value = rows[o, n + i // k] if i % k == k - 1 else rows[o, i]
                target[o * n + i] = value
                finite &= np.isfinite(value)
        pivots[group] = smallest / largest if finite else np.nan
