"""Two-dimensional incompressible flow on a periodic box, in vorticity form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final, get_args

import numpy as np
import torch

from pde_data.equations.periodic import Periodic
from pde_data.grids import Grid
from pde_data.random_fields import GaussianRandomField
from pde_data.spectral import Nonlinear, Spectrum, highest_mode

Forcing = Literal["fno", "sym", "kolmogorov", "none"]


@final
@dataclass(frozen=True)
class NavierStokes(Periodic):
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
    ndim: ClassVar[int] = 2
    formula: ClassVar[str] = (
        "w_t + u.grad(w) = viscosity*laplace(w) + f, u = (psi_y, -psi_x), -laplace(psi) = w"
    )

    t_end: float = 50.0
    """Time of the last frame."""
    records: int = 50
    """Number of frames after the initial one."""
    viscosity: float = 1e-3
    """Kinematic viscosity."""
    forcing: Forcing = "fno"
    """Source term of the vorticity equation."""
    amplitude: float = 1.0
    """Body force of the Kolmogorov forcing."""
    wavenumber: int = 4
    """Periods of the Kolmogorov forcing over the box."""

    def __post_init__(self) -> None:
        if self.forcing not in get_args(Forcing):
            raise ValueError(
                f"forcing={self.forcing!r} is unknown: choose one of {', '.join(get_args(Forcing))}"
            )
        self.require(not_negative=("viscosity",), finite=("amplitude",), counts=("wavenumber",))
        super().__post_init__()
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
        about = {"units": "1", "long_name": "vorticity of the flow", "symmetry": "pseudoscalar"}
        return {"vorticity": about}

    @property
    def initial_law(self) -> str:
        """A Gaussian random field."""
        law = GaussianRandomField()
        return f"Gaussian random field, tau={law.tau}, alpha={law.alpha}, mean 0"

    def initial(self, seed: int, indices: Sequence[int], grid: Grid) -> dict[str, np.ndarray]:
        """See :meth:`Periodic.initial`."""
        return {"vorticity": GaussianRandomField().sample(seed, indices, grid)}

    def check_initial(self, fields: Mapping[str, torch.Tensor]) -> None:
        """Vorticity on a periodic box has mean zero."""
        w = fields["vorticity"]
        mean, size = w.mean(dim=(1, 2)).abs(), w.abs().amax(dim=(1, 2))
        if bool((mean > 1e-4 * size).any()):
            raise ValueError(
                f"vorticity on a periodic box must have mean zero, got a mean of {float(mean.max()):.3g}: "
                "subtract the mean of each sample"
            )

    def budgets(self, fields: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
        """The mean vorticity, which is zero."""
        return {"mean": fields["vorticity"].mean((-2, -1), dtype=np.float64)}

    def linear(self, spectrum: Spectrum) -> torch.Tensor:
        """Diffusion."""
        kx, ky = spectrum.wavenumbers
        return -self.viscosity * (kx**2 + ky**2)[None]

    def nonlinear(self, spectrum: Spectrum, batch: int) -> Nonlinear:
        """Advection and forcing."""
        return Advection(spectrum, batch, self._forcing(spectrum))

    def _forcing(self, spectrum: Spectrum) -> torch.Tensor | None:
        grid = spectrum.grid
        self.require_resolved(grid)
        x, y = np.meshgrid(
            *(2 * np.pi * c / length for c, length in zip(grid.coordinates, grid.lengths)), indexing="ij"
        )
        match self.forcing:
            case "fno":
                f = 0.1 * (np.sin(x + y) + np.cos(x + y))
            case "sym":
                f = 0.1 * (np.cos(2 * x) + np.cos(2 * y))
            case "kolmogorov":
                n = self.wavenumber
                f = -self.amplitude * 2 * np.pi * n / grid.lengths[1] * np.cos(n * y)
            case _:
                return None
        return spectrum.project(torch.from_numpy(f))


@final
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
        self._velocity = self.spectrum.to_values(torch.mul(modes, self._to_velocity, out=self._modes[:b]))
        u, v = self._velocity.unbind(1)
        products = self._products[:b]
        difference, product = products.unbind(1)
        torch.add(u, v, out=difference)
        torch.sub(u, v, out=product)
        difference.mul_(product)
        torch.mul(u, v, out=product)
        first, second = torch.view_as_real(self.spectrum.to_modes(products)).unbind(1)
        result = torch.view_as_real(out[:, 0])
        if self._forcing is None:
            torch.mul(first, self._of_difference, out=result)
        else:
            torch.addcmul(self._forcing, first, self._of_difference, out=result)
        result.addcmul_(second, self._of_product)

    def rate(self) -> torch.Tensor:
        """Highest wavenumbers times the largest velocities: an upper bound of the advective frequency."""
        largest = self._velocity.abs().amax(dim=(-2, -1))
        return largest[:, 0] * self._highest[0] + largest[:, 1] * self._highest[1]

    def diagnostics(self, modes: torch.Tensor) -> dict[str, torch.Tensor]:
        r"""``enstrophy_transfer``: $|\langle w, N\rangle|/(\|w\|\|N\|)$, 0 for the exact advection $N$."""
        term = torch.empty_like(modes)
        self(modes, term)
        if self._forcing is not None:
            term -= torch.view_as_complex(self._forcing)
        w, tendency = (self.spectrum.to_values(m).double().flatten(1) for m in (modes, term))
        norm = (w.norm(dim=1) * tendency.norm(dim=1)).clamp_min(1e-300)
        return {"enstrophy_transfer": (w * tendency).sum(1).abs() / norm}
