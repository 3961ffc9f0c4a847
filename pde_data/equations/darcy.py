"""Flow through a porous medium with a random permeability."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final, get_args

import numpy as np

from pde_data.equations.base import Steady
from pde_data.equations.elliptic import TOLERANCE, FastPoisson, solve
from pde_data.equations.stencil import Stencil
from pde_data.grids import Grid
from pde_data.random_fields import NeumannRandomField

Law = Literal["two_phase", "log_normal"]

# Above this contrast, or for sizes with such a prime factor, multigrid is cheaper than fast transforms:
# benchmarks/generate_darcy.py.
_CONTRAST = 100.0
_FACTOR = 50


@final
@dataclass(frozen=True)
class Darcy(Steady):
    r"""Pressure $u$ with $-\nabla\cdot(a\nabla u) = f$ on the unit square, zero on its boundary.

    The permeability $a$ comes from a Gaussian field $g$, ``NeumannRandomField(tau, alpha, sigma)``:
    ``two_phase`` is ``high`` where $g \ge 0$ and ``low`` elsewhere (Li et al., *Fourier Neural Operator*,
    ICLR 2021), ``log_normal`` is $e^g$. $f$ is the constant ``source``.

    Finite volumes on cells with harmonic means at their faces (:class:`Stencil`): $a$ is the value of a cell,
    as the thresholded law wants it, and fluxes balance in every cell. The solution is of second order where
    $a$ is smooth.

    >>> result = Darcy(resolution=16).generate(seed=0, indices=[0])
    >>> sorted(float(v) for v in np.unique(result["a"])), bool(result["diagnostics"]["residual"] < 1e-9)
    ([3.0, 12.0], True)
    """

    name: ClassVar[str] = "darcy"
    formula: ClassVar[str] = "-div(a*grad(u)) = source"

    resolution: int = 128
    """Cells per axis."""
    coefficient: Law = "two_phase"
    """Law of the permeability."""
    high: float = 12.0
    """Permeability of one phase."""
    low: float = 3.0
    """Permeability of the other phase."""
    source: float = 1.0
    """Constant right-hand side."""
    tau: float = 3.0
    """Inverse length of the Gaussian field."""
    alpha: float = 2.0
    """Smoothness of the Gaussian field."""
    sigma: float | None = None
    """Amplitude of the Gaussian field; default: tau^(alpha - 1)."""

    def __post_init__(self) -> None:
        if self.coefficient not in get_args(Law):
            raise ValueError(
                f"coefficient={self.coefficient!r} is unknown: choose one of {', '.join(get_args(Law))}"
            )
        self.require(
            positive=("high", "low", "tau", "sigma"), finite=("source", "alpha"), counts=("resolution",)
        )
        if self.resolution < 4:
            raise ValueError(f"resolution={self.resolution} must be at least 4")
        if self.source == 0:
            raise ValueError("source=0 has the solution 0: choose another")

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """Permeability and pressure."""
        return {
            "a": {"units": "1", "long_name": "permeability", "symmetry": "scalar"},
            "u": {"units": "1", "long_name": "pressure", "symmetry": "scalar"},
        }

    @property
    def grid(self) -> Grid:
        """Cells of the unit square."""
        return Grid((self.resolution,) * 2, periodic=False, location="cell")

    def attributes(self) -> dict[str, Any]:
        """Equation, parameters, boundary conditions, seed scheme and solver."""
        return {
            "equation": self.formula,
            **{k: "default" if v is None else v for k, v in self.parameters().items()},
            "inputs": "a",
            "targets": "u",
            "boundary_conditions": "u = 0 on the faces of the box, half a cell from the outermost centres",
            "seed_scheme": "numpy.random.SeedSequence(seed, spawn_key=(sample,)), one draw per cosine mode",
            "discretisation": "finite volumes, harmonic means of a at the faces",
            "solver": f"preconditioned conjugate gradients in float64 to a relative residual of {TOLERANCE}",
        }

    def permeability(self, seed: int, indices: Sequence[int], grid: Grid) -> np.ndarray:
        """``(sample, *grid.sizes)``, float32: from one function for any grid of the unit square."""
        g = NeumannRandomField(self.tau, self.alpha, self.sigma).sample(seed, indices, grid)
        a = np.where(g >= 0, self.high, self.low) if self.coefficient == "two_phase" else np.exp(g)
        return a.astype(np.float32)

    def solve(
        self, a: np.ndarray, progress: Callable[[int], None] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Pressures of given permeabilities ``(sample, nx, ny)``, float64, and their relative residuals."""
        u, residuals = np.empty(a.shape), np.empty(len(a))
        for i, one in enumerate(a):
            stencil = _stencil(one, self.grid.with_sizes(one.shape))
            quick = one.max() <= _CONTRAST * one.min() and max(map(_largest_factor, one.shape)) <= _FACTOR
            fast = FastPoisson.of(stencil) if quick else None
            u[i], residuals[i] = solve(stencil, np.full(one.shape, self.source), fast)
            if progress is not None:
                progress(1)
        return u, residuals

    def generate(
        self, seed: int, indices: Sequence[int], progress: Callable[[int], None] | None = None
    ) -> dict[str, Any]:
        """See :meth:`Equation.generate`; ``diagnostics`` is the relative residual before rounding."""
        a = self.permeability(seed, indices, self.grid)
        u, residuals = self.solve(a, progress)
        return {"a": a, "u": u.astype(np.float32), "parameters": {}, "diagnostics": {"residual": residuals}}

    def residual(self, fields: Mapping[str, np.ndarray], grid: Grid) -> np.ndarray:
        """See :meth:`Steady.residual`, in the dual norm of the constant-coefficient operator.

        A relative error of the pressure counts the same on every grid, up to the contrast of the coefficient.
        Rounding of the pressure to float32 alone makes it about 1e-8 times the resolution.
        """
        rhs = np.full(grid.sizes, self.source)
        fast = FastPoisson.of(_stencil(np.ones(grid.sizes), grid))
        missing = [rhs - _stencil(a, grid).apply(u) for a, u in zip(fields["a"], fields["u"], strict=True)]
        return fast.norm(np.stack(missing)) / fast.norm(rhs)


def _stencil(a: np.ndarray, grid: Grid) -> Stencil:
    return Stencil.poisson(np.ones(a.shape, bool), a, spacing=grid.spacing)


def _largest_factor(n: int) -> int:
    """Largest prime factor."""
    p = 2
    while p * p <= n:
        if n % p:
            p += 1
        else:
            n //= p
    return n
