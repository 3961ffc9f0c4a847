"""Steady flow past a cylinder in a channel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from pde_data.domains import Domain, circle
from pde_data.equations.taylor_hood import TaylorHood
from pde_data.equations.unstructured import MeshEquation, MeshSample, generator
from pde_data.meshes import TriangleMesh
from pde_data.meshing import triangulate

LENGTH, HEIGHT = 2.2, 0.41
INLET, OUTLET, WALL, CYLINDER = 1, 2, 3, 4
_GROWTH, _COARSEST = 0.25, 4.0  # of the mesh size: per distance, and at most times that at the cylinder


@final
@dataclass(frozen=True)
class CylinderFlow(MeshEquation):
    r"""Velocity $u$ and pressure $p$ of a steady flow past a cylinder of random place and radius.

    $$\rho\,u\cdot\nabla u - \mu\Delta u + \nabla p = 0, \qquad \nabla\cdot u = 0$$

    in a channel of 2.2 by 0.41 with a parabolic inflow on the left and $\mu\partial_n u = pn$ on the right.
    ``reynolds`` is $\rho\,\cdot$ mean inflow $\cdot$ diameter $/\mu$, and decides $\rho$; 0 is Stokes flow.
    With 20, a centre at (0.2, 0.2) and a radius of 0.05 this is case 2D-1 of M. Schäfer and S. Turek,
    *Benchmark computations of laminar flow around a cylinder* (1996). Centres are uniform in [0.2, 0.5] x
    [0.17, 0.24], radii in [0.03, 0.07].

    Taylor-Hood elements on a mesh with edges of ``size`` at the cylinder, and up to four times that
    elsewhere; Newton's method. Stored are the values on that mesh with each triangle cut into four, which
    are those of the quadratic velocity and of the linear pressure at its nodes.

    Raises ``ValueError`` for a Reynolds number above 40, where the flow becomes unsteady.

    >>> result = CylinderFlow(size=0.04).generate(seed=0, indices=[0])
    >>> sorted(result["parameters"])
    ['center_x', 'center_y', 'density', 'radius']
    """

    name: ClassVar[str] = "cylinder_flow"
    formula: ClassVar[str] = "density*u.grad(u) - viscosity*laplace(u) + grad(p) = 0, div(u) = 0"
    solver: ClassVar[str] = "Taylor-Hood elements on every four triangles, Newton's method"
    law: ClassVar[str] = "centre uniform in [0.2, 0.5] x [0.17, 0.24], radius uniform in [0.03, 0.07]"
    conditions: ClassVar[Mapping[str, str]] = {
        "inlet": "parabolic velocity, mean inflow",
        "outlet": "viscosity*du/dn = p*n",
        "wall": "velocity = 0",
        "cylinder": "velocity = 0",
    }
    inputs: ClassVar[tuple[str, ...]] = ("distance",)

    size: float = 0.02
    """Length of the edges of the elements at the cylinder; those of the stored mesh are half of it."""
    reynolds: float = 20.0
    """Reynolds number of mean inflow and diameter."""
    viscosity: float = 1e-3
    """Dynamic viscosity."""
    inflow: float = 0.2
    """Mean velocity at the inlet."""

    def __post_init__(self) -> None:
        self.require(positive=("size", "viscosity", "inflow"), not_negative=("reynolds",))
        if self.size > 0.04:
            raise ValueError(f"size={self.size} must be at most 0.04, or the least cylinder is a triangle")
        if self.reynolds > 40:
            raise ValueError(f"reynolds={self.reynolds} must be at most 40: above, the flow becomes unsteady")

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """Distance to the cylinder, velocity and pressure."""
        return {
            "distance": {"units": "1", "long_name": "distance to the cylinder", "symmetry": "scalar"},
            "velocity_x": {"units": "1", "long_name": "velocity along x", "symmetry": "vector x"},
            "velocity_y": {"units": "1", "long_name": "velocity along y", "symmetry": "vector y"},
            "pressure": {"units": "1", "long_name": "pressure", "symmetry": "scalar"},
        }

    def sample(self, seed: int, index: int) -> MeshSample:
        """See :class:`MeshEquation`."""
        x, y, radius = generator(seed, index, 0).uniform([0.2, 0.17, 0.03], [0.5, 0.24, 0.07])
        return self.past((x, y), radius, seed=index)

    def past(self, centre: tuple[float, float], radius: float, seed: int = 0) -> MeshSample:
        """Flow past a given cylinder; ``seed`` is that of the mesh."""
        mesh = _mesh(centre, radius, self.size, seed)
        density = self.reynolds * self.viscosity / (self.inflow * 2 * radius)
        flow = TaylorHood(mesh, density, self.viscosity)
        refined = flow.refined
        velocity, pressure = flow.solve(self._boundary_values(refined))
        distance = np.hypot(*(refined.points - centre).T) - radius
        fields = {
            "distance": np.maximum(distance, 0.0),
            "velocity_x": velocity[:, 0],
            "velocity_y": velocity[:, 1],
            "pressure": pressure,
        }
        parameters = {
            "center_x": float(centre[0]),
            "center_y": float(centre[1]),
            "radius": float(radius),
            "density": float(density),
        }
        return MeshSample(refined, fields, parameters)

    def _boundary_values(self, mesh: TriangleMesh) -> np.ndarray:
        """Velocity at the nodes ``(n, 2)`` where it is given, NaN elsewhere."""
        tags, y = mesh.tags, mesh.points[:, 1]
        given = np.full((len(tags), 2), np.nan)
        given[tags == INLET, 0] = 6 * self.inflow * (y * (HEIGHT - y))[tags == INLET] / HEIGHT**2
        given[tags == INLET, 1] = 0.0
        given[(tags == WALL) | (tags == CYLINDER)] = 0.0
        return given

    def residual(
        self, mesh: TriangleMesh, fields: Mapping[str, np.ndarray], parameters: Mapping[str, float]
    ) -> float:
        """See :class:`MeshEquation`."""
        velocity = np.stack([fields["velocity_x"], fields["velocity_y"]], axis=1).astype(np.float64)
        flow = TaylorHood(mesh.coarsened(), parameters["density"], self.viscosity)
        return flow.residual(
            velocity, np.asarray(fields["pressure"], np.float64), self._boundary_values(mesh)
        )


def _mesh(centre: tuple[float, float], radius: float, size: float, seed: int) -> TriangleMesh:
    channel = np.array([[0.0, 0.0], [LENGTH, 0.0], [LENGTH, HEIGHT], [0.0, HEIGHT]])
    hole = circle(centre, radius, max(6, round(2 * np.pi * radius / size)))[::-1]
    domain = Domain((channel, hole), (np.array([WALL, OUTLET, WALL, INLET]), np.full(len(hole), CYLINDER)))

    def sizes(points: np.ndarray) -> np.ndarray:
        distance = np.maximum(np.hypot(*(points - centre).T) - radius, 0.0)
        return np.minimum(size + _GROWTH * distance, _COARSEST * size)

    return triangulate(domain, sizes, seed=seed)
