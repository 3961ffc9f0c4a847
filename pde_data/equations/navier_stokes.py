"""Two-dimensional incompressible flow on a periodic box, in vorticity form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import torch

from pde_data.equations.base import Equation
from pde_data.grids import Grid, resample
from pde_data.integrate import COURANT, LIMIT, TOLERANCE, Integrator
from pde_data.random_fields import GaussianRandomField
from pde_data.spectral import ETDRK4, Nonlinear, Spectrum, highest_mode

Forcing = Literal["fno", "sym", "kolmogorov", "none"]


@dataclass(frozen=True)
class NavierStokes(Equation):
    r"""Vorticity $w$ of an incompressible flow on a periodic square.

    $$w_t + u\cdot\nabla w = \nu\Delta w + f, \qquad u = (\psi_y, -\psi_x), \quad -\Delta\psi = w$$

    Forcings, with $x, y$ in units of the side: ``fno`` $0.1(\sin + \cos)(2\pi(x+y))$ (Li et al., ICLR 2021),
    ``sym`` $0.1(\cos 4\pi x+\cos 4\pi y)$ (Helwig et al., ICML 2023), ``kolmogorov``: the body force
    ``amplitude`` $\sin(ky)$ along $x$ with $k=2\pi\,$``wavenumber``$/$side, hence $f=-$``amplitude``
    $k\cos(ky)$, and ``none``. The initial law is ``GaussianRandomField()``, cut to the solved modes.

    Fourier pseudo-spectral in Basdevant's form (4 real transforms per evaluation), 2/3 dealiasing, ETDRK4.

    Raises ``ValueError`` for a forcing beyond the modes that the solver's grid resolves.

    >>> NavierStokes(resolution=16, t_end=2, records=2).generate(seed=0, indices=[3])["vorticity"].shape
    (1, 3, 16, 16)
    """

    name: ClassVar[str] = "navier_stokes"

    viscosity: float = 1e-3
    """Kinematic viscosity."""
    forcing: Forcing = "fno"
    """Source term of the vorticity equation."""
    amplitude: float = 1.0
    """Body force of the Kolmogorov forcing."""
    wavenumber: int = 4
    """Periods of the Kolmogorov forcing over the box."""
    resolution: int = 64
    """Points per axis of the stored frames."""
    solve_resolution: int | None = None
    """Points per axis of the solver, restricted spectrally to the stored ones; default: the same."""
    length: float = 1.0
    """Side of the box."""
    t_end: float = 50.0
    """Time of the last frame."""
    records: int = 50
    """Number of frames after the initial one."""
    dt: float | None = None
    """Fixed time step, halved where it is unstable; default: chosen from the Courant number."""
    dtype: Literal["float32", "float64"] = "float32"
    """Floating point type of the solver."""

    def __post_init__(self) -> None:
        if self.forcing not in get_args(Forcing):
            raise ValueError(
                f"forcing={self.forcing!r} is unknown: choose one of {', '.join(get_args(Forcing))}"
            )
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype={self.dtype!r} is unknown: choose float32 or float64")
        for kind, text, names in (
            (Real, "a number", ("viscosity", "amplitude", "length", "t_end", "dt")),
            (Integral, "a whole number", ("wavenumber", "resolution", "solve_resolution", "records")),
        ):
            for name in names:
                value = getattr(self, name)
                if value is not None and not isinstance(value, kind):
                    raise TypeError(f"{name}={value!r}, expected {text}")
        if not (np.isfinite(self.viscosity) and self.viscosity >= 0):
            raise ValueError(f"viscosity={self.viscosity} must be finite and not negative")
        for name in ("length", "t_end", "dt"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise ValueError(f"{name}={value} must be positive and finite")
        for name in ("wavenumber", "records"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.resolution < 4:
            raise ValueError(f"resolution={self.resolution} must be at least 4")
        if self.solve_resolution is not None and self.solve_resolution < self.resolution:
            raise ValueError(
                f"solve_resolution={self.solve_resolution} must not be below resolution={self.resolution}"
            )
        n = self.solve_resolution or self.resolution
        self.require_resolved(Grid((n, n)))

    def require_resolved(self, grid: Grid) -> None:
        """Raise ``ValueError`` when the forcing has modes that the 2/3 rule cuts off on ``grid``."""
        modes = {"fno": (1, 1), "sym": (2, 2), "kolmogorov": (0, self.wavenumber), "none": (0, 0)}
        for mode, n in zip(modes[self.forcing], grid.sizes):
            if mode > highest_mode(n):
                raise ValueError(
                    f"forcing={self.forcing!r} acts on mode {mode}, but {n} points resolve modes up to "
                    f"{highest_mode(n)} (2/3 rule): the smallest resolution (or solve_resolution) that would "
                    f"do is {3 * mode + 1}"
                )

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """Only the vorticity."""
        return {"vorticity": {"units": "1", "long_name": "vorticity of the flow"}}

    @property
    def grid(self) -> Grid:
        """Grid of the stored frames."""
        return Grid((self.resolution, self.resolution), lengths=self.length)

    @property
    def times(self) -> np.ndarray:
        """``records + 1`` equidistant times from 0 to ``t_end``."""
        return np.linspace(0.0, self.t_end, self.records + 1)

    def attributes(self) -> dict[str, Any]:
        """Equation, parameters, boundary conditions, seed scheme and solver."""
        law = GaussianRandomField()
        return {
            "equation": "w_t + u.grad(w) = viscosity*laplace(w) + f, u = (psi_y, -psi_x), -laplace(psi) = w",
            **{k: "default" if v is None else v for k, v in self.parameters().items()},
            "boundary_conditions": "periodic in x and y",
            "initial_condition": f"Gaussian random field, tau={law.tau}, alpha={law.alpha}, mean 0",
            "seed_scheme": "numpy.random.SeedSequence(seed, spawn_key=(sample,)), one draw per Fourier mode",
            "solver": "Fourier pseudo-spectral, ETDRK4",
            "dealiasing": "2/3 rule",
            "dt_policy": (
                f"record interval / integer per sample; Courant number {COURANT}, error estimate {TOLERANCE}"
                if self.dt is None
                else f"fixed, halved above Courant number {LIMIT}"
            ),
        }

    def generate(
        self, seed: int, indices: Sequence[int], progress: Callable[[int], None] | None = None
    ) -> dict[str, Any]:
        r"""Solve from the initial law; see :meth:`Equation.generate`.

        ``diagnostics`` are ``steps``, ``max_courant``, and ``enstrophy_transfer``: the largest
        $|\langle w, N\rangle|/(\|w\|\|N\|)$ over the frames, 0 for the exact advection term $N$.
        """
        n = self.solve_resolution or self.resolution
        grid = self.grid.with_sizes((n, n))
        dtype = getattr(torch, self.dtype)
        frames = np.empty((len(indices), self.records + 1, *self.grid.sizes), dtype=np.float32)
        diagnostics: dict[str, list[np.ndarray]] = {
            name: [] for name in ("steps", "max_courant", "enstrophy_transfer")
        }
        pool = 8 * Spectrum(grid, dtype).chunk_size()
        for start in range(0, len(indices), pool):
            members = indices[start : start + pool]
            w0 = torch.from_numpy(GaussianRandomField().sample(seed, members, grid)).to(dtype)
            solver = NavierStokesSolver(self, grid, dtype)
            transfer = np.zeros(len(members))
            for t, (w, modes) in enumerate(solver(w0, self.times)):
                frames[start : start + len(members), t] = resample(w, grid, self.grid).numpy()
                transfer = np.maximum(transfer, solver.enstrophy_transfer(modes))
            diagnostics["steps"].append(solver.integrator.steps)
            diagnostics["max_courant"].append(solver.integrator.max_courant)
            diagnostics["enstrophy_transfer"].append(transfer)
            if progress is not None:
                progress(len(members))
        merged = {k: np.concatenate(v) if v else np.empty(0) for k, v in diagnostics.items()}
        return {"vorticity": frames, "parameters": {}, "diagnostics": merged}


class NavierStokesSolver:
    """Solves one :class:`NavierStokes` from given vorticity, on any square periodic grid and device."""

    def __init__(
        self, equation: NavierStokes, grid: Grid, dtype: torch.dtype, device: torch.device | str = "cpu"
    ):
        self.spectrum = Spectrum(grid, dtype, device)
        batch = self.spectrum.chunk_size()
        kx, ky = self.spectrum.wavenumbers
        self.advection = Advection(self.spectrum, batch, self._forcing(equation))
        self.stepper = ETDRK4(self.spectrum, -equation.viscosity * (kx**2 + ky**2), self.advection, batch)
        self.integrator = Integrator(self.stepper, dt=equation.dt)

    def __call__(self, w0: torch.Tensor, times: Sequence[float] | np.ndarray):
        """Yield values ``(batch, *sizes)`` and modes at each of ``times``."""
        for modes in self.integrator(self.spectrum.project(w0), times):
            yield self.spectrum.to_values(modes), modes

    def _forcing(self, equation: NavierStokes) -> torch.Tensor | None:
        grid = self.spectrum.grid
        equation.require_resolved(grid)
        x, y = np.meshgrid(
            *(2 * np.pi * c / length for c, length in zip(grid.coordinates, grid.lengths)), indexing="ij"
        )
        match equation.forcing:
            case "fno":
                f = 0.1 * (np.sin(x + y) + np.cos(x + y))
            case "sym":
                f = 0.1 * (np.cos(2 * x) + np.cos(2 * y))
            case "kolmogorov":
                n = equation.wavenumber
                f = -equation.amplitude * 2 * np.pi * n / grid.lengths[1] * np.cos(n * y)
            case _:
                return None
        return self.spectrum.project(torch.from_numpy(f))

    def enstrophy_transfer(self, modes: torch.Tensor) -> np.ndarray:
        """``(batch,)``: normalised $|<w, N>|$ of the advection term, 0 up to rounding."""
        unforced = Advection(self.spectrum, self.stepper.batch, None)
        results = []
        for w in modes.split(self.stepper.batch):
            term = torch.empty_like(w)
            unforced(w, term)
            values, tendency = (self.spectrum.to_values(m).double().flatten(1) for m in (w, term))
            norm = values.norm(dim=1) * tendency.norm(dim=1)
            results.append(((values * tendency).sum(1).abs() / norm.clamp_min(1e-300)).cpu().numpy())
        return np.concatenate(results)


class Advection(Nonlinear):
    r"""$-u\cdot\nabla w + f$ as $(\partial_y^2-\partial_x^2)(uv) + \partial_{xy}(u^2-v^2) + f$.

    Basdevant (J. Comput. Phys. 50, 1983): two inverse and two forward transforms.
    """

    def __init__(self, spectrum: Spectrum, batch: int, forcing: torch.Tensor | None):
        self.spectrum = spectrum
        kx, ky = spectrum.wavenumbers
        k2 = kx**2 + ky**2
        mask = spectrum.mask
        inverse = torch.where(k2 > 0, mask / k2.clamp_min(1e-300), 0)
        to = {"device": spectrum.device, "dtype": spectrum.complex_dtype}
        self._to_velocity = torch.stack([1j * ky * inverse, -1j * kx * inverse]).to(**to)
        self._of_difference, self._of_product = (
            torch.stack([c, c], dim=-1).to(spectrum.device, spectrum.dtype)
            for c in (-kx * ky * mask, (kx**2 - ky**2) * mask)
        )
        self._forcing = None if forcing is None else torch.view_as_real(forcing)
        self._highest = spectrum.highest_wavenumbers
        self._modes = torch.zeros(batch, 2, *spectrum.shape, **to)
        self._products = torch.zeros(
            batch, 2, *spectrum.grid.sizes, dtype=spectrum.dtype, device=spectrum.device
        )
        self._velocity = self._products

    def __call__(self, modes: torch.Tensor, out: torch.Tensor) -> None:
        """Write the modes of the advection and forcing term of vorticity ``modes`` to ``out``."""
        b = len(modes)
        self._velocity = self.spectrum.to_values(
            torch.mul(modes.unsqueeze(1), self._to_velocity, out=self._modes[:b])
        )
        u, v = self._velocity.unbind(1)
        products = self._products[:b]
        difference, product = products.unbind(1)
        torch.add(u, v, out=difference)
        torch.sub(u, v, out=product)
        difference.mul_(product)
        torch.mul(u, v, out=product)
        first, second = torch.view_as_real(self.spectrum.to_modes(products)).unbind(1)
        result = torch.view_as_real(out)
        if self._forcing is None:
            torch.mul(first, self._of_difference, out=result)
        else:
            torch.addcmul(self._forcing, first, self._of_difference, out=result)
        result.addcmul_(second, self._of_product)

    def rate(self) -> torch.Tensor:
        """Highest wavenumbers times the largest velocities: an upper bound of the advective frequency."""
        largest = self._velocity.abs().amax(dim=(-2, -1))
        return largest[:, 0] * self._highest[0] + largest[:, 1] * self._highest[1]
