"""What problems on meshes share: scikit-fem, and linear systems with some of the unknowns given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from pde_data.meshes import TriangleMesh


def scikit_fem() -> Any:
    """Return the package, and its ``helpers``; ``ImportError`` says how to get it."""
    try:
        import skfem
        import skfem.helpers
    except ImportError as error:
        raise ImportError(
            'problems on triangle meshes need scikit-fem: pip install "opflow-sciml[mesh]"'
        ) from error
    return skfem


def linear_basis(mesh: TriangleMesh, components: int = 1) -> Any:
    """Basis of continuous, piecewise linear functions; node ``i`` has unknowns from ``i * components`` on.

    Quadrature is exact for products of two such functions.
    """
    fem = scikit_fem()
    element = fem.ElementTriP1()
    return fem.Basis(
        to_scikit_fem(mesh), fem.ElementVector(element) if components > 1 else element, intorder=2
    )


def to_scikit_fem(mesh: TriangleMesh) -> Any:
    """Return the mesh as ``skfem.MeshTri``, with the same numbers of nodes and triangles."""
    return scikit_fem().MeshTri(np.ascontiguousarray(mesh.points.T), np.ascontiguousarray(mesh.triangles.T))


@final
@dataclass(frozen=True)
class LinearProblem:
    """Equations ``matrix @ x = load`` for the unknowns that are not ``fixed``, a mask ``(n,)``."""

    matrix: sparse.csr_matrix
    load: np.ndarray
    fixed: np.ndarray

    def solve(self, values: np.ndarray) -> np.ndarray:
        """Return ``values`` with those that are not fixed replaced by the solution."""
        free, x = ~self.fixed, np.array(values, np.float64)
        x[free] = np.asarray(spsolve(self.matrix[free][:, free].tocsc(), self._right(x)))
        return x

    def residual(self, values: np.ndarray) -> float:
        """Norm of what is left over in the equations, relative to that of their right-hand side."""
        free = ~self.fixed
        right = self._right(values)
        left = self.matrix[free][:, free] @ values[free]
        return float(np.linalg.norm(right - left) / (np.linalg.norm(right) or 1.0))

    def reaction(self, values: np.ndarray) -> np.ndarray:
        """What the fixed unknowns take up, ``(n,)``, zero for the others: fluxes or forces."""
        return np.where(self.fixed, self.matrix @ values - self.load, 0.0)

    def _right(self, values: np.ndarray) -> np.ndarray:
        free = ~self.fixed
        return self.load[free] - self.matrix[free][:, self.fixed] @ values[self.fixed]
