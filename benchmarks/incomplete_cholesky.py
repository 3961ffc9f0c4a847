"""The incomplete Cholesky factor with the pattern of the matrix, IC(0), as a preconditioner for SciPy."""

import time

import numba
import numpy as np
import scipy.sparse
from scipy.sparse.linalg import LinearOperator


class IncompleteCholesky(LinearOperator):
    r"""$(LL^\top)^{-1}$ with $L$ on the pattern of the lower triangle of A, exact where A has entries.

    Where a pivot is not positive, the diagonal is shifted by more and more until all are (Manteuffel 1980).

    Args:
        A: symmetric positive definite sparse matrix.
    """

    def __init__(self, A):
        start = time.perf_counter()
        lower = scipy.sparse.csr_matrix(scipy.sparse.tril(A), dtype=np.float64)
        lower.sort_indices()
        shift = 0.0
        while True:
            values = lower.data.copy()
            values[lower.indptr[1:] - 1] *= 1 + shift
            if _factor(lower.indptr, lower.indices, values):
                break
            shift = max(2 * shift, 1e-3)
        self._arrays = (lower.indptr, lower.indices, values)
        super().__init__(np.float64, A.shape)
        self.setup_seconds = time.perf_counter() - start

    def _matvec(self, x):
        x = np.array(x, dtype=np.float64).reshape(-1)
        _solve(*self._arrays, x)
        return x

    def _adjoint(self):
        return self


@numba.njit(cache=True, error_model="numpy")
def _factor(starts, columns, values):
    for i in range(len(starts) - 1):
        for k in range(starts[i], starts[i + 1]):
            j = columns[k]
            total = values[k]
            a, b = starts[i], starts[j]
            while a < k and b < starts[j + 1] - 1:
                if columns[a] == columns[b]:
                    total -= values[a] * values[b]
                    a += 1
                    b += 1
                elif columns[a] < columns[b]:
                    a += 1
                else:
                    b += 1
            if j < i:
                values[k] = total / values[starts[j + 1] - 1]
            elif total <= 0:
                return False
            else:
                values[k] = np.sqrt(total)
    return True


@numba.njit(cache=True, error_model="numpy")
def _solve(starts, columns, values, x):
    n = len(x)
    for i in range(n):
        total = x[i]
        for k in range(starts[i], starts[i + 1] - 1):
            total -= values[k] * x[columns[k]]
        x[i] = total / values[starts[i + 1] - 1]
    for i in range(n - 1, -1, -1):
        x[i] /= values[starts[i + 1] - 1]
        for k in range(starts[i], starts[i + 1] - 1):
            x[columns[k]] -= values[k] * x[i]
