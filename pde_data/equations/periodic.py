"""Initial value problems on periodic boxes: what their equations say, and how all of them are solved."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch

from pde_data.equations.base import Evolution
from pde_data.grids import Grid, resample
from pde_data.integrate import COURANT, LIMIT, TOLERANCE, Integrator
from pde_data.spectral import ETDRK4, Nonlinear, Spectrum, Zero

_DEALIASING = {1: "none (linear)", 2: "2/3 rule", 3: "1/2 rule"}


@dataclass(frozen=True)
class Periodic(Evolution):
    """An equation that is diagonal in Fourier space but for a polynomial of the fields.

    Fourier pseudo-spectral, dealiased for products of ``degree`` fields, ETDRK4 with steps chosen per sample.
    A subclass gives the equation in words, its linear and nonlinear parts and the law of its initial values.
    """

    dimensions: ClassVar[int] = 1
    """Number of space axes; a family that exists in several makes it a field."""
    degree: ClassVar[int] = 2
    """Degree of the nonlinear term; 1 for a linear equation."""
    tolerance: ClassVar[float] = TOLERANCE
    """Target of the error estimate of a step, see :class:`Integrator`."""
    burn_in: ClassVar[float] = 0.0
    """Time between the initial law and the first frame; a family with an attractor makes it a field."""

    resolution: int = 64
    """Points per axis of the stored frames."""
    solve_resolution: int | None = None
    """Points per axis of the solver, restricted spectrally to the stored ones; default: the same."""
    length: float = 1.0
    """Side of the box."""
    t_end: float = 1.0
    """Time of the last frame."""
    records: int = 10
    """Number of frames after the initial one."""
    dt: float | None = None
    """Fixed time step, halved where it is unstable; default: chosen from the Courant number."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating point type of the solver."""

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype={self.dtype!r} is unknown: choose float32 or float64")
        self.require(positive=("length", "t_end", "dt"), counts=("records", "resolution", "solve_resolution"))
        if self.resolution < 4:
            raise ValueError(f"resolution={self.resolution} must be at least 4")
        if self.solve_resolution is not None and self.solve_resolution < self.resolution:
            raise ValueError(
                f"solve_resolution={self.solve_resolution} must not be below resolution={self.resolution}"
            )

    @abstractmethod
    def linear(self, spectrum: Spectrum) -> torch.Tensor:
        """Eigenvalues ``(component, *spectrum.shape)`` of the linear part, float64 or complex128."""

    def nonlinear(self, spectrum: Spectrum, batch: int) -> Nonlinear:
        """The rest of the equation, for at most ``batch`` samples at a time."""
        return Zero()

    @abstractmethod
    def initial(self, seed: int, indices: Sequence[int], grid: Grid) -> dict[str, np.ndarray]:
        """Initial fields ``(sample, *grid.sizes)``, float64: one function for any grid."""

    def to_state(self, spectrum: Spectrum, fields: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """What is integrated, ``(sample, component, *spectrum.shape)``: the modes of the fields."""
        return torch.stack([spectrum.project(fields[name]) for name in self.variables], dim=1)

    def to_fields(self, spectrum: Spectrum, state: torch.Tensor) -> dict[str, torch.Tensor]:
        """The fields ``(sample, *grid.sizes)`` of a state."""
        return dict(zip(self.variables, spectrum.to_values(state).unbind(1), strict=True))

    @property
    @abstractmethod
    def initial_law(self) -> str:
        """The law of the initial values in words, for the provenance."""

    @property
    def grid(self) -> Grid:
        """Grid of the stored frames."""
        return Grid((self.resolution,) * self.dimensions, lengths=self.length)

    @property
    def solver_grid(self) -> Grid:
        """Grid of the solver."""
        n = self.solve_resolution or self.resolution
        return self.grid.with_sizes((n,) * self.dimensions)

    @property
    def times(self) -> np.ndarray:
        """``records + 1`` equidistant times from 0 to ``t_end``."""
        return np.linspace(0.0, self.t_end, self.records + 1)

    def attributes(self) -> dict[str, Any]:
        """Equation, parameters, boundary conditions, seed scheme and solver."""
        return {
            "equation": self.formula,
            **{k: "default" if v is None else v for k, v in self.parameters().items()},
            "solve_resolution": self.solver_grid.sizes[0],
            "boundary_conditions": f"periodic in {' and '.join('xyz'[: self.dimensions])}",
            "initial_condition": self.initial_law,
            "seed_scheme": "numpy.random.SeedSequence(seed, spawn_key=(sample,)), one draw per Fourier mode",
            "solver": "Fourier pseudo-spectral, ETDRK4",
            "dealiasing": _DEALIASING[self.degree],
            "dt_policy": self._dt_policy(),
        }

    def _dt_policy(self) -> str:
        if self.degree == 1:
            return "exact in time"
        if self.dt is not None:
            return f"fixed, halved above Courant number {LIMIT}"
        return (
            f"record interval / integer per sample; Courant number {COURANT}, error estimate {self.tolerance}"
        )

    def solve(
        self, fields: Mapping[str, torch.Tensor], times: Sequence[float] | np.ndarray
    ) -> Iterator[dict[str, torch.Tensor]]:
        """See :class:`Evolution`; the initial values are cut to the modes that the solver keeps."""
        first = next(iter(fields.values()))
        grid = Grid(tuple(first.shape[1:]), lengths=self.length)
        for values, _ in PeriodicSolver(self, grid, first.dtype, first.device)(fields, times):
            yield values

    def generate(
        self, seed: int, indices: Sequence[int], progress: Callable[[int], None] | None = None
    ) -> dict[str, Any]:
        """Solve from the initial law; see :meth:`Equation.generate`.

        ``diagnostics`` are ``steps``, ``max_courant`` and, as the largest over the frames, what
        :meth:`PeriodicSolver.diagnostics` measures.
        """
        grid, stored = self.solver_grid, self.grid
        dtype = getattr(torch, self.dtype)
        shape = (len(indices), self.records + 1, *stored.sizes)
        frames = {name: np.empty(shape, np.float32) for name in self.variables}
        diagnostics: dict[str, list[np.ndarray]] = defaultdict(list)
        solver = PeriodicSolver(self, grid, dtype)
        pool = 8 * solver.stepper.batch
        for start in range(0, len(indices), pool):
            members = indices[start : start + pool]
            first = {k: torch.from_numpy(v).to(dtype) for k, v in self.initial(seed, members, grid).items()}
            worst: dict[str, np.ndarray] = {}
            for t, (fields, state) in enumerate(solver(first, self.burn_in + self.times)):
                for name, values in fields.items():
                    frames[name][start : start + len(members), t] = resample(values, grid, stored).numpy()
                for name, values in solver.diagnostics(state).items():
                    worst[name] = np.maximum(worst.get(name, 0.0), values)
            integrator = solver.integrator
            for name, values in {
                "steps": integrator.steps,
                "max_courant": integrator.max_courant,
                **worst,
            }.items():
                diagnostics[name].append(values)
            if progress is not None:
                progress(len(members))
        merged = {name: np.concatenate(parts) for name, parts in diagnostics.items()}
        return {**frames, "parameters": {}, "diagnostics": merged}


def require_dimensions(dimensions: int) -> None:
    """Raise ``ValueError`` for a number of space axes other than 1, 2 and 3."""
    if dimensions not in (1, 2, 3):
        raise ValueError(f"dimensions={dimensions!r} must be 1, 2 or 3")


@final
class PeriodicSolver:
    """Solves one equation from given fields, on any periodic grid and device."""

    def __init__(
        self, equation: Periodic, grid: Grid, dtype: torch.dtype, device: torch.device | str = "cpu"
    ):
        self.equation = equation
        self.spectrum = Spectrum(grid, dtype, device, equation.degree)
        linear = equation.linear(self.spectrum)
        batch = max(1, self.spectrum.chunk_size() // len(linear))
        self.nonlinear = equation.nonlinear(self.spectrum, batch)
        self.stepper = ETDRK4(self.spectrum, linear, self.nonlinear, batch)
        self.integrator = Integrator(self.stepper, equation.dt, equation.tolerance)
        self._multiplicity, self._outer = self.spectrum.multiplicity, self.spectrum.outer

    def __call__(
        self, fields: Mapping[str, torch.Tensor], times: Sequence[float] | np.ndarray
    ) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        """Yield fields ``(sample, *sizes)`` and the state at each of ``times``."""
        state = self.equation.to_state(self.spectrum, fields)
        for now in self.integrator(state, times):
            yield self.equation.to_fields(self.spectrum, now), now

    def diagnostics(self, state: torch.Tensor) -> dict[str, np.ndarray]:
        """``spectrum_tail`` and what the nonlinear term measures of itself, ``(sample,)`` each.

        ``spectrum_tail`` is the norm of the modes in the outer tenth of those kept, relative to all but the
        mean; the largest over the components. It estimates the relative error of truncation in space.
        """
        weighted = state.abs().double().square() * self._multiplicity
        total = weighted.flatten(2).sum(-1)
        tail = (weighted * self._outer).flatten(2).sum(-1)
        ratio = torch.where(total > 0, tail / total.clamp_min(1e-300), 0).amax(1).sqrt()
        parts = [self.nonlinear.diagnostics(chunk) for chunk in state.split(self.stepper.batch)]
        return {
            "spectrum_tail": ratio.cpu().numpy(),
            **{name: torch.cat([part[name] for part in parts]).cpu().numpy() for name in parts[0]},
        }
