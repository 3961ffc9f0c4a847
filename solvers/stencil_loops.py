"""The stencil as compiled loops over runs of cells."""

from __future__ import annotations

from typing import Any

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


@compiled
def _apply(first, last, runs, u, d, x, y, z, s, t, out):
    """Write out = A u, packed."""
    s, t = np.uint64(s), np.uint64(t)
    for run in range(first, last):
        start, n = np.uint64(runs[run, 0]), np.uint64(runs[run, 2])
        shift = start - np.uint64(runs[run, 1])
        if t > 0:
            for p in range(start, start + n):
                around = x[p] * u[p + _1] + x[p - _1] * u[p - _1]
                around += y[p] * u[p + s] + y[p - s] * u[p - s]
                around += z[p] * u[p + t] + z[p - t] * u[p - t]
                out[p - shift] = d[p] * u[p] - around
        elif s > 0:
            for p in range(start, start + n):
                around = x[p] * u[p + _1] + x[p - _1] * u[p - _1]
                around += y[p] * u[p + s] + y[p - s] * u[p - s]
                out[p - shift] = d[p] * u[p] - around
        else:
            for p in range(start, start + n):
                around = x[p] * u[p + _1] + x[p - _1] * u[p - _1]
                out[p - shift] = d[p] * u[p] - around


@compiled
def _residual(first, last, runs, u, d, x, y, z, s, t, right, r):
    """Write r = right - A u."""
    s, t = np.uint64(s), np.uint64(t)
    for run in range(first, last):
        start, n = np.uint64(runs[run, 0]), np.uint64(runs[run, 2])
        if t > 0:
            for p in range(start, start + n):
                around = x[p] * u[p + _1] + x[p - _1] * u[p - _1]
                around += y[p] * u[p + s] + y[p - s] * u[p - s]
                around += z[p] * u[p + t] + z[p - t] * u[p - t]
                r[p] = right[p] - d[p] * u[p] + around
        elif s > 0:
            for p in range(start, start + n):
                around = x[p] * u[p + _1] + x[p - _1] * u[p - _1]
                around += y[p] * u[p + s] + y[p - s] * u[p - s]
                r[p] = right[p] - d[p] * u[p] + around
        else:
            for p in range(start, start + n):
                around = x[p] * u[p + _1] + x[p - _1] * u[p - _1]
                r[p] = right[p] - d[p] * u[p] + around


@compiled
def _smooth(first, last, runs, u, d, x, y, z, s, t, right, factor, v):
    """Write v = u + factor * (right - A u) / d."""
    s, t = np.uint64(s), np.uint64(t)
    for run in range(first, last):
        start, n = np.uint64(runs[run, 0]), np.uint64(runs[run, 2])
        if t > 0:
            for p in range(start, start + n):
                around = x[p] * u[p + _1] + x[p - _1] * u[p - _1]
                around += y[p] * u[p + s] + y[p - s] * u[p - s]
                around += z[p] * u[p + t] + z[p - t] * u[p - t]
                v[p] = u[p] + factor * ((right[p] + around) / d[p] - u[p])
        elif s > 0:
            for p in range(start, start + n):
                around = x[p] * u[p + _1] + x[p - _1] * u[p - _1]
                around += y[p] * u[p + s] + y[p - s] * u[p - s]
                v[p] = u[p] + factor * ((right[p] + around) / d[p] - u[p])
        else:
            for p in range(start, start + n):
                around = x[p] * u[p + _1] + x[p - _1] * u[p - _1]
                v[p] = u[p] + factor * ((right[p] + around) / d[p] - u[p])


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


_KERNELS = {
    "scatter": (_scatter, _scatter_parts),
    "gather": (_gather, _gather_parts),
    "start": (_start, _start_parts),
    "apply": (_apply, _apply_parts),
    "residual": (_residual, _residual_parts),
    "smooth": (_smooth, _smooth_parts),
}
