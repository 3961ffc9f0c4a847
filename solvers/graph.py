"""A learned algebraic multigrid cycle for sparse matrices without a grid."""

from __future__ import annotations

import time
import warnings
from typing import Any, Self, final

import numpy as np
from scipy import sparse

from solvers.graph_hierarchy import Csr, GraphLevel, NotPositive, hierarchy, unit_diagonal
from solvers.graph_loops import relax, residual
from solvers.graph_weights import GraphWeights
from solvers.preconditioner import WeightedPreconditioner, pretrained


@final
class GraphPreconditioner(WeightedPreconditioner):
    r"""One V-cycle of smoothed aggregation, classical or learned, for any symmetric positive definite matrix.

    A network of 800 weights looks at the graph of each level during `setup`, and says for each row how to
    smooth the prolongation $P$ and how far to relax. With the relaxation $S$ of two sweeps before the coarse
    correction, its $A$-adjoint $S^*$ after it, and the coarse matrix $P^\top AP$,

    $$ B = (I - S^*(I - P B_c P^\top A)S)\,A^{-1} . $$

    A sweep with factors $\omega_i$ between 0 and 2 never makes the error greater in the norm of $A$: $B$ is
    symmetric positive definite for *any* $P$: what is learned decides how fast conjugate gradients converge,
    never whether. Applying it takes no network: sparse products and compiled sweeps.

    Args:
        weights: what is learned; those of classical smoothed aggregation when None.
        max_coarse: unknowns up to which a level is solved exactly.

    Attributes:
        notes: what `setup` has to tell, a list of sentences: empty when nothing went out of the ordinary.

    Raises:
        ValueError: max_coarse is not positive.

    Sources: Vanek, Mandel, Brezina, Algebraic multigrid by smoothed aggregation, Computing 56 (1996); Luz et
    al., Learning algebraic multigrid using graph neural networks, ICML 2020, for the idea of learning $P$.

    Example:
        >>> import numpy as np, pyamg
        >>> from scipy.sparse.linalg import cg
        >>> A = pyamg.gallery.poisson((50, 50), format="csr")
        >>> M = GraphPreconditioner().setup(A)
        >>> x, info = cg(A, np.ones(2500), M=M, rtol=1e-6, maxiter=15)
        >>> info, M.notes
        (0, [])
    """

    is_linear = True
    is_spd = True
    weights_class = GraphWeights

    def __init__(self, weights: GraphWeights | None = None, *, max_coarse: int = 50):
        super().__init__(GraphWeights() if weights is None else weights)
        if max_coarse < 1:
            raise ValueError(f"max_coarse={max_coarse} should be positive")
        self.max_coarse = max_coarse
        self.notes: list[str] = []
        self._levels: list[GraphLevel] = []

    def setup(self, A: Any, B: Any = None, *, block_size: int | None = None) -> Self:
        """Build the levels for a matrix; return the preconditioner itself.

        Args:
            A: sparse or dense matrix `(n, n)`, real, symmetric up to rounding, with a positive diagonal.
            B: near-nullspace `(n,)` or `(n, k)`: what the equations without boundary conditions do not see,
                such as rigid-body motions. When None, constants for each unknown of a block.
            block_size: unknowns at each point, one after another, that are grouped together; found from
                the pattern, or the blocks of a `bsr_array`, when None.

        Where A turns out not to be positive definite, Jacobi's preconditioner is used instead; where unknowns
        cannot be grouped any more, the level is relaxed only. A warning and `notes` say so.

        Raises:
            TypeError: A is complex, or no matrix.
            ValueError: A is not square, not finite, not symmetric, has a diagonal entry that is not positive,
                or B or block_size does not fit.
            ImportError: PyAMG is missing.
        """
        _require_pyamg()
        start = time.perf_counter()
        A, B, block = prepared(A, B, block_size)
        self.notes = []
        scaled, self._scale = unit_diagonal(A)
        try:
            self._levels, self._inverse, self.notes = hierarchy(
                scaled, B / self._scale[:, None], block, self.weights, self.max_coarse
            )
        except NotPositive as error:
            self._levels, self._inverse = [], None
            self.notes = [f"A is not positive definite, {error}: Jacobi's preconditioner is used"]
        if self._inverse is None:
            for note in self.notes:
                warnings.warn(note, stacklevel=2)
        self._buffers = [np.empty((3, level.A.shape[0])) for level in self._levels]
        self._begin(A.shape[0])
        self.setup_seconds = time.perf_counter() - start
        return self

    @classmethod
    def from_pretrained(cls, name: str = "graph", **options: Any) -> Self:
        """Take trained weights that come with the package.

        Raises:
            ValueError: there are none of this name.
        """
        return cls.load(pretrained(name, "graph"), **options)

    @property
    def levels(self) -> int:
        """Number of matrices; 0 for Jacobi's preconditioner."""
        return len(self._levels)

    @property
    def operator_complexity(self) -> float:
        """Entries of the matrices of all levels over those of the finest."""
        if not self._levels:
            return 1.0
        return sum(level.A.nnz for level in self._levels) / self._levels[0].A.nnz

    def apply(self, r: np.ndarray) -> np.ndarray:
        """Apply one cycle to a vector `(n,)`."""
        b = r * self._scale
        z = self._cycle(0, b) if self._levels else b
        return (z * self._scale).astype(r.dtype, copy=False)

    def _cycle(self, depth: int, b: np.ndarray) -> np.ndarray:
        """Solve roughly for a right-hand side on a level."""
        level = self._levels[depth]
        if level.P is None and self._inverse is not None:
            return self._inverse @ b
        x, rest, _ = self._buffers[depth]
        A = (level.A.indptr, level.A.indices, level.A.data)
        down, up = level.weights.down, level.weights.up
        x[:] = 0
        relax(*A, down, b, x, True)
        relax(*A, up, b, x, False)
        if level.P is not None and level.R is not None:
            residual(*A, b, x, rest)
            x += level.P @ self._cycle(depth + 1, level.R @ rest)
        relax(*A, up, b, x, True)
        relax(*A, down, b, x, False)
        return x


