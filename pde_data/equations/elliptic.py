"""Solving the stencil's systems: conjugate gradients behind fast transforms or algebraic multigrid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import final

import numpy as np
import scipy.fft

from pde_data.equations.stencil import Stencil
from pde_data.integrate import SolverError

TOLERANCE = 1e-10
"""Target of the relative residual in the 2-norm."""
_FAILED = 1e-7  # far above what rounding leaves of the residual on the finest grids
_ITERATIONS = 1000

# Sines or cosines, and the shift of their wavenumbers, for the conditions at both ends.
_TRANSFORMS = {
    ("dirichlet", "dirichlet"): (scipy.fft.dst, scipy.fft.idst, 2, 1.0),
    ("neumann", "neumann"): (scipy.fft.dct, scipy.fft.idct, 2, 0.0),
    ("dirichlet", "neumann"): (scipy.fft.dst, scipy.fft.idst, 4, 0.5),
    ("neumann", "dirichlet"): (scipy.fft.dct, scipy.fft.idct, 4, 0.5),
}


@final
class FastPoisson:
    r"""The inverse of the stencil with coefficient 1 on a box without obstacles, in $O(N \log N)$.

    Sines and cosines through the cell centres diagonalise it: with $\theta = \pi(k+s)/n$ along an axis the
    eigenvalue is $(4/h^2)\sin^2(\theta/2)$, with $s = 1$ between Dirichlet ends, 0 between Neumann ends and
    1/2 between different ones. Constants, where they are in the nullspace, go to zero.

    >>> stencil = Stencil.poisson(np.ones((4, 5), bool), bc={"y": ("neumann", "dirichlet")})
    >>> u = np.random.default_rng(0).standard_normal((4, 5))
    >>> bool(np.allclose(FastPoisson.of(stencil)(stencil.apply(u)), u))
    True

    Raises ``ValueError`` for a periodic axis.
    """

    def __init__(self, sizes: Sequence[int], spacing: Sequence[float], ends: Sequence[tuple[str, str]]):
        if any("periodic" in pair for pair in ends):
            raise ValueError(f"ends={tuple(ends)}: a periodic axis has no sine or cosine transform")
        self._transforms = [_TRANSFORMS[pair] for pair in ends]
        values = [
            4 / h**2 * np.sin(np.pi * (np.arange(n) + shift) / (2 * n)) ** 2
            for n, h, (*_, shift) in zip(sizes, spacing, self._transforms, strict=True)
        ]
        eigenvalues = reduce(np.add.outer, values)
        self._inverse = np.divide(1.0, eigenvalues, out=np.zeros(eigenvalues.shape), where=eigenvalues > 0)

    @classmethod
    def of(cls, stencil: Stencil) -> FastPoisson:
        """The inverse on the box of a stencil."""
        return cls(stencil.mask.shape, stencil.spacing, stencil.ends)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Solutions ``(..., *sizes)`` for right-hand sides of the same shape."""
        ndim = self._inverse.ndim
        x = np.array(values, dtype=np.float64)
        for axis, (forward, _, kind, _) in enumerate(self._transforms):
            x = forward(x, kind, axis=axis - ndim, overwrite_x=True)
        x *= self._inverse
        for axis, (_, inverse, kind, _) in enumerate(self._transforms):
            x = inverse(x, kind, axis=axis - ndim, overwrite_x=True)
        return np.asarray(x)

    def norm(self, values: np.ndarray) -> np.ndarray:
        r"""$\sqrt{r^\top L^{-1} r}$ of fields ``(..., *sizes)``: the norm dual to the energy of $L$.

        In this norm of the residual a given relative error of the solution counts the same on every grid.
        """
        axes = tuple(range(-self._inverse.ndim, 0))
        return np.sqrt(np.maximum((values * self(values)).sum(axes), 0.0))


def solve(stencil: Stencil, rhs: np.ndarray, fast: FastPoisson | None) -> tuple[np.ndarray, float]:
    r"""Solution ``(*sizes)``, zero in solid cells, and its true relative residual in the 2-norm.

    Conjugate gradients, preconditioned by ``fast``: the condition number is at most the contrast of the
    coefficient on any grid, and stays bounded with Neumann obstacles, across which solutions extend with
    bounded energy. Without ``fast`` by classical algebraic multigrid (PyAMG), for which contrast matters
    little. A singular part of the fluid gets the solution of mean zero for the compatible part of ``rhs``.

    Raises ``SolverError`` when the residual stays large.
    """
    from scipy.sparse.linalg import LinearOperator, cg

    mask, matrix = stencil.mask, stencil.to_csr()
    b = stencil.project(rhs[mask])
    if fast is None:
        import pyamg

        preconditioner = pyamg.ruge_stuben_solver(matrix, max_coarse=500).aspreconditioner()
    else:

        def restricted(r: np.ndarray) -> np.ndarray:
            field = np.zeros(mask.shape)
            field[mask] = r.ravel()
            return fast(field)[mask]

        preconditioner = LinearOperator(matrix.shape, restricted, dtype=np.float64)  # pyright: ignore
    x, _ = cg(matrix, b, rtol=TOLERANCE, atol=0.0, M=preconditioner, maxiter=_ITERATIONS)
    size = np.linalg.norm(b)
    residual = float(np.linalg.norm(b - matrix @ x) / size) if size else 0.0
    if not residual <= _FAILED:
        raise SolverError(
            f"conjugate gradients on a grid of {mask.shape} stopped at a relative residual of "
            f"{residual:.1e}; use a coefficient of less contrast"
        )
    solution = np.zeros(mask.shape)
    solution[mask] = stencil.project(x)
    return solution, residual
