"""Shallow water on a rotating sphere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, final, get_args

import numpy as np
import torch

from pde_data.equations.base import Evolution
from pde_data.equations.shallow_water_dynamics import Advection, Frames, Planet
from pde_data.equations.shallow_water_states import ALPHA, PERTURBATION, TAU, jet, turbulence
from pde_data.harmonics import Harmonics
from pde_data.integrate import COURANT, LIMIT, TOLERANCE, Integrator
from pde_data.spectral import ETDRK4, highest_mode
from pde_data.sphere import WEIGHTS, SphereGrid

Flow = Literal["turbulence", "jet"]
Latitudes = Literal["gauss", "equiangular"]

_ORDER = 4  # of the Laplacian in the hyperdiffusion
_SPEED = {"turbulence": 20.0, "jet": 80.0}
_CHUNK_BYTES = {"cpu": 400_000, "cuda": 64_000_000}  # of one field of the samples that are stepped together


@final
@dataclass(frozen=True)
class ShallowWater(Evolution):
    r"""Depth $h$ and wind $\mathbf v$ of a shallow fluid on a rotating sphere, in SI units.

    $$\mathbf v_t = -(\zeta+f)\,\hat k\times\mathbf v - \nabla(gh + \tfrac12|\mathbf v|^2) + D\mathbf v,\qquad
    h_t = -\nabla\cdot(h\mathbf v) + Dh$$

    $D$ is ``viscosity`` $\nabla^2$ and a hyperdiffusion $\propto\nabla^8$, both acting on vorticity,
    divergence and $h$. Flows start in balance: ``turbulence`` from a random smooth wind, ``jet`` from the
    mid-latitude jet of Galewsky, Scott and Polvani (Tellus A 56, 2004) under a random disturbance of $h$.

    Spherical harmonics truncated to a triangle on a Gauss-Legendre grid that makes quadratic products exact
    (Hack and Jakob, NCAR/TN-343, 1992), ETDRK4 with gravity waves about the mean depth solved exactly. Needs
    the extra ``sphere`` (torch-harmonics).

    >>> equation = ShallowWater(resolution=32, t_end=7200.0, records=1)
    >>> equation.generate(seed=0, indices=[3])["vorticity"].shape
    (1, 2, 16, 32)
    """

    name: ClassVar[str] = "shallow_water"
    formula: ClassVar[str] = "v_t = -(zeta + f) k x v - grad(gravity*h + v^2/2) + D v, h_t = -div(h v) + D h"
    time_units: ClassVar[str] = "s"
    derived: ClassVar[tuple[str, ...]] = ("vorticity",)

    flow: Flow = "turbulence"
    """Law of the initial flow."""
    resolution: int = 128
    """Points along the equator of the stored frames."""
    solve_resolution: int | None = None
    """Points along the equator of the solver; default: the same."""
    latitudes: Latitudes = "gauss"
    """Stored latitudes: resolution/2 Gauss-Legendre points, or resolution/2 + 1 from pole to pole."""
    t_end: float = 518400.0
    """Time of the last frame in s; default: 6 days."""
    records: int = 24
    """Number of frames after the initial one."""
    speed: float | None = None
    """Wind in m/s: root mean square of the turbulence (default 20), largest of the jet (default 80)."""
    mean_depth: float = 10000.0
    """Mean depth in m."""
    viscosity: float = 0.0
    """Coefficient of the Laplacian in m2/s."""
    hyperdiffusion: float | None = 7200.0
    """Time in s in which the shortest wave decays by e under the eighth derivative; None: no such term."""
    gravity: float = 9.80616
    """Acceleration of gravity in m/s2."""
    radius: float = 6.37122e6
    """Radius of the sphere in m."""
    rotation_rate: float = 7.292e-5
    """Angular velocity of the sphere in 1/s."""
    tilt: float = 0.0
    """Angle between the axis of rotation and the axis of the grid, in degrees."""
    dt: float | None = None
    """Fixed time step in s, halved where it is unstable; default: chosen by the error estimate."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating point type of the solver."""

    def __post_init__(self) -> None:
        for name, choices in (
            ("flow", get_args(Flow)),
            ("latitudes", get_args(Latitudes)),
            ("dtype", ("float32", "float64")),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown: choose {' or '.join(choices)}")
        self.require(
            positive=("t_end", "dt", "mean_depth", "hyperdiffusion", "gravity", "radius"),
            not_negative=("viscosity", "speed"),
            finite=("rotation_rate", "tilt"),
            counts=("resolution", "solve_resolution", "records"),
        )
        if self.resolution < 8 or self.resolution % 2:
            raise ValueError(f"resolution={self.resolution} must be an even number of at least 8")
        if self.solve_resolution is not None and self.solve_resolution < self.resolution:
            raise ValueError(
                f"solve_resolution={self.solve_resolution} must not be below resolution={self.resolution}"
            )
        if self.flow == "jet" and self.tilt:
            raise ValueError(
                f"tilt={self.tilt}: the jet is zonal about the axis of rotation, it needs tilt=0"
            )

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """Height, wind, and the vorticity that follows from the wind."""
        return {
            "height": {"units": "m", "long_name": "depth of the fluid", "symmetry": "scalar"},
            "u": {
                "units": "m s-1",
                "long_name": "eastward wind",
                "standard_name": "eastward_wind",
                "symmetry": "vector x",
            },
            "v": {
                "units": "m s-1",
                "long_name": "northward wind",
                "standard_name": "northward_wind",
                "symmetry": "vector y",
            },
            "vorticity": {
                "units": "s-1",
                "long_name": "relative vorticity",
                "standard_name": "atmosphere_relative_vorticity",
                "symmetry": "pseudoscalar",
            },
        }

    @property
    def grid(self) -> SphereGrid:
        """Grid of the stored frames."""
        half = self.resolution // 2
        if self.latitudes == "gauss":
            return SphereGrid.gauss(half, self.resolution)
        return SphereGrid.equiangular(half + 1, self.resolution)

    @property
    def auxiliary(self) -> dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]]:
        """Quadrature weights of the latitudes."""
        about = {"units": "1", "long_name": "quadrature weights in the sine of latitude, sum 2"}
        return {WEIGHTS: (("latitude",), self.grid.weights[0], about)}

    @property
    def planet(self) -> Planet:
        """Constants of the equations."""
        return Planet(self.radius, self.rotation_rate, self.gravity, self.mean_depth, self.tilt)

    @property
    def truncation(self) -> int:
        """Highest degree that the solver keeps.

        A third of the points along the equator, so that products are exact; a quarter where the solver
        starts from equidistant latitudes, whose quadrature is exact to fewer degrees.
        """
        if self.solve_resolution is None and self.latitudes == "equiangular":
            return self.resolution // 4
        return highest_mode(self.solve_resolution or self.resolution)

    @property
    def stored_truncation(self) -> int:
        """Highest degree in the stored frames: what the solver keeps and the stored grid resolves."""
        return min(self.truncation, self.resolution // 2 - 1)

    @property
    def times(self) -> np.ndarray:
        """``records + 1`` equidistant times from 0 to ``t_end``, in s."""
        return np.linspace(0.0, self.t_end, self.records + 1)

    def attributes(self) -> dict[str, Any]:
        """Equation, parameters, seed scheme and solver."""
        return {
            "equation": self.formula,
            **{k: "default" if v is None else v for k, v in self.parameters().items()},
            "hyperdiffusion": "none" if self.hyperdiffusion is None else self.hyperdiffusion,
            "speed": self._speed,
            "domain": "rotating sphere",
            "initial_condition": {
                "turbulence": f"random rotational wind, tau={TAU}, alpha={ALPHA}, in nonlinear balance",
                "jet": f"balanced jet of Galewsky et al. (2004) and random height of {PERTURBATION} m rms",
            }[self.flow],
            "seed_scheme": "numpy.random.SeedSequence(seed, spawn_key=(sample,)), one draw per harmonic",
            "solver": f"spherical harmonics T{self.truncation}, ETDRK4",
            "dealiasing": "exact for quadratic products",
            "dt_policy": f"fixed, halved above Courant number {LIMIT}"
            if self.dt is not None
            else f"record interval / integer per sample; Courant {COURANT}, error estimate {TOLERANCE}",
        }

    @property
    def _speed(self) -> float:
        return _SPEED[self.flow] if self.speed is None else self.speed

    def initial_state(self, seed: int, indices: Sequence[int], harmonics: Harmonics) -> torch.Tensor:
        """Random states, complex128."""
        law = {"turbulence": turbulence, "jet": jet}[self.flow]
        return law(seed, indices, self.planet, self._speed, harmonics)

    def initial(self, seed: int, indices: Sequence[int], grid: SphereGrid) -> dict[str, np.ndarray]:
        """Initial fields ``(sample, *grid.sizes)``, float64: one function, cut to the truncation."""
        frames = Frames(grid, self.stored_truncation, self.planet, torch.float64)
        fields = frames.to_fields(self.initial_state(seed, indices, frames.scalar))
        return {name: values.numpy() for name, values in fields.items()}

    def check_initial(self, fields: Mapping[str, torch.Tensor]) -> None:
        """The shape is that of a grid on the sphere, and the depth is positive."""
        height = fields["height"]
        if tuple(height.shape[1:]) != self.grid.sizes:
            raise ValueError(
                f"initial values of shape {tuple(height.shape)}: expected (sample, latitude, longitude) with "
                f"{self.grid.sizes[0]} {self.latitudes} latitudes for {self.resolution} longitudes"
            )
        if bool((height <= 0).any()):
            raise ValueError(f"height must be positive, got {float(height.min()):.3g} m")

    def solve(
        self, fields: Mapping[str, torch.Tensor], times: Sequence[float] | np.ndarray
    ) -> Iterator[dict[str, torch.Tensor]]:
        """See :class:`Evolution`; starts from ``height``, ``u`` and ``v``, cut to the truncation."""
        height = fields["height"]
        equation = replace(self, resolution=height.shape[-1], solve_resolution=None)
        solver = ShallowWaterSolver(equation, height.dtype, height.device)
        for state in solver.integrator(solver.frames.to_state(fields), times):
            yield solver.frames.to_fields(state)

    def generate(
        self, seed: int, indices: Sequence[int], progress: Callable[[int], None] | None = None
    ) -> dict[str, Any]:
        """Solve from the initial law; see :meth:`Equation.generate`."""
        solver = ShallowWaterSolver(self, getattr(torch, self.dtype))
        shape = (len(indices), self.records + 1, *self.grid.sizes)
        result = {name: np.empty(shape, np.float32) for name in self.variables}
        steps, courant = [], []
        pool = 4 * solver.stepper.batch
        for start in range(0, len(indices), pool):
            members = indices[start : start + pool]
            state = self.initial_state(seed, members, solver.harmonics).to(solver.harmonics.complex_dtype)
            for t, now in enumerate(solver.integrator(state, self.times)):
                for name, values in solver.frames.to_fields(now).items():
                    result[name][start : start + len(members), t] = values.numpy()
            steps.append(solver.integrator.steps)
            courant.append(solver.integrator.max_courant)
            if progress is not None:
                progress(len(members))
        diagnostics = {"steps": np.concatenate(steps), "max_courant": np.concatenate(courant)}
        return {**result, "parameters": {}, "diagnostics": diagnostics}

    def budgets(self, fields: Mapping[str, np.ndarray], grid: SphereGrid) -> dict[str, np.ndarray]:
        """Mean depth and, without dissipation, mean energy and potential enstrophy."""
        h, u, v, vorticity = (fields[name].astype(np.float64) for name in ("height", "u", "v", "vorticity"))
        weights = grid.quadrature() / (4 * np.pi)

        def mean(values: np.ndarray) -> np.ndarray:
            return (values * weights).sum((-2, -1))

        result = {"mean_depth": mean(h)}
        if not self.viscosity and self.hyperdiffusion is None:
            result["energy"] = mean(h * (u**2 + v**2) + self.gravity * h**2) / 2
            # Without units: in 1/(m s2) it would be some 1e-13.
            scale = self.mean_depth * (self.radius / self.planet.wave_speed) ** 2
            result["potential_enstrophy"] = (
                scale * mean((vorticity + self.planet.coriolis(grid)) ** 2 / h) / 2
            )
        return result


@final
class ShallowWaterSolver:
    """The parts that solve one equation in one precision on one device."""

    def __init__(self, equation: ShallowWater, dtype: torch.dtype, device: torch.device | str = "cpu"):
        planet, truncation = equation.planet, equation.truncation
        half = 2 * -(-(3 * truncation + 1) // 4)
        self.truncation = truncation
        grid = SphereGrid.gauss(half, 2 * half)
        self.harmonics = Harmonics(grid, truncation, dtype, device, powers=(0, -2))
        self.advection = Advection(self.harmonics, planet)
        self.frames = Frames(equation.grid, equation.stored_truncation, planet, dtype, device)
        k = torch.from_numpy(planet.wavenumbers(self.harmonics))
        damping = equation.viscosity * k**2
        if equation.hyperdiffusion is not None:
            damping = damping + (k / k.max()) ** (2 * _ORDER) / equation.hyperdiffusion
        waves = 1j * planet.wave_speed * k
        linear = torch.stack([0 * waves, -waves, waves]) - damping
        size = grid.sizes[0] * grid.sizes[1] * dtype.itemsize
        batch = max(1, _CHUNK_BYTES.get(self.harmonics.device.type, _CHUNK_BYTES["cuda"]) // size)
        self.stepper = ETDRK4(self.harmonics, linear, self.advection, batch)
        self.integrator = Integrator(self.stepper, dt=equation.dt)
