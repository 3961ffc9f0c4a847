"""The stencil as compiled loops over runs of cells."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import prange

from solvers.compiled import compiled, with_threads
from solvers.lines import Lines

_SMALL = 1 << 15  # cells below which starting threads costs more than it saves


def call(kernel: str, lines: Lines, threads: int, *arguments: Any) -> None:
    """Run a kernel of this file over all runs, in several threads where that pays."""
    serial, parallel = _KERNELS[kernel]
    if threads == 1 or lines.cells < _SMALL:
        serial(0, len(lines.runs), lines.runs, *arguments)
    else:
        with_threads(threads, parallel, lines.bounds, lines.runs, *arguments)


@compiled
def _scatter(first, last, runs, x, factor, u):
    """Write factor * x, packed, to its places in u, of any precision."""
    for run in range(first, last):
        start, n = np.uint64(runs[run, 0]), np.uint64(runs[run, 2])
        shift = start - np.uint64(runs[run, 1])
        for p in range(start, start + n):
            u[p] = factor * x[p - shift]


@compiled
def _gather(first, last, runs, u, factor, x):
    """Write factor * u, packed, to x, of any precision."""
    for run in range(first, last):
        start, n = np.uint64(runs[run, 0]), np.uint64(runs[run, 2])
        shift = start - np.uint64(runs[run, 1])
        for p in range(start, start + n):
            x[p - shift] = factor * u[p]


@compiled
def _start(first, last, runs, right, d, factor, u):
    """Write u = factor * right / d, the first smoothing step from zero."""
    for run in range(first, last):
        start, n = np.uint64(runs[run, 0]), np.uint64(runs[run, 2])
        for p in range(start, start + n):
            u[p] = factor * right[p] / d[p]


# x, y, z are the conductances along the last axis, the one before it, and the first. Places are unsigned:
# indices that might be negative, and count from the end, would keep the loops from becoming vector code.
_1 = np.uint64(1)


# Sums of conductance times value over the neighbours of a place, by the number of axes. They are put into the
# loops before those are compiled: a call, even one that LLVM inlines later, kept the loops scalar, and so did
# one loop for all that asks for the number of axes inside, many times slower.
@numba.njit(inline="always")
def _around_1(u, x, p):
    return x[p] * u[p + _1] + x[p - _1] * u[p - _1]


@numba.njit(inline="always")
def _around_2(u, x, y, s, p):
    return _around_1(u, x, p) + (y[p] * u[p + s] + y[p - s] * u[p - s])


@numba.njit(inline="always")
def _around_3(u, x, y, z, s, t, p):
    return _around_2(u, x, y, s, p) + (z[p] * u[p + t] + z[p - t] * u[p - t])


@compiled
def _apply(first, last, runs, u, d, x, y, z, s, t, out):
    """Write out = A u, packed."""
    s, t = np.uint64(s), np.uint64(t)
    for run in range(first, last):
        start, n = np.uint64(runs[run, 0]), np.uint64(runs[run, 2])
        shift = start - np.uint64(runs[run, 1])
        if t > 0:
            for p in range(start, start + n):
                out[p - shift] = d[p] * u[p] - _around_3(u, x, y, z, s, t, p)
        elif s > 0:
            for p in range(start, start + n):
                out[p - shift] = d[p] * u[p] - _around_2(u, x, y, s, p)
        else:
            for p in range(start, start + n):
                out[p - shift] = d[p] * u[p] - _around_1(u, x, p)


@compiled
def _residual(first, last, runs, u, d, x, y, z, s, t, right, r):
    """Write r = right - A u."""
    s, t = np.uint64(s), np.uint64(t)
    for run in range(first, last):
        start, n = np.uint64(runs[run, 0]), np.uint64(runs[run, 2])
        if t > 0:
            for p in range(start, start + n):
                r[p] = right[p] - d[p] * u[p] + _around_3(u, x, y, z, s, t, p)
        elif s > 0:
            for p in range(start, start + n):
                r[p] = right[p] - d[p] * u[p] + _around_2(u, x, y, s, p)
        else:
            for p in range(start, start + n):
                r[p] = right[p] - d[p] * u[p] + _around_1(u, x, p)


@compiled
def _smooth(first, last, runs, u, d, x, y, z, s, t, right, factor, v):
    """Write v = u + factor * (right - A u) / d."""
    s, t = np.uint64(s), np.uint64(t)
    for run in range(first, last):
        start, n = np.uint64(runs[run, 0]), np.uint64(runs[run, 2])
        if t > 0:
            for p in range(start, start + n):
                v[p] = u[p] + factor * ((right[p] + _around_3(u, x, y, z, s, t, p)) / d[p] - u[p])
        elif s > 0:
            for p in range(start, start + n):
                v[p] = u[p] + factor * ((right[p] + _around_2(u, x, y, s, p)) / d[p] - u[p])
        else:
            for p in range(start, start + n):
                v[p] = u[p] + factor * ((right[p] + _around_1(u, x, p)) / d[p] - u[p])


# Several vectors at a time lie side by side, `(cell, vector)`, as columns of a matrix do: conductances are
# read once for all, and the innermost loop runs over the vectors whatever the length of the runs.
@compiled
def _scatter_columns(first, last, runs, x, u):
    """Write the packed rows of x to their places in u."""
    for run in range(first, last):
        start, n = np.uint64(runs[run, 0]), np.uint64(runs[run, 2])
        shift = start - np.uint64(runs[run, 1])
        for p in range(start, start + n):
            for k in range(np.uint64(x.shape[1])):
                u[p, k] = x[p - shift, k]


@compiled
def _apply_columns(first, last, runs, u, d, x, y, z, s, t, out):
    """Write out = A u, packed, for all columns."""
    s, t = np.uint64(s), np.uint64(t)
    for run in range(first, last):
        start, n = np.uint64(runs[run, 0]), np.uint64(runs[run, 2])
        shift = start - np.uint64(runs[run, 1])
        for p in range(start, start + n):
            own, x0, x1, y0, y1, z0, z1 = d[p], x[p - _1], x[p], y[p - s], y[p], z[p - t], z[p]
            for k in range(np.uint64(u.shape[1])):
                around = x0 * u[p - _1, k] + x1 * u[p + _1, k]
                if s > 0:
                    around += y0 * u[p - s, k] + y1 * u[p + s, k]
                if t > 0:
                    around += z0 * u[p - t, k] + z1 * u[p + t, k]
                out[p - shift, k] = own * u[p, k] - around


@compiled(parallel=True)
def _scatter_parts(bounds, runs, *arguments):
    for part in prange(len(bounds) - 1):
        _scatter(bounds[part], bounds[part + 1], runs, *arguments)


@compiled(parallel=True)
def _gather_parts(bounds, runs, *arguments):
    for part in prange(len(bounds) - 1):
        _gather(bounds[part], bounds[part + 1], runs, *arguments)


@compiled(parallel=True)
def _start_parts(bounds, runs, *arguments):
    for part in prange(len(bounds) - 1):
        _start(bounds[part], bounds[part + 1], runs, *arguments)


@compiled(parallel=True)
def _apply_parts(bounds, runs, *arguments):
    for part in prange(len(bounds) - 1):
        _apply(bounds[part], bounds[part + 1], runs, *arguments)


@compiled(parallel=True)
def _residual_parts(bounds, runs, *arguments):
    for part in prange(len(bounds) - 1):
        _residual(bounds[part], bounds[part + 1], runs, *arguments)


@compiled(parallel=True)
def _smooth_parts(bounds, runs, *arguments):
    for part in prange(len(bounds) - 1):
        _smooth(bounds[part], bounds[part + 1], runs, *arguments)


@compiled(parallel=True)
def _scatter_columns_parts(bounds, runs, *arguments):
    for part in prange(len(bounds) - 1):
        _scatter_columns(bounds[part], bounds[part + 1], runs, *arguments)


@compiled(parallel=True)
def _apply_columns_parts(bounds, runs, *arguments):
    for part in prange(len(bounds) - 1):
        _apply_columns(bounds[part], bounds[part + 1], runs, *arguments)


_KERNELS = {
    "scatter": (_scatter, _scatter_parts),
    "gather": (_gather, _gather_parts),
    "start": (_start, _start_parts),
    "apply": (_apply, _apply_parts),
    "residual": (_residual, _residual_parts),
    "smooth": (_smooth, _smooth_parts),
    "scatter columns": (_scatter_columns, _scatter_columns_parts),
    "apply columns": (_apply_columns, _apply_columns_parts),
}
