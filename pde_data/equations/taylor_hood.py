"""Steady incompressible flow: quadratic velocity, linear pressure."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, final

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve

from pde_data.equations.finite_elements import scikit_fem, to_scikit_fem
from pde_data.meshes import TriangleMesh

_ITERATIONS, _TOLERANCE = 25, 1e-11


@final
class TaylorHood:
    r"""Discrete equations of $\rho\,u\cdot\nabla u - \mu\Delta u + \nabla p = f$, $\nabla\cdot u = 0$.

    Unknowns are the velocities at the nodes of ``refined``, that is ``mesh`` with each triangle cut into four
    (its corners and the middles of its edges), and the pressures at the nodes of ``mesh``. Where no velocity
    is given on the boundary, $\mu\partial_n u = pn$; where it is given everywhere, the pressure is zero at
    the first node. ``force`` takes points ``(2, ...)`` to force densities of the same shape.
    """

    def __init__(
        self,
        mesh: TriangleMesh,
        density: float,
        viscosity: float,
        force: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        fem = scikit_fem()
        h = fem.helpers
        self.mesh, self.refined, self.density = mesh, mesh.refined(), density
        # Order 5 is exact for the advection of quadratic velocities.
        self._velocity = fem.Basis(to_scikit_fem(mesh), fem.ElementVector(fem.ElementTriP2()), intorder=5)
        pressure = self._velocity.with_element(fem.ElementTriP1())
        laplace = fem.BilinearForm(lambda u, v, w: viscosity * h.ddot(h.grad(u), h.grad(v)))
        divergence = fem.BilinearForm(lambda u, q, w: -q * h.div(u))
        self._laplace = laplace.assemble(self._velocity)
        self._divergence = divergence.assemble(self._velocity, pressure)
        self._load = np.zeros(self._velocity.N)
        if force is not None:
            self._load = fem.LinearForm(lambda v, w: h.dot(force(w.x), v)).assemble(self._velocity)

    @cached_property
    def _unknowns(self) -> np.ndarray:
        """Numbers ``(n, 2)`` in scikit-fem's order of the velocities at the nodes of ``refined``."""
        basis, n = self._velocity, len(self.mesh.points)
        edges = np.sort(basis.mesh.facets, axis=0)
        order = np.lexsort((edges[1], edges[0]))  # that of TriangleMesh.refined
        result = np.empty((len(self.refined.points), 2), np.int64)
        result[:n] = basis.nodal_dofs.T
        result[n:] = basis.facet_dofs[:, order].T
        return result

    def solve(self, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Velocity ``(n, 2)`` and pressure ``(n,)`` at the nodes of ``refined``, the pressure interpolated.

        ``given`` holds the velocity ``(n, 2)`` where it is prescribed and NaN elsewhere. Newton's method,
        from Stokes flow. Raises ``SolverError`` when it does not converge.
        """
        from pde_data.integrate import SolverError

        x, free = self._start(given)
        residual, jacobian = self._equations(x, advection=False)
        scale, size = float(np.linalg.norm(residual[free])) or 1.0, 1.0
        for _ in range(_ITERATIONS):
            x[free] -= spsolve(jacobian[free][:, free].tocsc(), residual[free])
            residual, jacobian = self._equations(x)
            size = float(np.linalg.norm(residual[free])) / scale
            if size <= _TOLERANCE:
                return self._at_nodes(x)
        raise SolverError(
            f"Newton's method left a residual of {size:.1e} after {_ITERATIONS} steps; choose a lower "
            "Reynolds number or a finer mesh"
        )

    def residual(self, velocity: np.ndarray, pressure: np.ndarray, given: np.ndarray) -> float:
        """Norm of what is left over, relative to that for a fluid at rest away from the boundary."""
        x, free = self._start(given)
        scale = np.linalg.norm(self._equations(x, advection=False)[0][free])
        fixed = x.copy()
        x[self._unknowns] = velocity
        x[self._velocity.N :] = pressure[: len(self.mesh.points)]
        x[: self._velocity.N][~free[: self._velocity.N]] = fixed[: self._velocity.N][
            ~free[: self._velocity.N]
        ]
        return float(np.linalg.norm(self._equations(x)[0][free]) / (scale or 1.0))

    def reaction(self, velocity: np.ndarray, pressure: np.ndarray) -> np.ndarray:
        """Force of the fluid on each node of ``refined`` whose velocity is given, ``(n, 2)``; 0 elsewhere."""
        x = np.concatenate([np.zeros(self._velocity.N), pressure[: len(self.mesh.points)]])
        x[self._unknowns] = velocity
        return -self._equations(x)[0][self._unknowns]

    def _start(self, given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unknowns that are zero where they are free, and the mask of those."""
        x = np.zeros(self._velocity.N + len(self.mesh.points))
        x[self._unknowns] = np.nan_to_num(given)
        free = np.ones(len(x), bool)
        free[self._unknowns] = np.isnan(given)
        if not np.isnan(given[np.unique(self.refined.boundary)]).any():
            free[self._velocity.N] = False
        return x, free

    def _equations(self, x: np.ndarray, advection: bool = True) -> tuple[np.ndarray, Any]:
        """Residual and its derivative."""
        velocity, pressure = x[: self._velocity.N], x[self._velocity.N :]
        momentum = self._laplace @ velocity + self._divergence.T @ pressure - self._load
        derivative = self._laplace
        if advection and self.density:
            carried, change = self._advection(velocity)
            momentum, derivative = momentum + carried, derivative + change
        jacobian = sparse.bmat([[derivative, self._divergence.T], [self._divergence, None]]).tocsr()
        return np.concatenate([momentum, self._divergence @ velocity]), jacobian

    def _advection(self, velocity: np.ndarray) -> tuple[np.ndarray, Any]:
        fem, density = scikit_fem(), self.density
        h = fem.helpers

        def change(u, v, w):
            return density * h.dot(h.mul(h.grad(w["u"]), u) + h.mul(h.grad(u), w["u"]), v)

        now = self._velocity.interpolate(velocity)
        force = fem.LinearForm(lambda v, w: density * h.dot(h.mul(h.grad(w["u"]), w["u"]), v))
        return force.assemble(self._velocity, u=now), fem.BilinearForm(change).assemble(self._velocity, u=now)

    def _at_nodes(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n, count = len(self.mesh.points), len(self.refined.points)
        edges = np.unique(np.sort(self.mesh.edges, axis=1), axis=0)
        pressure = x[self._velocity.N :]
        return x[self._unknowns].reshape(count, 2), np.concatenate([pressure[:n], pressure[edges].mean(1)])
