"""Creeping flow round random obstacles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final, get_args

import numpy as np

from pde_data.equations.base import Steady
from pde_data.equations.elliptic import FastPoisson
from pde_data.equations.obstacles import check_gaps, random_mask
from pde_data.equations.staggered import StaggeredStokes
from pde_data.grids import Grid

Setting = Literal["channel", "inflow", "periodic"]


@final
@dataclass(frozen=True)
class Stokes(Steady):
    r"""Velocity and pressure of a steady viscous flow at Reynolds number 0 in the unit square.

    $$-\mu\Delta u + \tfrac{\mu}{K}\,\chi\,u + \nabla p = f, \qquad \nabla\cdot u = 0$$

    ``channel``: walls at both ends of $y$, periodic along $x$, driven by the body force ``force`` along $x$.
    ``inflow``: the same walls, entering at $x=0$ the Poiseuille profile of mean velocity ``speed``, leaving
    at $x=1$ without stress. ``periodic``: periodic along both axes, driven by ``force``. Each sample has
    ``obstacles`` of its own: with $u = 0$ on their faces where ``permeability`` is not given, and otherwise
    (Brinkman) porous ones of permeability $K$, where $\chi = 1$.

    Solved on a staggered grid (:class:`StaggeredStokes`), where the divergence vanishes up to rounding; the
    files hold the velocities as means of opposite faces at the cell centres. Of second order without
    obstacles, of first order beside their stepped outlines. ``mask`` is 1 in the fluid and 0 in obstacles;
    inside impermeable ones the fields are 0. But for ``inflow`` the pressure is that without the mean slope
    and has mean zero.

    >>> result = Stokes(resolution=32, obstacles=2).generate(seed=0, indices=[0])
    >>> result["velocity_x"].shape, bool(result["diagnostics"]["divergence"] < 1e-10)
    ((1, 32, 32), True)
    """

    name: ClassVar[str] = "stokes"
    formula: ClassVar[str] = (
        "-viscosity*laplace(u) + viscosity/permeability*(1 - mask)*u + grad(p) = f, div(u) = 0"
    )

    resolution: int = 64
    """Cells per axis."""
    setting: Setting = "channel"
    """Boundary conditions and what drives the flow."""
    obstacles: int = 3
    """Number of random obstacles in each sample."""
    permeability: float | None = None
    """Permeability K of the obstacles; default: none, their surface is at rest."""
    viscosity: float = 1.0
    """Dynamic viscosity."""
    force: float = 1.0
    """Body force along x in the settings channel and periodic."""
    speed: float = 1.0
    """Mean velocity that enters in the setting inflow."""

    def __post_init__(self) -> None:
        if self.setting not in get_args(Setting):
            raise ValueError(
                f"setting={self.setting!r} is unknown: choose one of {', '.join(get_args(Setting))}"
            )
        self.require(
            positive=("viscosity", "permeability"),
            finite=("force", "speed"),
            counts=("resolution", *(("obstacles",) if self.obstacles else ())),
        )
        if self.resolution < 4:
            raise ValueError(f"resolution={self.resolution} must be at least 4")
        if self.setting == "periodic" and not self.obstacles:
            raise ValueError(
                "setting='periodic' without obstacles has nothing to balance the force: add some"
            )
        driver = "speed" if self.setting == "inflow" else "force"
        if getattr(self, driver) == 0:
            raise ValueError(f"{driver}=0 gives no flow in setting={self.setting!r}: choose another")
        check_gaps(self.obstacles, self.grid)

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """Velocity, pressure and mask."""
        return {
            "velocity_x": {"units": "1", "long_name": "velocity along x", "symmetry": "vector x"},
            "velocity_y": {"units": "1", "long_name": "velocity along y", "symmetry": "vector y"},
            "pressure": {"units": "1", "long_name": "pressure", "symmetry": "scalar"},
            "mask": {"units": "1", "long_name": "1 in the fluid, 0 in obstacles", "symmetry": "scalar"},
        }

    @property
    def grid(self) -> Grid:
        """Cells of the unit square."""
        periodic = {"channel": (True, False), "inflow": (False, False), "periodic": (True, True)}
        return Grid((self.resolution,) * 2, periodic=periodic[self.setting], location="cell")

    def attributes(self) -> dict[str, Any]:
        """Equation, parameters, boundary conditions, seed scheme and solver."""
        box = {
            "channel": "periodic in x, velocity 0 at both ends of y",
            "inflow": "Poiseuille profile at x = 0, no stress at x = 1, velocity 0 at both ends of y",
            "periodic": "periodic in x and y",
        }[self.setting]
        solid = self.permeability is None
        return {
            "equation": self.formula,
            **{k: "default" if v is None else v for k, v in self.parameters().items()},
            "inputs": "mask",
            "targets": "velocity_x velocity_y pressure",
            "boundary_conditions": box + ("; velocity 0 on obstacles" if solid and self.obstacles else ""),
            "seed_scheme": "numpy.random.SeedSequence(seed, spawn_key=(sample, 1)) for obstacles",
            "discretisation": "staggered (marker-and-cell) grid; velocities averaged to the cell centres",
            "solver": "augmented Lagrangian with a sparse direct factorisation, float64",
        }

    def generate(
        self, seed: int, indices: Sequence[int], progress: Callable[[int], None] | None = None
    ) -> dict[str, Any]:
        """See :meth:`Equation.generate`.

        ``diagnostics`` before averaging and rounding: ``divergence``, the largest relative to the largest
        velocity over the spacing, and ``residual``, of the momentum equation relative to what drives it.
        """
        grid = self.grid
        results = {name: np.empty((len(indices), *grid.sizes), np.float32) for name in self.variables}
        divergence, residual = np.empty(len(indices)), np.empty(len(indices))
        for i, index in enumerate(indices):
            mask = random_mask(seed, index, self.obstacles, grid)
            flow = self.discretised(mask, grid)
            forces, inflow = self._drive(grid)
            faces, pressure, residual[i] = flow.solve(forces, inflow)
            fastest = max(float(np.abs(velocity).max()) for velocity in faces)
            divergence[i] = np.abs(flow.divergence(faces)).max() * min(grid.spacing) / fastest
            for name, values in zip(self.variables, (*flow.centred(faces), pressure, mask)):
                results[name][i] = values
            if progress is not None:
                progress(1)
        diagnostics = {"divergence": divergence, "residual": residual}
        return {**results, "parameters": {}, "diagnostics": diagnostics}

    def discretised(self, mask: np.ndarray, grid: Grid) -> StaggeredStokes:
        """The discrete problem around the obstacles of a boolean mask, True in the fluid."""
        ends = [("periodic", "periodic") if p else ("wall", "wall") for p in grid.periodic]
        if self.setting == "inflow":
            ends[0] = ("inflow", "outflow")
        if self.permeability is None:
            return StaggeredStokes(mask, grid.spacing, ends, self.viscosity)
        drag = np.where(mask, 0.0, self.viscosity / self.permeability)
        return StaggeredStokes(np.ones_like(mask), grid.spacing, ends, self.viscosity, drag)

    def _drive(self, grid: Grid) -> tuple[tuple[float, float], np.ndarray | None]:
        """Body forces, and the velocity that enters."""
        if self.setting != "inflow":
            return (self.force, 0.0), None
        y, h = grid.coordinates[1], grid.spacing[1]
        # With the second term this is the profile that the discrete equation keeps along the channel.
        profile = y * (1 - y) + h**2 / 4
        return (0.0, 0.0), self.speed * profile / profile.mean()

    def residual(self, fields: Mapping[str, np.ndarray], grid: Grid) -> np.ndarray:
        """See :meth:`Steady.residual`: the larger one of the momentum and the continuity equation.

        The averages of the face velocities that the files hold fulfil central differences of the same
        equations exactly where all neighbours of a cell are in the fluid, or all in a porous obstacle; so
        only these cells count. Momentum is measured in a dual norm, as a relative error of the velocity
        counts the same on every grid. Rounding to float32 alone leaves about 1e-8 times the resolution.
        """
        fluid, p = fields["mask"] > 0.5, fields["pressure"].astype(np.float64)
        velocity = [fields[name].astype(np.float64) for name in ("velocity_x", "velocity_y")]
        same = _everywhere(fluid, grid) | (_everywhere(~fluid, grid) & (self.permeability is not None))
        weight = FastPoisson(grid.sizes, grid.spacing, [("dirichlet", "dirichlet")] * grid.ndim)
        missing, size = 0.0, 0.0
        drag = 0.0 if self.permeability is None else self.viscosity / self.permeability
        for axis, (u, force) in enumerate(zip(velocity, self._drive(grid)[0])):
            viscous = -self.viscosity * sum(_second(u, a, grid) for a in range(grid.ndim))
            terms = (viscous, drag * ~fluid * u, _slope(p, axis, grid), np.full(u.shape, -force))
            missing += weight.norm(same * sum(terms)) ** 2
            size += sum(weight.norm(same * term) for term in terms) ** 2
        momentum = np.sqrt(missing / np.maximum(size, 1e-300))
        divergence = sum(_filtered(_slope(u, a, grid), 1 - a) for a, u in enumerate(velocity))
        gradients = [_slope(u, a, grid) for u in velocity for a in range(grid.ndim)]
        excess = np.linalg.norm(same * divergence, axis=(-2, -1))
        strain = np.sqrt(sum(np.linalg.norm(same * g, axis=(-2, -1)) ** 2 for g in gradients))
        return np.maximum(momentum, excess / np.maximum(strain, 1e-300))


# Differences over the last two axes; what they make of the ends of a bounded axis is not used.


def _slope(values: np.ndarray, axis: int, grid: Grid) -> np.ndarray:
    return (np.roll(values, -1, axis - 2) - np.roll(values, 1, axis - 2)) / (2 * grid.spacing[axis])


def _second(values: np.ndarray, axis: int, grid: Grid) -> np.ndarray:
    neighbours = np.roll(values, -1, axis - 2) + np.roll(values, 1, axis - 2)
    return (neighbours - 2 * values) / grid.spacing[axis] ** 2


def _filtered(values: np.ndarray, axis: int) -> np.ndarray:
    return (np.roll(values, -1, axis - 2) + 2 * values + np.roll(values, 1, axis - 2)) / 4


def _everywhere(flags: np.ndarray, grid: Grid) -> np.ndarray:
    """Where a flag holds for a cell and its 8 neighbours, all inside the box."""
    for axis, periodic in enumerate(grid.periodic):
        flags = flags & np.roll(flags, 1, axis - 2) & np.roll(flags, -1, axis - 2)
        if not periodic:
            flags = flags.copy()
            np.moveaxis(flags, axis - 2, 0)[[0, -1]] = False
    return flags
