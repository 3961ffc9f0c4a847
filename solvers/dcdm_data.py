"""Right-hand sides to train the Deep Conjugate Direction Method on, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.linalg import eigh_tridiagonal

from solvers.grid import GridPoisson
from solvers.krylov import fcg

LOW_SHARE = 0.55  # of the spectrum, from below, that is weighted more: 5,500 of 10,000 as published
LOW_WEIGHT = 9.0


def mode_fields(op: GridPoisson, samples: int, *, vectors: int = 300, seed: int = 0) -> np.ndarray:
    r"""Draw $\sum_k c_k \varphi_k$ over all eigenvectors of a box, in the proportions of Lanczos vectors.

    It takes the place of `lanczos_fields`, which the paper uses. The eigenvectors are products of those along
    each axis, so one sample costs a small product of matrices per axis, and no basis is stored: the memory is
    that of the samples. Ritz values crowd at both ends of the spectrum as the Chebyshev nodes do, and a Ritz
    vector is a mixture of the eigenvectors around its value. So the spectrum is cut at Chebyshev nodes, each
    piece is as strong as one Ritz vector, the low ones nine times, and shares that among its eigenvectors.
    Equal strength for all eigenvectors instead hardly shows the smooth ones: training is worse for it.

    Args:
        op: an operator without obstacles and with a constant coefficient.
        samples: how many.
        vectors: pieces of the spectrum, the Lanczos vectors that are imitated.
        seed: of the coefficients.

    Returns:
        `(samples, *sizes)`, float32, each of norm 1.

    Raises:
        ValueError: the operator has obstacles or a coefficient, so that its eigenvectors are no products.

    Example:
        >>> mode_fields(GridPoisson(np.ones((4, 6), bool)), 3).shape
        (3, 4, 6)
    """
    values, bases = zip(*(_axis_modes(op, axis) for axis in range(op.mask.ndim)))
    total = np.zeros(())
    for one in values:
        total = total[..., None] + one
    strength = _strength(total, vectors)
    rng = np.random.default_rng(seed)
    fields = np.empty((samples, *op.mask.shape), np.float32)
    for k in range(samples):
        field = strength * rng.standard_normal(strength.shape)
        for basis in bases:  # each turn moves the first axis to the end
            field = np.tensordot(field, basis, axes=(0, 1))
        fields[k] = field / np.linalg.norm(field)
    return fields


def lanczos_fields(
    op: GridPoisson, samples: int, *, vectors: int = 300, per_start: int = 100, seed: int = 0
) -> np.ndarray:
    r"""Draw $\sum_k c_k v_k$ over Ritz vectors, the low ones nine times as strong, as the paper does.

    The paper stores 10,000 Lanczos vectors of one start, 168 GB at $128^3$. Here each start, a random vector
    times $A$, gives `vectors` of them, and is forgotten after `per_start` samples. Ritz vectors are never
    formed: $\sum_k c_k v_k = Q (S c)$ with the Lanczos vectors $Q$ and the eigenvectors $S$ of the small
    tridiagonal matrix.

    Args:
        op: any operator.
        samples: how many.
        vectors: Lanczos vectors held at a time, fully orthogonalised, float32.
        per_start: samples from each start.
        seed: of starts and coefficients.

    Returns:
        `(samples, *sizes)`, float32, each of norm 1.

    Raises:
        ValueError: fewer than two vectors are asked for.

    Example:
        >>> lanczos_fields(GridPoisson(np.ones((6, 6), bool)), 3, vectors=10).shape
        (3, 6, 6)
    """
    if vectors < 2:
        raise ValueError(f"vectors={vectors} should be at least 2")
    rng = np.random.default_rng(seed)
    fields = np.empty((samples, *op.mask.shape), np.float32)
    for begin in range(0, samples, per_start):
        basis, diagonal, beside = _lanczos(op, op.matvec(rng.standard_normal(op.shape[0])), vectors)
        values, mixing = eigh_tridiagonal(diagonal, beside)
        kept = values > 1e-8 * values[-1]
        weights = np.where(kept, _weights(values), 0.0)
        for k in range(begin, min(begin + per_start, samples)):
            field = (mixing @ (weights * rng.standard_normal(len(values)))) @ basis
            fields[k] = op.field(field / np.linalg.norm(field))
    return fields


def krylov_residuals(
    op: GridPoisson, starts: np.ndarray, *, M: Any = None, steps: int = 12
) -> Iterator[np.ndarray]:
    """Residuals that `fcg(m=2)` meets on its way from right-hand sides, each a field of norm 1.

    Args:
        op: the operator.
        starts: right-hand sides `(samples, *sizes)`.
        M: the preconditioner; with the network in training, these are its own shortcomings.
        steps: steps from each.

    Example:
        >>> op = GridPoisson(np.ones((6, 6), bool))
        >>> len(list(krylov_residuals(op, mode_fields(op, 2), steps=3)))
        6
    """
    for start in starts:
        b = op.project(op.vector(start).astype(np.float64))
        iterates: list[np.ndarray] = []
        fcg(op, b, M=M, m=2, rtol=1e-6, maxiter=steps, callback=iterates.append, fallback=False)
        for x in iterates:
            r = b - op.matvec(x)
            size = np.linalg.norm(r)
            if size > 0:
                yield op.field(r / size).astype(np.float32)


def _weights(values: np.ndarray) -> np.ndarray:
    """Weights of modes by their eigenvalues."""
    return np.where(values <= np.quantile(values, LOW_SHARE), LOW_WEIGHT, 1.0)


def _strength(values: np.ndarray, pieces: int) -> np.ndarray:
    """Standard deviation of the coefficient of each mode, by its eigenvalue."""
    low, high = values.min(), values.max()
    cuts = (low + high) / 2 - (high - low) / 2 * np.cos(np.pi * np.arange(1, pieces) / pieces)
    piece = np.searchsorted(cuts, values)
    count = np.bincount(piece.ravel(), minlength=pieces)
    # As in `_weights`, of the Ritz values that would be there.
    return np.where(piece + 0.5 < LOW_SHARE * pieces, LOW_WEIGHT, 1.0) / np.sqrt(count[piece])


def _axis_modes(op: GridPoisson, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues `(n,)` and eigenvectors `(n, n)`, in columns, of the stencil along an axis of a box."""
    weights = np.moveaxis(op.stencil.weights[axis], axis, 0).reshape(op.mask.shape[axis] + 1, -1)
    if not op.mask.all() or np.ptp(weights, axis=1).any() or np.ptp(weights[1:-1]):
        raise ValueError(
            "the operator has obstacles or a coefficient that varies: its eigenvectors are not known, take "
            "lanczos_fields"
        )
    w = weights[:, 0]
    matrix = np.diag(w[:-1] + w[1:]) - np.diag(w[1:-1], 1) - np.diag(w[1:-1], -1)
    if op.stencil.periodic[axis]:
        matrix[0, -1] -= w[0]
        matrix[-1, 0] -= w[0]
    return np.linalg.eigh(matrix)


def _lanczos(op: GridPoisson, start: np.ndarray, vectors: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lanczos vectors `(k, size)`, and the diagonals of the tridiagonal matrix; fewer where they end."""
    vectors = min(vectors, len(start))
    basis = np.empty((vectors, len(start)), np.float32)
    diagonal, beside = [], []
    q = start / np.linalg.norm(start)
    for k in range(vectors):
        basis[k] = q
        w = op.matvec(q)
        diagonal.append(float(q @ w))
        for _ in range(2):  # once more for rounding
            w -= (basis[: k + 1] @ w.astype(np.float32)) @ basis[: k + 1]
        size = float(np.linalg.norm(w))
        if k + 1 == vectors or size <= 1e-6 * abs(diagonal[0]):
            break
        beside.append(size)
        q = w / size
    return basis[: len(diagonal)], np.array(diagonal), np.array(beside[: len(diagonal) - 1])
