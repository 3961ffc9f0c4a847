"""The Poisson equation on a box, also with obstacles in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final, get_args

import numpy as np

from pde_data.equations.base import Steady
from pde_data.equations.elliptic import TOLERANCE, FastPoisson, solve
from pde_data.equations.obstacles import check_gaps, random_mask
from pde_data.equations.stencil import Stencil
from pde_data.grids import Grid
from pde_data.random_fields import NeumannRandomField

Boundary = Literal["dirichlet", "neumann", "mixed"]

_LAW = NeumannRandomField(tau=7.0, alpha=2.5)


@final
@dataclass(frozen=True)
class Poisson(Steady):
    r"""Potential $u$ with $-\Delta u = f$ in the unit box.

    On its faces $u = 0$ (``dirichlet``) or $\partial u/\partial n = 0$ (``neumann``), or the first at $x=0$
    and the second elsewhere (``mixed``). With ``obstacles`` each sample has so many irregular ones of its
    own, with $\partial u/\partial n = 0$ around them; ``mask`` is then 1 in the fluid and 0 in obstacles,
    where all fields are 0. The source is ``NeumannRandomField(tau=7, alpha=2.5)``; where there is no
    Dirichlet face, source and solution have mean zero.

    Finite volumes (:class:`Stencil`), of second order without obstacles and of first order beside their
    stepped outlines.

    >>> result = Poisson(resolution=32, obstacles=3).generate(seed=0, indices=[0])
    >>> sorted(result), bool(result["diagnostics"]["residual"] < 1e-9)
    (['diagnostics', 'mask', 'parameters', 'source', 'u'], True)
    """

    name: ClassVar[str] = "poisson"
    formula: ClassVar[str] = "-laplace(u) = source"

    resolution: int = 128
    """Cells per axis."""
    dimensions: int = 2
    """Number of axes: 1, 2 or 3."""
    boundary: Boundary = "dirichlet"
    """Condition on the faces of the box; mixed: Dirichlet at x=0, Neumann elsewhere."""
    obstacles: int = 0
    """Number of random obstacles in each sample."""

    def __post_init__(self) -> None:
        if self.boundary not in get_args(Boundary):
            raise ValueError(
                f"boundary={self.boundary!r} is unknown: choose one of {', '.join(get_args(Boundary))}"
            )
        self.require(counts=("resolution", "dimensions", *(("obstacles",) if self.obstacles else ())))
        if self.dimensions > 3:
            raise ValueError(f"dimensions={self.dimensions} must be 1, 2 or 3")
        if self.resolution < 4:
            raise ValueError(f"resolution={self.resolution} must be at least 4")
        if self.obstacles and self.dimensions == 1:
            raise ValueError(
                f"obstacles={self.obstacles} would cut a line into pieces: use dimensions=2 or 3"
            )
        check_gaps(self.obstacles, self.grid)

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """Source, potential and, with obstacles, the mask."""
        about = {
            "source": {"units": "1", "long_name": "source density", "symmetry": "scalar"},
            "u": {"units": "1", "long_name": "potential", "symmetry": "scalar"},
        }
        if self.obstacles:
            about["mask"] = {
                "units": "1",
                "long_name": "1 in the fluid, 0 in obstacles",
                "symmetry": "scalar",
            }
        return about

    @property
    def grid(self) -> Grid:
        """Cells of the unit box."""
        return Grid((self.resolution,) * self.dimensions, periodic=False, location="cell")

    def attributes(self) -> dict[str, Any]:
        """Equation, parameters, boundary conditions, seed scheme and solver."""
        walls = {
            "dirichlet": "u = 0 on the faces of the box",
            "neumann": "du/dn = 0 on the faces of the box, mean 0",
            "mixed": "u = 0 at x = 0, du/dn = 0 on the other faces of the box",
        }[self.boundary]
        return {
            "equation": self.formula,
            **self.parameters(),
            "inputs": "source mask" if self.obstacles else "source",
            "targets": "u",
            "boundary_conditions": walls + ("; du/dn = 0 on obstacles" if self.obstacles else ""),
            "source_law": f"Gaussian random field of cosines, tau={_LAW.tau}, alpha={_LAW.alpha}",
            "seed_scheme": "numpy.random.SeedSequence(seed, spawn_key=(sample,)), one draw per cosine mode; "
            "spawn_key=(sample, 1) for obstacles",
            "discretisation": "finite volumes, faces of the box half a cell from the outermost centres",
            "solver": f"preconditioned conjugate gradients in float64 to a relative residual of {TOLERANCE}",
        }

    def generate(
        self, seed: int, indices: Sequence[int], progress: Callable[[int], None] | None = None
    ) -> dict[str, Any]:
        """See :meth:`Equation.generate`; ``diagnostics`` is the relative residual before rounding."""
        grid = self.grid
        source = _LAW.sample(seed, indices, grid)
        fast = FastPoisson.of(self._stencil(np.ones(grid.sizes, bool), grid))
        results = {name: np.empty((len(indices), *grid.sizes), np.float32) for name in self.variables}
        residuals = np.empty(len(indices))
        for i, index in enumerate(indices):
            mask = random_mask(seed, index, self.obstacles, grid)
            stencil = self._stencil(mask, grid)
            f = np.zeros(grid.sizes, np.float32)
            f[mask] = stencil.project(source[i][mask])
            u, residuals[i] = solve(stencil, f.astype(np.float64), fast)
            for name in results:
                results[name][i] = {"source": f, "u": u, "mask": mask}[name]
            if progress is not None:
                progress(1)
        return {**results, "parameters": {}, "diagnostics": {"residual": residuals}}

    def residual(self, fields: Mapping[str, np.ndarray], grid: Grid) -> np.ndarray:
        """See :meth:`Steady.residual`, in the norm dual to the energy of the box without obstacles.

        A relative error of the potential counts the same on every grid. Rounding of the potential to float32
        alone makes it about 1e-8 times the resolution.
        """
        everywhere = np.ones(grid.sizes, bool)
        fast = FastPoisson.of(self._stencil(everywhere, grid))
        masks = fields["mask"] > 0.5 if self.obstacles else [everywhere] * len(fields["u"])
        missing = [
            f - self._stencil(mask, grid).apply(u)
            for mask, f, u in zip(masks, fields["source"], fields["u"], strict=True)
        ]
        return fast.norm(np.stack(missing)) / fast.norm(fields["source"])

    def _stencil(self, mask: np.ndarray, grid: Grid) -> Stencil:
        ends: dict[str, str | tuple[str, str]] = dict.fromkeys("xyz"[: grid.ndim], self.boundary)
        if self.boundary == "mixed":
            ends = {**dict.fromkeys(ends, "neumann"), "x": ("dirichlet", "neumann")}
        return Stencil.poisson(mask, spacing=grid.spacing, bc=ends)
