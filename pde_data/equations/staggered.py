"""Steady creeping flow on a staggered grid: velocities at the faces of cells, pressure in their centres."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import scipy.sparse

from pde_data.equations.stencil import Stencil, conductances, lower, sides, upper
from pde_data.integrate import SolverError

_PENALTY = 100.0  # in units of the viscosity: fewer rounds when larger, more rounding error
_POROUS = 1e-3  # in units of drag times the square of the box: about 1 / wavenumber^2 inside an obstacle
_DIVERGENCE = 1e-12  # target, relative to the largest velocity over the spacing
_ROUNDS = 100


@final
class StaggeredStokes:
    r"""$-\mu\Delta u + c\,u + \nabla p = f$, $\nabla\cdot u = 0$ on the marker-and-cell grid.

    Harlow and Welch (Phys. Fluids 8, 1965), of second order on boxes. $u = 0$ at walls and on the faces of
    solid cells, where ``mask`` is False, half a cell from the velocities along them; so stepped outlines are
    of first order. The discrete gradient is the negative adjoint of the divergence, which vanishes in every
    fluid cell up to rounding.

    Args:
        mask: boolean ``(*sizes)``, True in the fluid.
        spacing: width of the cells along each axis.
        ends: for each axis ``("wall", "wall")``, ``("periodic", "periodic")``, or for the first one
            ``("inflow", "outflow")``: given velocity at the lower end; no stress at the upper one.
        viscosity: $\mu$.
        drag: $c \ge 0$ of each cell ``(*sizes)``; default: 0.
    """

    def __init__(
        self,
        mask: np.ndarray,
        spacing: Sequence[float],
        ends: Sequence[tuple[str, str]],
        viscosity: float = 1.0,
        drag: np.ndarray | None = None,
    ):
        self.mask, self.spacing, self.ends, self.viscosity = mask, tuple(spacing), tuple(ends), viscosity
        drag = np.zeros(mask.shape) if drag is None else drag
        extent = min(n * h for n, h in zip(mask.shape, spacing))
        # The inverse of what the pressure equation has for eigenvalues, where viscosity or where drag rules.
        self._penalty = _PENALTY * (viscosity + _POROUS * extent**2 * drag[mask])
        self._free = [self._free_faces(axis) for axis in range(mask.ndim)]
        self._volumes = [np.ones(free.shape) for free in self._free]
        if ends[0][1] == "outflow":
            self._volumes[0][-1] = 0.5  # the last face has half a cell
        blocks = []
        for axis, (free, volume) in enumerate(zip(self._free, self._volumes)):
            below, above = sides(drag, axis, self._periodic(axis))
            # At the outflow this is half the drag of the only cell, as is right for half a cell.
            resistance = self._lattice((below + above) / 2, axis)
            blocks.append(
                viscosity * self._viscous(axis, free, volume).to_csr() + scipy.sparse.diags(resistance[free])
            )
        self._momentum = scipy.sparse.block_diag(blocks, format="csr")
        self._divergence = scipy.sparse.hstack(
            [self._difference(axis, free) for axis, free in enumerate(self._free)], format="csr"
        )

    def solve(
        self, forces: Sequence[np.ndarray | float], inflow: np.ndarray | None = None
    ) -> tuple[list[np.ndarray], np.ndarray, float]:
        r"""Velocities at all faces of each axis, pressure ``(*sizes)``, and the relative momentum residual.

        ``forces`` are $f$ at the faces of each axis; ``inflow`` is the velocity through the lower end of the
        first one. Without outflow the pressure has mean zero.

        The augmented Lagrangian method (Fortin and Glowinski, 1983): one sparse factorisation of
        the momentum equation with a penalty on the divergence, which updates of the pressure then remove.
        Raises ``SolverError`` if they do not.
        """
        from scipy.sparse.linalg import splu

        known = [np.zeros(free.shape) for free in self._free]
        if inflow is not None:
            known[0][0] = np.where(self.mask[0], inflow, 0.0)
        parts = []
        for axis, (free, volume, force) in enumerate(zip(self._free, self._volumes, forces)):
            given = self.viscosity / self.spacing[axis] ** 2 * self._neighbours(known[axis], axis)
            parts.append((force * volume + given)[free])
        b = np.concatenate(parts)
        target = -self.divergence(known)[self.mask]

        d, penalty = self._divergence, self._penalty
        factors = splu(
            (self._momentum + d.T @ scipy.sparse.diags(penalty) @ d).tocsc(),
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=0.0,
            options={"SymmetricMode": True},
        )
        p, u, excess = np.zeros(len(target)), np.zeros(len(b)), -target
        for _ in range(_ROUNDS):
            u = factors.solve(b + d.T @ (p + penalty * target))
            excess = d @ u - target
            p -= penalty * excess
            if np.abs(excess).max() <= _DIVERGENCE * np.abs(u).max(initial=0.0) / min(self.spacing):
                break
        else:
            raise SolverError(
                f"the divergence on a grid of {self.mask.shape} stayed at {np.abs(excess).max():.1e}; use "
                "wider gaps between the obstacles"
            )
        residual = np.linalg.norm(self._momentum @ u - d.T @ p - b) / (np.linalg.norm(b) or 1.0)
        for axis, part in enumerate(np.split(u, np.cumsum([free.sum() for free in self._free])[:-1])):
            known[axis][self._free[axis]] = part
        pressure = np.zeros(self.mask.shape)
        pressure[self.mask] = p if self.ends[0][1] == "outflow" else p - p.mean()
        return known, pressure, float(residual)

    def divergence(self, velocities: Sequence[np.ndarray]) -> np.ndarray:
        """Divergence ``(*sizes)`` of velocities at the faces, zero in solid cells."""
        total = np.zeros(self.mask.shape)
        for axis, velocity in enumerate(velocities):
            below, above = self._both(velocity, axis)
            total += (above - below) / self.spacing[axis]
        return np.where(self.mask, total, 0.0)

    def centred(self, velocities: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Each velocity as the mean of the two opposite faces of each cell, ``(*sizes)``."""
        return [np.mean(self._both(velocity, axis), axis=0) for axis, velocity in enumerate(velocities)]

    def _periodic(self, axis: int) -> bool:
        return self.ends[axis][0] == "periodic"

    def _lattice(self, faces: np.ndarray, axis: int) -> np.ndarray:
        """Faces along an axis without the last one where it is the first again."""
        return lower(faces, axis) if self._periodic(axis) else faces

    def _both(self, velocity: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Velocities at the faces below and above each cell."""
        if self._periodic(axis):
            return velocity, np.roll(velocity, -1, axis)
        return lower(velocity, axis), upper(velocity, axis)

    def _free_faces(self, axis: int) -> np.ndarray:
        """Faces between two fluid cells, and those of the outflow."""
        below, above = sides(self.mask, axis, self._periodic(axis))
        free = below & above
        if self.ends[axis][1] == "outflow":
            np.moveaxis(free, axis, 0)[-1] = np.moveaxis(self.mask, axis, 0)[-1]
        return self._lattice(free, axis)

    def _viscous(self, axis: int, free: np.ndarray, volume: np.ndarray) -> Stencil:
        """Negative Laplacian of the velocity along an axis."""
        weights, ends = [], []
        for a, h in enumerate(self.spacing):
            kind, last = ("periodic", "periodic") if self._periodic(a) else ("dirichlet", "dirichlet")
            if self.ends[a][1] == "outflow":
                last = "neumann"
            ends.append((kind, last))
            if a == axis:
                # Neighbours are at other faces, all one cell away, also those that are at rest.
                w = np.ones([n + (k == a) for k, n in enumerate(free.shape)])
                if not self._periodic(a):
                    np.moveaxis(w, a, 0)[[0, -1]] = 0.0
            else:
                w = conductances(free, np.ones(free.shape), a, (kind, last), "dirichlet")
                w = w * np.take(volume, [0], a)
            weights.append(w / h**2)
        return Stencil(free, tuple(weights), self.spacing, tuple(ends))

    def _difference(self, axis: int, free: np.ndarray) -> scipy.sparse.csr_matrix:
        """Divergence of the free velocities along one axis in the fluid cells."""
        number = np.full(free.shape, -1)
        number[free] = np.arange(np.count_nonzero(free))
        columns = np.concatenate([side[self.mask] for side in self._both(number, axis)])
        cells = np.count_nonzero(self.mask)
        rows = np.tile(np.arange(cells), 2)
        values = np.repeat([-1.0, 1.0], cells) / self.spacing[axis]
        there = columns >= 0
        shape = (cells, np.count_nonzero(free))
        return scipy.sparse.csr_matrix((values[there], (rows[there], columns[there])), shape=shape)

    def _neighbours(self, faces: np.ndarray, axis: int) -> np.ndarray:
        """Sum of the values at the two neighbouring faces along the axis."""
        below, above = sides(faces, axis, self._periodic(axis))
        return lower(below, axis) + upper(above, axis)