def _require_pyamg() -> None:
    try:
        import pyamg  # noqa: F401
    except ImportError as error:
        raise ImportError("GraphPreconditioner groups unknowns with PyAMG: pip install pyamg") from error


def prepared(A: Any, B: Any, block_size: int | None = None) -> tuple[Csr, np.ndarray, int]:
    """Check the arguments of `setup`; return matrix, near-nullspace `(n, k)` and unknowns at each point."""
    A, block = _checked(A, block_size)
    return A, _near_nullspace(A, B, block), block


def _checked(A: Any, block_size: int | None) -> tuple[Csr, int]:
    """The matrix in float64 and sorted, and the number of unknowns at each point."""
    if not sparse.issparse(A):
        if not isinstance(A, np.ndarray):
            raise TypeError(f"A is a {type(A).__name__}, expected a sparse matrix or an array")
        A = sparse.csr_matrix(np.atleast_2d(A))
    if np.issubdtype(A.dtype, np.complexfloating):
        raise TypeError(f"A is {A.dtype}; GraphPreconditioner works on real symmetric matrices")
    n = A.shape[0]
    if n != A.shape[1] or n == 0:
        raise ValueError(f"A has shape {A.shape}, expected a square matrix")
    if block_size is None and A.format == "bsr" and A.blocksize[0] == A.blocksize[1]:
        block_size = A.blocksize[0]
    matrix = sparse.csr_matrix(A, dtype=np.float64, copy=True)
    matrix.sum_duplicates()
    if matrix.nnz < 2**31:  # the kernels are compiled for one type of indices, and 32 bits are faster
        matrix.indices, matrix.indptr = matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)
    if not np.isfinite(matrix.data).all():
        raise ValueError("A holds numbers that are not finite")
    diagonal = matrix.diagonal()
    if not (diagonal > 0).all():
        i = int(np.argmin(diagonal))
        raise ValueError(
            f"A[{i}, {i}] is {diagonal[i]:g}: a positive definite matrix has a positive diagonal"
        )
    apart = sparse.coo_matrix(matrix - matrix.T)
    relative = np.abs(apart.data) / np.sqrt(diagonal[apart.row] * diagonal[apart.col])
    if relative.max(initial=0.0) > 1e-8:
        raise ValueError(
            f"A is not symmetric: A - A.T reaches {relative.max():.1e} of the diagonal; take (A + A.T) / 2 "
            "if that is what you mean"
        )
    block = _blocks(matrix) if block_size is None else block_size
    if not 1 <= block <= n or n % block:
        raise ValueError(f"block_size={block} does not divide the {n} rows of A")
    return matrix, block


def _blocks(A: Csr) -> int:
    """Greatest of 3, 2 and 1 for which the pattern consists of full square blocks."""
    for k in (3, 2):
        if A.shape[0] % k == 0 and A.shape[0] > 2 * k and len(A.tobsr((k, k)).indices) * k * k == A.nnz:
            return k
    return 1


def _near_nullspace(A: Csr, B: Any, block: int) -> np.ndarray:
    n = A.shape[0]
    if B is None:
        constants = np.kron(np.ones((n // block, 1)), np.eye(block))
        # The constants of a matrix whose rows and columns have been scaled.
        scaled = constants / np.sqrt(A.diagonal())[:, None]
        return min((constants, scaled), key=lambda v: _roughness(A, v))
    B = np.asarray(B)
    if B.dtype.kind not in "biuf" or B.ndim not in (1, 2) or B.shape[0] != n or B.size == 0:
        raise ValueError(f"B has shape {B.shape} of {B.dtype}, but A has {n} rows: expected real ({n}, k)")
    B = B.reshape(n, -1).astype(np.float64)
    if not np.isfinite(B).all():
        raise ValueError("B holds numbers that are not finite")
    return B


def _roughness(A: Csr, v: np.ndarray) -> float:
    """Energy over the diagonal part of it."""
    return float((v * (A @ v)).sum() / (A.diagonal()[:, None] * v**2).sum())
