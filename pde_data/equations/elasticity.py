"""Linear elasticity of plates with holes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, final

import numpy as np

from pde_data.domains import Domain, random_domain
from pde_data.equations.finite_elements import LinearProblem, linear_basis, scikit_fem
from pde_data.equations.unstructured import MeshSample, PolygonEquation, generator, smooth_field
from pde_data.meshes import TriangleMesh
from pde_data.meshing import triangulate

FREE, CLAMPED = 1, 2


@final
@dataclass(frozen=True)
class Elasticity(PolygonEquation):
    r"""Displacement $u$ of a body under load, in plane strain, on random polygons with holes.

    $$-\nabla\cdot\sigma = f, \qquad \sigma = \lambda\,\mathrm{tr}(\varepsilon) I + 2\mu\varepsilon, \qquad
    \varepsilon = (\nabla u + \nabla u^T)/2$$

    with $\mu = E/(2+2\nu)$ and $\lambda = E\nu/((1+\nu)(1-2\nu))$ from Young's modulus
    $E=\exp(\mathrm{contrast}\cdot g_1)$ and Poisson's ratio $\nu$; the body force $f=(g_2,g_3)$, with
    independent smooth Gaussian random fields $g_i$ of unit variance. Edges on the left are clamped, all
    others are free. Linear finite elements, with $E$ and $f$ linear on each triangle too: what is stored is
    the discrete problem.

    Raises ``ValueError`` for a ratio outside of [0, 0.45], beyond which linear elements lock.

    >>> result = Elasticity(size=0.05).generate(seed=0, indices=[0])
    >>> bool(result["diagnostics"]["residual"][0] < 1e-10)
    True
    """

    name: ClassVar[str] = "elasticity"
    formula: ClassVar[str] = (
        "-div(lambda*tr(e)*I + 2*mu*e) = force, e = (grad(u) + grad(u)^T)/2, mu = E/(2 + 2*poisson_ratio), "
        "lambda = E*poisson_ratio/((1 + poisson_ratio)*(1 - 2*poisson_ratio)); plane strain"
    )
    solver: ClassVar[str] = "linear finite elements; modulus and force linear on each triangle"
    law: ClassVar[str] = (
        "star-shaped polygon of 5 to 9 corners with regular polygons as holes; modulus = exp(contrast*g1), "
        "force = (g2, g3), g Gaussian random fields, tau=3, alpha=2, variance 1"
    )
    conditions: ClassVar[Mapping[str, str]] = {"free": "no traction", "clamped": "displacement = 0"}
    inputs: ClassVar[tuple[str, ...]] = ("modulus", "force_x", "force_y")

    contrast: float = 0.5
    """Standard deviation of the logarithm of Young's modulus."""
    poisson_ratio: float = 0.3
    """Poisson's ratio."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require(not_negative=("contrast", "poisson_ratio"))
        if self.poisson_ratio > 0.45:
            raise ValueError(
                f"poisson_ratio={self.poisson_ratio} must be at most 0.45: linear elements lock in nearly "
                "incompressible bodies"
            )

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """Young's modulus, body force and displacement."""
        return {
            "modulus": {"units": "1", "long_name": "Young's modulus", "symmetry": "scalar"},
            "force_x": {"units": "1", "long_name": "body force along x", "symmetry": "vector x"},
            "force_y": {"units": "1", "long_name": "body force along y", "symmetry": "vector y"},
            "displacement_x": {"units": "1", "long_name": "displacement along x", "symmetry": "vector x"},
            "displacement_y": {"units": "1", "long_name": "displacement along y", "symmetry": "vector y"},
        }

    def sample(self, seed: int, index: int) -> MeshSample:
        """See :class:`MeshEquation`."""
        domain = _clamped(random_domain(generator(seed, index, 0), self.holes, self.clearance))
        mesh = triangulate(domain, self.size, seed=index)
        # The fields are those that are stored: rounded to float32.
        drawn = [smooth_field(mesh.points, generator(seed, index, stream)) for stream in (1, 2, 3)]
        modulus = np.exp(self.contrast * drawn[0]).astype(np.float32).astype(np.float64)
        force = np.stack(drawn[1:], axis=1).astype(np.float32).astype(np.float64)
        problem = plane_strain(mesh, modulus, self.poisson_ratio, force, mesh.tags == CLAMPED)
        displacement = problem.solve(np.zeros(force.size)).reshape(-1, 2)
        return MeshSample(
            mesh,
            {
                "modulus": modulus,
                "force_x": force[:, 0],
                "force_y": force[:, 1],
                "displacement_x": displacement[:, 0],
                "displacement_y": displacement[:, 1],
            },
        )

    def residual(
        self, mesh: TriangleMesh, fields: Mapping[str, np.ndarray], parameters: Mapping[str, float]
    ) -> float:
        """See :class:`MeshEquation`."""
        values = {name: np.asarray(value, np.float64) for name, value in fields.items()}
        force, displacement = (
            np.stack([values[f"{name}_x"], values[f"{name}_y"]], axis=1) for name in ("force", "displacement")
        )
        problem = plane_strain(mesh, values["modulus"], self.poisson_ratio, force, mesh.tags == CLAMPED)
        return problem.residual(displacement.ravel())


def plane_strain(
    mesh: TriangleMesh, modulus: np.ndarray, poisson_ratio: float, force: np.ndarray, fixed: np.ndarray
) -> LinearProblem:
    """Discrete equations for the displacements of the nodes, ``x`` and ``y`` in turn.

    ``modulus (node,)`` and ``force (node, 2)`` are given at the nodes, ``fixed (node,)`` marks those whose
    displacement is given; the rest of the boundary is free of traction.
    """
    fem, vectors, scalars = scikit_fem(), linear_basis(mesh, components=2), linear_basis(mesh)
    h = fem.helpers
    mu = 1 / (2 + 2 * poisson_ratio)
    lame = poisson_ratio / ((1 + poisson_ratio) * (1 - 2 * poisson_ratio))

    def energy(u, v, w):
        strain, other = h.sym_grad(u), h.sym_grad(v)
        return w["modulus"] * (lame * h.trace(strain) * h.trace(other) + 2 * mu * h.ddot(strain, other))

    load = fem.LinearForm(lambda v, w: h.dot(w["force"], v))
    return LinearProblem(
        fem.BilinearForm(energy).assemble(vectors, modulus=scalars.interpolate(modulus)),
        load.assemble(vectors, force=vectors.interpolate(force.ravel())),
        np.repeat(fixed, 2),
    )


def _clamped(domain: Domain) -> Domain:
    """Mark the outer edges whose middle is in the left 30 per cent, and at least the leftmost, as clamped."""
    outer = domain.loops[0]
    middle = (outer[:, 0] + np.roll(outer[:, 0], -1)) / 2
    limit = max(middle.min(), outer[:, 0].min() + 0.3 * np.ptp(outer[:, 0]))
    tags = (
        np.where(middle <= limit, CLAMPED, FREE),
        *(np.full(len(hole), FREE) for hole in domain.loops[1:]),
    )
    return replace(domain, tags=tags)
