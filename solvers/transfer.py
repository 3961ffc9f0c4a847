r"""Between a grid and the one of half as many cells: linear interpolation with a weight at each face.

A cell of the fine grid gets the value e of the coarse cell c that it lies in, and moves it towards those of
the neighbours of c on its side of each axis:

$$ (Pe)_f = e_c + \sum_{\text{axes } a} g_{c,a}\,(e_{c+a} - e_c) $$

with $g = 1/4$ between cells of fluid, and less where walls are in between. Constants stay constants whatever
the weights; the restriction is the transpose, to the last bit of the weights.
"""

from __future__ import annotations

import numpy as np
from numba import prange

from solvers.compiled import compiled, with_threads
from solvers.lines import Lines

_SMALL = 1 << 13


def family(coarse: Lines, fine: Lines, factors: tuple[int, ...]) -> np.ndarray:
    """Runs of the coarse cells, with the place of the first child of each: `(run, 4)`."""
    place = coarse.runs[:, 0].copy()
    child = np.zeros_like(place)
    for stride, below, factor in zip(coarse.strides, fine.strides, factors):
        at, place = np.divmod(place, stride)
        child += (factor * (at - 1) + 1) * below
    return np.concatenate([coarse.runs, child[:, None]], 1)


class Transfer:
    """Restriction and prolongation between two grids.

    Args:
        coarse: cells of the coarse grid.
        fine: cells of the fine grid.
        factors: 2 along the axes that are coarsened, 1 along the others.
        weights: of the lower and upper neighbour along each axis, as flat arrays of the coarse grid.
    """

    def __init__(
        self,
        coarse: Lines,
        fine: Lines,
        factors: tuple[int, ...],
        weights: tuple[tuple[np.ndarray, np.ndarray], ...],
    ):
        self.coarse, self.factors, self.weights = coarse, factors, weights
        self._runs = family(coarse, fine, factors)
        last = [*reversed(weights), weights[0], weights[0]][:3]
        strides = [
            [*reversed(grid.strides[:-1]), 0, 0][:2] for grid in (fine, coarse)
        ]  # last axis but one, first of three
        order = (*reversed(factors), 1, 1)[:3]
        self._arguments = (*order, *(g for pair in last for g in pair), *strides[0], *strides[1])

    def restrict(self, r: np.ndarray, out: np.ndarray, threads: int) -> None:
        """Write the restriction of a flat array, zero outside of the fluid, to another."""
        self._call(0, threads, r, out)

    def prolong(self, e: np.ndarray, u: np.ndarray, threads: int) -> None:
        """Add the prolongation of a flat array to another, in solid cells beside the fluid, too."""
        self._call(1, threads, e, u)

    def _call(self, which: int, threads: int, *arrays: np.ndarray) -> None:
        serial, parallel = _KERNELS[which]
        if threads == 1 or self.coarse.cells < _SMALL:
            serial(0, len(self._runs), self._runs, *self._arguments, *arrays)
        else:
            with_threads(threads, parallel, self.coarse.bounds, self._runs, *self._arguments, *arrays)


# Places are unsigned, as in stencil_loops. Names with d and u at the end are weights of lower and upper
# neighbours, x along the last axis, y along the one before, z along the first; s, t and S, T are strides of
# the latter two in the fine and in the coarse grid.
_1, _2 = np.uint64(1), np.uint64(2)


@compiled
def _exchange(o, r, row, facing, own, other, c, n, along):
    """Take what the children in a row owe to the neighbour on their side, and add what its children owe."""
    if along == 2:
        for i in range(n):
            q, f = row + _2 * i, facing + _2 * i
            o[c + i] += other[i] * (r[f] + r[f + _1]) - own[i] * (r[q] + r[q + _1])
    else:
        for i in range(n):
            o[c + i] += other[i] * r[facing + i] - own[i] * r[row + i]


@compiled
def _restrict(first, last, runs, along, middle, across, xd, xu, yd, yu, zd, zu, s, t, S, T, r, out):
    s, t, S, T = np.uint64(s), np.uint64(t), np.uint64(S), np.uint64(T)
    for run in range(first, last):
        c, n, start = np.uint64(runs[run, 0]), np.uint64(runs[run, 2]), np.uint64(runs[run, 3])
        out[c : c + n] = 0
        for a in range(across):
            for b in range(middle):
                q = start + np.uint64(a) * t + np.uint64(b) * s
                if along == 2:
                    for i in range(n):
                        f, g = q + _2 * i, c + i
                        mine = (1 - xd[g]) * r[f] + (1 - xu[g]) * r[f + _1]
                        out[g] += mine + xu[g - _1] * r[f - _1] + xd[g + _1] * r[f + _2]
                else:
                    for i in range(n):
                        out[c + i] += r[q + i]
                if middle == 2 and b == 0:
                    _exchange(out, r, q, q - s, yd[c : c + n], yu[c - S : c - S + n], c, n, along)
                elif middle == 2:
                    _exchange(out, r, q, q + s, yu[c : c + n], yd[c + S : c + S + n], c, n, along)
                if across == 2 and a == 0:
                    _exchange(out, r, q, q - t, zd[c : c + n], zu[c - T : c - T + n], c, n, along)
                elif across == 2:
                    _exchange(out, r, q, q + t, zu[c : c + n], zd[c + T : c + T + n], c, n, along)


@compiled
def _prolong(first, last, runs, along, middle, across, xd, xu, yd, yu, zd, zu, s, t, S, T, e, u):
    for run in range(first, last):
        c, _, n, p = runs[run]
        here, left, right = e[c : c + n], e[c - 1 : c - 1 + n], e[c + 1 : c + 1 + n]
        down, up = xd[c : c + n], xu[c : c + n]
        for a in range(across):
            for b in range(middle):
                q = p + a * t + b * s
                row = u[q : q + along * n]
                y = yu[c : c + n] if b else yd[c : c + n]
                z = zu[c : c + n] if a else zd[c : c + n]
                beside = e[c + S : c + S + n] if b else e[c - S : c - S + n]
                behind = e[c + T : c + T + n] if a else e[c - T : c - T + n]
                for i in range(n):
                    base = here[i]
                    if middle == 2:
                        base += y[i] * (beside[i] - here[i])
                    if across == 2:
                        base += z[i] * (behind[i] - here[i])
                    if along == 2:
                        row[2 * i] += base + down[i] * (left[i] - here[i])
                        row[2 * i + 1] += base + up[i] * (right[i] - here[i])
                    else:
                        row[i] += base


@compiled(parallel=True)
def _restrict_parts(bounds, runs, *arguments):
    for part in prange(len(bounds) - 1):
        _restrict(bounds[part], bounds[part + 1], runs, *arguments)


@compiled(parallel=True)
def _prolong_parts(bounds, runs, *arguments):
    for part in prange(len(bounds) - 1):
        _prolong(bounds[part], bounds[part + 1], runs, *arguments)


_KERNELS = ((_restrict, _restrict_parts), (_prolong, _prolong_parts))
