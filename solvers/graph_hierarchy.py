"""Smoothed aggregation on sparse matrices with unit diagonal: aggregates, prolongation, coarse matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

from solvers.graph_loops import relax, smooth_prolongation, spread, survey
from solvers.graph_weights import GraphWeights, RowWeights

Csr: TypeAlias = Any
"""A `csr_matrix`; SciPy's stubs say too little about those."""

_FILL = 0.7  # of the entries of a matrix: most that the next coarser may have with a smoothed prolongation
_SLOW = 0.8  # of the unknowns of a level: most that the next coarser may have


@dataclass
class GraphLevel:
    """A matrix with unit diagonal, its relaxation factors, and the way to the next coarser level."""

    A: Csr
    weights: RowWeights
    P: Csr | None = None
    R: Csr | None = None


@dataclass(frozen=True)
class Aggregation:
    """How a level coarsens, before anything is smoothed.

    Attributes:
        tentative: `(n, m)` with orthonormal columns, on the pattern that smoothing may fill.
        coarse: near-nullspace of the next level `(m, k)`; `tentative @ coarse` is that of this one.
        aggregate: of each unknown `(n,)`; -1 for none.
        beside: number of aggregates on the pattern of each row `(n,)`.
    """

    tentative: Csr
    coarse: np.ndarray
    aggregate: np.ndarray
    beside: np.ndarray


class NotPositive(Exception):
    """A matrix of the hierarchy is not positive semi-definite, so neither is the finest."""


def unit_diagonal(A: Csr) -> tuple[Csr, np.ndarray]:
    """Return $SAS$ with ones on its diagonal, and $S$ `(n,)`; zero rows stay.

    Raises:
        NotPositive: a diagonal entry is negative, or zero in a row that is not.
    """
    diagonal = A.diagonal()
    size = np.abs(diagonal).max(initial=0.0)
    if not (diagonal >= -1e-12 * size).all():
        raise NotPositive(f"a diagonal entry is {diagonal.min():.2e}")
    good = diagonal > 1e-13 * size if (diagonal <= 0).any() else diagonal > 0
    scale = np.where(good, 1 / np.sqrt(np.where(good, diagonal, 1.0)), 0.0)
    values = A.data * scale[_row(A)] * scale[A.indices]
    return sparse.csr_matrix((values, A.indices, A.indptr), shape=A.shape), scale


def _row(A: Csr) -> np.ndarray:
    """Row of each entry."""
    return np.repeat(np.arange(A.shape[0]), np.diff(A.indptr))


def relaxed(A: Csr, B: np.ndarray, sweeps: int = 4) -> np.ndarray:
    """Near-nullspace brought closer to the nullspace by relaxation, so that it knows of the boundary."""
    ones, zero = np.ones(A.shape[0]), np.zeros(A.shape[0])
    columns = [np.ascontiguousarray(column) for column in B.T]
    for column in columns:
        for sweep in range(2 * sweeps):
            relax(A.indptr, A.indices, A.data, ones, zero, column, sweep % 2 == 0)
    return np.stack(columns, axis=1)


def aggregate(A: Csr, B: np.ndarray, block: int, theta: float, drop: float) -> Aggregation | None:
    """Group unknowns, `block` in a row always together; None where nothing can be grouped.

    Source: Vanek, Mandel, Brezina, Algebraic multigrid by smoothed aggregation, Computing 56 (1996).
    """
    from pyamg.aggregation import fit_candidates, standard_aggregation
    from pyamg.strength import symmetric_strength_of_connection

    blocks: Any = A if block == 1 else A.tobsr((block, block))
    threshold: Any = theta  # the stubs want an integer
    strength = symmetric_strength_of_connection(blocks, threshold)
    groups: Csr = standard_aggregation(sparse.csr_matrix(strength))[0]
    if groups.shape[1] == 0 or groups.nnz == 0:
        return None
    tentative, coarse = fit_candidates(groups, B)
    tentative = sparse.csr_matrix(tentative)
    groups = sparse.csr_matrix(groups, dtype=np.float64)
    touched: Csr = sparse.csr_matrix(_sizes(A, block) @ groups)
    row = _row(touched)
    share = touched.data / np.maximum(np.bincount(row, touched.data, touched.shape[0])[row], 1e-300)
    touched.data = np.where(share >= drop, 1.0, 0.0)
    touched = sparse.csr_matrix(touched + groups)
    touched.eliminate_zeros()
    k = B.shape[1]
    full: Csr = sparse.kron(touched, np.ones((block, k)), format="csr")
    full.sort_indices()
    full.data = np.zeros(full.nnz)
    spread(tentative.indptr, tentative.indices, tentative.data, full.indptr, full.indices, full.data)
    owner = np.full(groups.shape[0], -1)
    owner[np.diff(groups.indptr) > 0] = groups.indices
    beside = np.diff(touched.indptr)
    return Aggregation(full, coarse, np.repeat(owner, block), np.repeat(beside, block))


