"""The stencil as compiled loops over runs of cells."""

from __future__ import annotations

from typing import Any

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
def _scatter(first, last, runs, x, u):
    for run in range(first, last):
        place, number, length = runs[run]
        u[place : place + length] = x[number : number + length]


@compiled
def _gather(first, last, runs, u, x):
    for run in range(first, last):
        place, number, length = runs[run]
        x[number : number + length] = u[place : place + length]


@compiled
def _start(first, last, runs, right, inverse, factor, u):
    """Write u = factor * inverse * right, the first smoothing step from zero."""
    for run in range(first, last):
        p, _, n = runs[run]
        b0, m0, o = right[p : p + n], inverse[p : p + n], u[p : p + n]
        for i in range(n):
            o[i] = factor * m0[i] * b0[i]


# From the neighbours, with x, y, z the conductances along the last axis, the one before it, and the first.
# Slices stand in place of `u[p + s]`: their indices are never negative, so the loops become vector code.


@compiled
def _along(u, x, p, n):
    return x[p : p + n], u[p + 1 : p + 1 + n], x[p - 1 : p - 1 + n], u[p - 1 : p - 1 + n]


@compiled
def _beside(u, y, p, n, s):
    return y[p : p + n], u[p + s : p + s + n], y[p - s : p - s + n], u[p - s : p - s + n]


@compiled
def _products(i, a, b, c, d):
    return a[i] * b[i] + c[i] * d[i]


@compiled
def _apply(first, last, runs, u, d, x, y, z, s, t, out):
    """Write out = A u, packed."""
    for run in range(first, last):
        p, number, n = runs[run]
        u0, d0, o = u[p : p + n], d[p : p + n], out[number : number + n]
        a, b, c, e = _along(u, x, p, n)
        f, g, h, j = _beside(u, y, p, n, s)
        k, l, m, q = _beside(u, z, p, n, t)
        if t > 0:
            for i in range(n):
                around = _products(i, a, b, c, e) + _products(i, f, g, h, j) + _products(i, k, l, m, q)
                o[i] = d0[i] * u0[i] - around
        elif s > 0:
            for i in range(n):
                o[i] = d0[i] * u0[i] - (_products(i, a, b, c, e) + _products(i, f, g, h, j))
        else:
            for i in range(n):
                o[i] = d0[i] * u0[i] - _products(i, a, b, c, e)


@compiled
def _residual(first, last, runs, u, d, x, y, z, s, t, right, r):
    """Write r = right - A u."""
    for run in range(first, last):
        p, _, n = runs[run]
        u0, d0, b0, o = u[p : p + n], d[p : p + n], right[p : p + n], r[p : p + n]
        a, b, c, e = _along(u, x, p, n)
        f, g, h, j = _beside(u, y, p, n, s)
        k, l, m, q = _beside(u, z, p, n, t)
        if t > 0:
            for i in range(n):
                around = _products(i, a, b, c, e) + _products(i, f, g, h, j) + _products(i, k, l, m, q)
                o[i] = b0[i] - d0[i] * u0[i] + around
        elif s > 0:
            for i in range(n):
                o[i] = b0[i] - d0[i] * u0[i] + _products(i, a, b, c, e) + _products(i, f, g, h, j)
        else:
            for i in range(n):
                o[i] = b0[i] - d0[i] * u0[i] + _products(i, a, b, c, e)


@compiled
def _smooth(first, last, runs, u, d, x, y, z, s, t, right, inverse, factor, v):
    """Write v = u + factor * inverse * (right - A u)."""
    for run in range(first, last):
        p, _, n = runs[run]
        u0, d0, b0, o = u[p : p + n], d[p : p + n], right[p : p + n], v[p : p + n]
        m0 = inverse[p : p + n]
        a, b, c, e = _along(u, x, p, n)
        f, g, h, j = _beside(u, y, p, n, s)
        k, l, m, q = _beside(u, z, p, n, t)
        if t > 0:
            for i in range(n):
                around = _products(i, a, b, c, e) + _products(i, f, g, h, j) + _products(i, k, l, m, q)
                o[i] = u0[i] + factor * m0[i] * (b0[i] - d0[i] * u0[i] + around)
        elif s > 0:
            for i in range(n):
                around = _products(i, a, b, c, e) + _products(i, f, g, h, j)
                o[i] = u0[i] + factor * m0[i] * (b0[i] - d0[i] * u0[i] + around)
        else:
            for i in range(n):
                o[i] = u0[i] + factor * m0[i] * (b0[i] - d0[i] * u0[i] + _products(i, a, b, c, e))


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
