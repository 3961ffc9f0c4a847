"""Loops over the rows of sparse matrices: relaxation, and smoothing of a prolongation on its pattern."""

from __future__ import annotations

import numpy as np

from solvers.compiled import compiled


@compiled
def relax(starts, columns, values, factors, b, x, forward):
    """One sweep of over-relaxation in place, on a matrix with unit diagonal.

    `x[i] += factors[i] * (b - A x)[i]`, row by row, downwards or upwards. With factors between 0 and 2 the
    error never grows in the norm of a positive semi-definite A; the two directions are adjoint to each other.
    """
    n = len(x)
    for row in range(n):
        i = row if forward else n - 1 - row
        rest = b[i]
        for entry in range(starts[i], starts[i + 1]):
            rest -= values[entry] * x[columns[entry]]
        x[i] += factors[i] * rest


@compiled
def residual(starts, columns, values, b, x, r):
    """Write `b - A x` to r."""
    for i in range(len(x)):
        rest = b[i]
        for entry in range(starts[i], starts[i + 1]):
            rest -= values[entry] * x[columns[entry]]
        r[i] = rest


@compiled
def spread(starts, columns, values, wide_starts, wide_columns, wide_values):
    """Copy the entries of a matrix to a wider pattern, whose values are zero."""
    for i in range(len(starts) - 1):
        for entry in range(starts[i], starts[i + 1]):
            for wide in range(wide_starts[i], wide_starts[i + 1]):
                if wide_columns[wide] == columns[entry]:
                    wide_values[wide] = values[entry]
                    break


@compiled
def survey(starts, columns, values, aggregate, sums, shares):
    """Write to sums `(6, n)` what a row has beside its diagonal, and to shares the part of each entry in it.

    The six are the sum of the sizes, that of the positive entries, the greatest size, the sum of squares, the
    number of entries, and the share of the sizes that is in the aggregate of the row.
    """
    for i in range(len(starts) - 1):
        total = positive = greatest = squares = inside = 0.0
        count = 0
        for entry in range(starts[i], starts[i + 1]):
            j, value = columns[entry], values[entry]
            if j == i:
                shares[entry] = 0.0
                continue
            size = abs(value)
            shares[entry] = size
            total += size
            positive += max(value, 0.0)
            greatest = max(greatest, size)
            squares += value * value
            count += 1
            if aggregate[i] >= 0 and aggregate[i] == aggregate[j]:
                inside += size
        inverse = 1 / total if total > 0 else 0.0
        for entry in range(starts[i], starts[i + 1]):
            shares[entry] *= inverse
        sums[0, i], sums[1, i], sums[2, i] = total, positive, greatest
        sums[3, i], sums[4, i], sums[5, i] = squares, count, inside * inverse


@compiled
def smooth_prolongation(
    starts, columns, values, p_starts, p_columns, p_values, coarse, step, kept, width, result
):
    """Write `P - diag(step) (A P - diag(kept) proj(A P))` to result, all on the pattern of P.

    proj is, row by row, the projection on what changes `P @ coarse`: with `kept` 1 that product stays.
    `width` is the number of columns of P.
    """
    k = coarse.shape[1]
    place = np.full(width, -1, np.int64)
    gram, right = np.empty((k, k)), np.empty(k)
    longest = 0
    for i in range(len(p_starts) - 1):
        longest = max(longest, p_starts[i + 1] - p_starts[i])
    row = np.empty(longest)
    for i in range(len(starts) - 1):
        first, last = p_starts[i], p_starts[i + 1]
        for entry in range(first, last):
            place[p_columns[entry]] = entry - first
            row[entry - first] = 0.0
        for entry in range(starts[i], starts[i + 1]):
            j = columns[entry]
            for other in range(p_starts[j], p_starts[j + 1]):
                at = place[p_columns[other]]
                if at >= 0:
                    row[at] += values[entry] * p_values[other]
        gram[:] = 0.0
        right[:] = 0.0
        for entry in range(first, last):
            c = p_columns[entry]
            for a in range(k):
                right[a] += coarse[c, a] * row[entry - first]
                for b in range(a + 1):
                    gram[a, b] += coarse[c, a] * coarse[c, b]
        solve_small(gram, right)
        for entry in range(first, last):
            c = p_columns[entry]
            place[c] = -1
            shift = 0.0
            for a in range(k):
                shift += coarse[c, a] * right[a]
            result[entry] = p_values[entry] - step[i] * (row[entry - first] - kept[i] * shift)


@compiled
def solve_small(gram, right):
    """Solve in place with a positive semi-definite matrix, given by its lower triangle, by Cholesky's method.

    Where a pivot is zero up to rounding, the unknown is left out.
    """
    k = len(right)
    greatest = 0.0
    for a in range(k):
        greatest = max(greatest, gram[a, a])
    for a in range(k):
        pivot = gram[a, a]
        for c in range(a):
            pivot -= gram[a, c] ** 2
        if pivot <= 1e-10 * greatest:
            for b in range(a, k):
                gram[b, a] = 0.0
            right[a] = 0.0
            continue
        gram[a, a] = np.sqrt(pivot)
        for b in range(a + 1, k):
            for c in range(a):
                gram[b, a] -= gram[b, c] * gram[a, c]
            gram[b, a] /= gram[a, a]
        for c in range(a):
            right[a] -= gram[a, c] * right[c]
        right[a] /= gram[a, a]
    for a in range(k - 1, -1, -1):
        if gram[a, a] == 0.0:
            right[a] = 0.0
            continue
        for b in range(a + 1, k):
            right[a] -= gram[b, a] * right[b]
        right[a] /= gram[a, a]
