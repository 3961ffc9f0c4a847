"""Compressed rows of a sparse matrix that holds several functions on the edges of a graph."""

import numpy as np
from numba import njit


@njit(cache=True)
def sparse_rows(row, row_step, row_offset, column, column_step, column_offset, values, indptr):
    """Put `values[e, f]` at row `row[e] * row_step + f * row_offset`, and at a column likewise.

    A counting sort: rows are not sorted within, zeros are left out, and no place may be given twice.

    Args:
        row: `(edges,)`.
        row_step: see above; so are `row_offset`, `column`, `column_step`, `column_offset`.
        values: `(edges, functions)`.
        indptr: zeros `(rows + 1,)`, filled; its dtype is that of the indices.

    Returns:
        Indices and values of the nonzeros, in compressed rows.
    """
    edges, functions = values.shape
    for e in range(edges):
        for f in range(functions):
            if values[e, f] != 0:
                indptr[row[e] * row_step + f * row_offset + 1] += 1
    for r in range(len(indptr) - 1):
        indptr[r + 1] += indptr[r]
    following, count = indptr[:-1].copy(), indptr[-1]
    indices, data = np.empty(count, indptr.dtype), np.empty(count, values.dtype)
    for e in range(edges):
        for f in range(functions):
            if values[e, f] != 0:
                r = row[e] * row_step + f * row_offset
                place = following[r]
                indices[place] = column[e] * column_step + f * column_offset
                data[place] = values[e, f]
                following[r] = place + 1
    return indices, data
