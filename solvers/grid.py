"""Poisson problems on masked voxel grids, as SciPy operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast, final

import numpy as np
from scipy.sparse.linalg import LinearOperator

from pde_data.equations.stencil import Stencil
from solvers import lines
from solvers.cells import between
from solvers.stencil_loops import call

if TYPE_CHECKING:
    import scipy.sparse

# Columns from which on one pass over all beats one for each: about 1.5 times as fast in float64 with 4
# columns, 2 times with 8, 3 times with 16, but half as fast with 2.
_SEVERAL = 4


@final
class GridPoisson(LinearOperator):
    r"""$-\nabla\cdot(a\nabla u)$ on the fluid cells of a uniform grid: symmetric, positive (semi-)definite.

    $$(Au)_i = \sum_{\text{faces } f \text{ of } i} w_f\,(u_i - u_{j(f)}), \qquad
    w_f = \frac{1}{h^2}\,\frac{2 a_i a_j}{a_i + a_j}$$

    It is the *negative* Laplacian, scaled by $1/h^2$. Unknowns are the values at the centres of the fluid
    cells, in C order of the mask; `field` and `vector` go back and forth. A Dirichlet face lies half a cell
    from the centre, with $w_f = 2a_i/h^2$, and its value is 0 unless the right-hand side says otherwise
    (`stencil.boundary_terms`); a Neumann face has $w_f = 0$. By default the faces of the box are Dirichlet
    and those of obstacles Neumann.

    Args:
        mask: boolean `(*sizes)` with two or three axes (or one), True where there is fluid.
        coeff: coefficient of each cell `(*sizes)`, positive in the fluid; 1 by default.
        spacing: width of the cells, for every axis or each.
        bc: condition on the faces of the box, "dirichlet", "neumann" or "periodic", for all or by axis, as in
            `{"x": ("neumann", "dirichlet"), "y": "periodic"}`; axes left out are Dirichlet.
        obstacles: condition on the faces between fluid and solid cells, "neumann" or "dirichlet".
        dtype: float64, or float32 for a matrix that works in single precision.
        num_threads: threads of the products; one when None. They wait for each other by spinning, so more
            pay only on processors that nothing else uses, the threads of BLAS included.

    Raises:
        TypeError: the mask is not boolean.
        ValueError: there is no fluid, or shapes, coefficients, spacings or conditions do not fit.

    Example:
        >>> import numpy as np
        >>> from scipy.sparse.linalg import cg
        >>> op = GridPoisson(np.ones((8, 8), bool), spacing=1 / 8)
        >>> x, info = cg(op, np.ones(op.shape[0]))
        >>> info, round(float(op.field(x).max()), 3)
        (0, 0.073)
    """

    def __init__(
        self,
        mask: np.ndarray,
        coeff: np.ndarray | None = None,
        *,
        spacing: float | Sequence[float] = 1.0,
        bc: str | Mapping[str, str | tuple[str, str]] = "dirichlet",
        obstacles: str = "neumann",
        dtype: Any = np.float64,
        num_threads: int | None = None,
    ):
        stencil = Stencil.poisson(mask, coeff, spacing=spacing, bc=bc, obstacles=obstacles)
        self._build(stencil, dtype, num_threads)

    @classmethod
    def from_stencil(cls, stencil: Stencil, dtype: Any = np.float64, num_threads: int | None = None) -> Self:
        """The operator of a stencil of `pde_data`."""
        made = cls.__new__(cls)
        made._build(stencil, dtype, num_threads)
        return made

    @classmethod
    def from_image(
        cls, path: str | Path, *, threshold: float | None = None, fluid: str = "dark", **options: Any
    ) -> Self:
        """The operator on the pore space of an image or a stack of images (TIFF, or what Pillow reads).

        Args:
            path: the file; the first axis of a stack is x.
            threshold: grey value between fluid and solid; the middle of the range when None.
            fluid: whether "dark" or "bright" voxels are fluid.
            options: as for the constructor.

        Raises:
            ValueError: the image has colours, or `fluid` is unknown.
        """
        from solvers.images import read_mask

        return cls(read_mask(Path(path), threshold, fluid), **options)

    @classmethod
    def from_csr(cls, matrix: Any, sizes: Sequence[int], **options: Any) -> Self:
        """Recognise a sparse matrix that is such a stencil on a full grid, its unknowns in C order.

        Args:
            matrix: SciPy sparse matrix or array, symmetric.
            sizes: cells along each axis.
            options: `dtype` and `num_threads`, as for the constructor.

        Raises:
            ValueError: the matrix is no symmetric stencil of neighbours with non-positive off-diagonal
                entries and no negative row sums; the message says what to use instead.
        """
        from solvers.recognise import stencil_of

        return cls.from_stencil(stencil_of(matrix, tuple(sizes)), **options)

    def _build(self, stencil: Stencil, dtype: Any, num_threads: int | None) -> None:
        dtype = np.dtype(dtype)
        if dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype={dtype} should be float64 or float32")
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"num_threads={num_threads} should be at least 1")
        super().__init__(dtype, (stencil.size, stencil.size))
        self.stencil, self._threads = stencil, num_threads
        self.lines = lines.Lines.of(stencil.mask)
        faces = []
        for axis, w in enumerate(stencil.weights):
            mask = np.moveaxis(stencil.mask, axis, 0)
            joined = between(np.moveaxis(w, axis, 0), mask, stencil.periodic[axis])
            faces.append(self.lines.faces(np.moveaxis(joined, 0, axis).astype(dtype, copy=False), axis))
        self._matrix = lines.Matrix.of(self.lines, faces, self.lines.rimmed(stencil.diagonal, dtype))
        self._grid = self.lines.zeros(dtype)

    @property
    def mask(self) -> np.ndarray:
        """Where there is fluid, `(*sizes)`."""
        return self.stencil.mask

    @property
    def num_threads(self) -> int:
        """Threads of the products."""
        return self._threads or 1

    @cached_property
    def nullspace(self) -> scipy.sparse.csc_matrix:
        """Orthonormal columns `(size, k)`: constants on the parts of the fluid without a Dirichlet face."""
        return self.stencil.nullspace

    def project(self, b: np.ndarray) -> np.ndarray:
        """Return a vector without its component in the nullspace: a compatible right-hand side."""
        return self.stencil.project(b)

    def diagonal(self) -> np.ndarray:
        """Diagonal of the matrix `(size,)`."""
        return self.stencil.diagonal[self.mask].astype(self.dtype)

    def to_csr(self) -> scipy.sparse.csr_matrix:
        """The matrix in SciPy's format, with sorted column numbers."""
        return cast("scipy.sparse.csr_matrix", self.stencil.to_csr().astype(self.dtype))

    def field(self, x: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """Values of unknowns `(size, ...)` on the grid `(*sizes, ...)`, `fill` in solid cells."""
        x = np.asarray(x)
        if x.shape[:1] != self.shape[:1]:
            raise ValueError(f"x has shape {x.shape}, expected {self.shape[0]} unknowns along its first axis")
        grid = np.full((*self.mask.shape, *x.shape[1:]), fill, dtype=np.result_type(x, type(fill)))
        grid[self.mask] = x
        return grid

    def vector(self, field: np.ndarray) -> np.ndarray:
        """Unknowns `(size, ...)` of values on the grid `(*sizes, ...)`."""
        field = np.asarray(field)
        if field.shape[: self.mask.ndim] != self.mask.shape:
            raise ValueError(f"the field has shape {field.shape}, the mask {self.mask.shape}")
        return field[self.mask]

    def _matvec(self, x: Any) -> np.ndarray:
        return self._product(np.asarray(x).reshape(-1))

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        X = np.asarray(X)
        if X.shape[1] >= _SEVERAL:
            return self._product(X)
        columns = [self._product(column) for column in X.T]
        return np.stack(columns, axis=1) if columns else np.empty(X.shape, self.dtype)

    def _product(self, x: Any) -> np.ndarray:
        """Multiply with a vector `(size,)`, or with columns `(size, k)` in one go."""
        if np.iscomplexobj(x):
            return self._product(x.real) + 1j * self._product(x.imag)
        x = np.ascontiguousarray(x, dtype=np.result_type(x, self.dtype))
        y = np.empty_like(x)
        threads = self.num_threads
        if x.ndim == 1:
            grid = self._grid if x.dtype == self.dtype else self.lines.zeros(x.dtype)
            call("scatter", self.lines, threads, x, x.dtype.type(1), grid)
        else:
            grid = self.lines.zeros(x.dtype, x.shape[1])
            call("scatter columns", self.lines, threads, x, grid)
        lines.fill_rim(grid, self.lines, self.stencil.periodic)
        kernel = "apply" if x.ndim == 1 else "apply columns"
        call(kernel, self.lines, threads, grid, *self._matrix.arguments, y)
        return y

    def _adjoint(self) -> Self:
        return self

    def _transpose(self) -> Self:
        return self
