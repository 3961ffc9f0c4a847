"""Darcy flow, and Poisson's equation, on random polygons with holes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from pde_data.domains import random_domain
from pde_data.equations.finite_elements import LinearProblem, linear_basis, scikit_fem
from pde_data.equations.unstructured import MeshSample, PolygonEquation, generator, smooth_field
from pde_data.meshes import TriangleMesh
from pde_data.meshing import triangulate


@final
@dataclass(frozen=True)
class PolygonDarcy(PolygonEquation):
    r"""Pressure $p$ in a porous plate with holes: $-\nabla\cdot(a\nabla p) = f$ on random polygons.

    $p=0$ on the outer boundary, no flux through the holes. $a=\exp(\mathrm{contrast}\cdot g_1)$ and
    $f=1+g_2/2$ with independent smooth Gaussian random fields $g_i$ of unit variance; ``contrast=0`` is
    Poisson's equation.
    Linear finite elements, with $a$ and $f$ linear on each triangle too: what is stored is the discrete
    problem.

    Raises ``ValueError`` for a size above 0.05, half of the least gap between two boundaries.

    >>> result = PolygonDarcy(size=0.05).generate(seed=0, indices=[0, 1])
    >>> result["pressure"].shape == (sum(len(mesh.points) for mesh in result["meshes"]),)
    True
    """

    name: ClassVar[str] = "polygon_darcy"
    formula: ClassVar[str] = "-div(permeability*grad(pressure)) = source"
    solver: ClassVar[str] = "linear finite elements; permeability and source linear on each triangle"
    law: ClassVar[str] = (
        "star-shaped polygon of 5 to 9 corners with regular polygons as holes; permeability = "
        "exp(contrast*g1), source = 1 + g2/2, g Gaussian random fields, tau=3, alpha=2, variance 1"
    )
    conditions: ClassVar[Mapping[str, str]] = {"outer": "pressure = 0", "hole": "no flux"}
    inputs: ClassVar[tuple[str, ...]] = ("permeability", "source")

    contrast: float = 1.0
    """Standard deviation of the logarithm of the permeability."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(not_negative=("contrast",))

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """Permeability, source and pressure."""
        return {
            "permeability": {"units": "1", "long_name": "permeability", "symmetry": "scalar"},
            "source": {"units": "1", "long_name": "source of fluid", "symmetry": "scalar"},
            "pressure": {"units": "1", "long_name": "pressure", "symmetry": "scalar"},
        }

    def sample(self, seed: int, index: int) -> MeshSample:
        """See :class:`MeshEquation`."""
        domain = random_domain(generator(seed, index, 0), self.holes, self.clearance)
        mesh = triangulate(domain, self.size, seed=index)
        # The fields are those that are stored: rounded to float32.
        first, second = (smooth_field(mesh.points, generator(seed, index, stream)) for stream in (1, 2))
        permeability = np.exp(self.contrast * first).astype(np.float32).astype(np.float64)
        source = (1 + second / 2).astype(np.float32).astype(np.float64)
        problem = darcy(mesh, permeability, source, mesh.tags == 1)
        pressure = problem.solve(np.zeros(len(mesh.points)))
        return MeshSample(mesh, {"permeability": permeability, "source": source, "pressure": pressure})

    def residual(
        self, mesh: TriangleMesh, fields: Mapping[str, np.ndarray], parameters: Mapping[str, float]
    ) -> float:
        """See :class:`MeshEquation`."""
        values = {name: np.asarray(value, np.float64) for name, value in fields.items()}
        problem = darcy(mesh, values["permeability"], values["source"], mesh.tags == 1)
        return problem.residual(values["pressure"])


def darcy(
    mesh: TriangleMesh, permeability: np.ndarray, source: np.ndarray, fixed: np.ndarray
) -> LinearProblem:
    """Discrete equations from values at the nodes; no flux where the boundary is not ``fixed``, a mask."""
    fem, basis = scikit_fem(), linear_basis(mesh)
    h = fem.helpers
    stiffness = fem.BilinearForm(lambda u, v, w: w["a"] * h.dot(h.grad(u), h.grad(v)))
    load = fem.LinearForm(lambda v, w: w["f"] * v)
    return LinearProblem(
        stiffness.assemble(basis, a=basis.interpolate(permeability)),
        load.assemble(basis, f=basis.interpolate(source)),
        fixed,
    )