def _sizes(A: Csr, block: int) -> Csr:
    """Norms of the blocks of a matrix."""
    if block == 1:
        return sparse.csr_matrix((np.abs(A.data), A.indices, A.indptr), shape=A.shape)
    blocks = A.tobsr((block, block))
    n = A.shape[0] // block
    norms = np.linalg.norm(blocks.data, axis=(1, 2))
    return sparse.csr_matrix((norms, blocks.indices, blocks.indptr), shape=(n, n))


def describe(A: Csr, B: np.ndarray, found: Aggregation, depth: int) -> tuple[np.ndarray, Csr, np.ndarray]:
    """Features `(n, 11)` of the rows, averages over their neighbours `(n, n)`, and sums of |a_ij| `(n,)`."""
    n = A.shape[0]
    sums, shares = np.empty((6, n)), np.empty(A.nnz)
    survey(A.indptr, A.indices, A.data, found.aggregate, sums, shares)
    weight, positive, greatest, squares, degree, inside = sums
    members = np.bincount(found.aggregate[found.aggregate >= 0])
    left = np.linalg.norm(A @ B, axis=1) / (np.linalg.norm(B, axis=1) + 1e-300)
    features = np.stack(
        [
            weight - 1,
            positive,
            greatest,
            squares,
            np.log(1 + degree) - 2,
            np.log(np.where(found.aggregate >= 0, members[found.aggregate], 1)) - 2,
            inside,
            np.log(np.maximum(found.beside, 1)),
            np.minimum(left, 2.0),
            np.full(n, min(depth, 3) / 2),
            np.full(n, np.log(B.shape[1])),
        ],
        axis=1,
    )
    neighbours = sparse.csr_matrix((shares, A.indices, A.indptr), shape=A.shape)
    return np.clip(features, -5, 5), neighbours, 1 + weight


def smoothed(A: Csr, found: Aggregation, weights: RowWeights) -> Csr:
    """Two smoothing steps of the tentative prolongation on its pattern."""
    P = found.tentative
    values, result = P.data, np.empty_like(P.data)
    for step in (weights.first, weights.second):
        smooth_prolongation(
            *(A.indptr, A.indices, A.data, P.indptr, P.indices, values),
            *(np.ascontiguousarray(found.coarse), np.ascontiguousarray(step)),
            *(np.ascontiguousarray(weights.kept), P.shape[1], result),
        )
        values, result = result, np.empty_like(result)
    return sparse.csr_matrix((values, P.indices, P.indptr), shape=P.shape)


def hierarchy(
    A: Csr, B: np.ndarray, block: int, weights: GraphWeights, max_coarse: int
) -> tuple[list[GraphLevel], np.ndarray | None, list[str]]:
    """Levels from the finest, with unit diagonal, to the coarsest; its inverse; what is to be told.

    The inverse is None where grouping stopped at a matrix too large for one: it is relaxed only.

    Raises:
        NotPositive: A is not positive semi-definite.
    """
    levels: list[GraphLevel] = []
    notes: list[str] = []
    B = relaxed(A, B)
    while A.shape[0] > max_coarse:
        found = aggregate(A, B, block, weights.theta, weights.drop)
        if found is None or found.tentative.shape[1] > _SLOW * A.shape[0]:
            break
        features, neighbours, total = describe(A, B, found, len(levels))
        alone = total == 1
        row = weights.rows(features, neighbours, total)
        row = row._replace(down=np.where(alone, 1.0, row.down), up=np.where(alone, 1.0, row.up))
        P = smoothed(A, found, row)
        R = sparse.csr_matrix(P.T)
        coarse = sparse.csr_matrix(R @ (A @ P))
        if coarse.nnz > _FILL * A.nnz:
            P = found.tentative.copy()
            P.eliminate_zeros()
            R = sparse.csr_matrix(P.T)
            coarse = sparse.csr_matrix(R @ (A @ P))
            notes.append(f"level {len(levels)}: a smoothed prolongation would fill the coarse matrix")
        coarse.sort_indices()  # grouping depends on the order
        coarse, scale = unit_diagonal(coarse)
        P.data *= scale[P.indices]
        R.data *= scale[_row(R)]
        levels.append(GraphLevel(A, row, P, R))
        safe = np.where(scale > 0, scale, np.inf)
        A, B, block = coarse, found.coarse / safe[:, None], B.shape[1]
    n = A.shape[0]
    ones = np.ones(n)
    levels.append(GraphLevel(A, RowWeights(ones, ones, ones, ones, ones)))
    if n > max_coarse:
        if A.nnz > n:
            notes.append(f"grouping of unknowns stopped at {n}, which are relaxed only")
        return levels, None, notes
    return levels, _pseudo_inverse(A.toarray()), notes


def _pseudo_inverse(A: Any) -> np.ndarray:
    found, vectors = np.linalg.eigh((A + A.T) / 2)
    greatest = found.max(initial=0.0)
    if found.min(initial=0.0) < -1e-10 * greatest:
        raise NotPositive(f"the coarsest matrix has the eigenvalue {found.min():.2e}")
    good = found > 1e-12 * greatest
    return (vectors[:, good] / found[good]) @ vectors[:, good].T
