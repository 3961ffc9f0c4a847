"""Products of vectors without BLAS.

Threads of OpenMP spin for some milliseconds after a parallel loop. The threads of BLAS, which are others,
wait for the processor that a spinning one holds: a solve on two cores took six times as long as on one.
"""

from __future__ import annotations

import math

import numpy as np

from solvers.compiled import compiled


def dot(x: np.ndarray, y: np.ndarray) -> float:
    """Scalar product of two real vectors, in float64."""
    return _dot(np.ascontiguousarray(x, np.float64), np.ascontiguousarray(y, np.float64))


def norm(x: np.ndarray) -> float:
    """Euclidean norm of a real vector."""
    return math.sqrt(dot(x, x))


@compiled
def _dot(x, y):
    total = 0.0
    for i in range(len(x)):
        total += x[i] * y[i]
    return total


@compiled
def multiply(matrix, x, out):
    """Write out = matrix @ x, summed in float64."""
    for i in range(len(out)):
        total = 0.0
        for j in range(len(x)):
            total += matrix[i, j] * x[j]
        out[i] = total
