"""Two-dimensional flow that carries a scalar and is driven by its buoyancy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch

from pde_data.equations.fourier import mean
from pde_data.equations.periodic import Periodic
from pde_data.equations.vorticity import VorticityTransport, require_mean_zero
from pde_data.grids import Grid
from pde_data.random_fields import GaussianRandomField
from pde_data.spectral import Nonlinear, Spectrum

_LAW = GaussianRandomField(tau=7.0, alpha=2.5)


@final
@dataclass(frozen=True)
class Boussinesq(Periodic):
    r"""Flow that carries a scalar, such as a temperature, and is driven by its buoyancy.

    $$w_t + u\cdot\nabla w = \nu\Delta w + B s_x, \qquad s_t + u\cdot\nabla s = \kappa\Delta s,
    \qquad u = (\psi_y, -\psi_x), \quad -\Delta\psi = w$$

    $y$ points up. The frame is that in which the mean velocity is zero, so that only differences of the
    scalar drive the flow. Vorticity and scalar start from independent ``GaussianRandomField(tau=7,
    alpha=2.5)``, with a standard deviation near 0.3 on the unit box; plumes rise and mix in a time of about
    5. 64 points per axis resolve viscosities and diffusivities from 1e-3. Basdevant's form for the
    vorticity, fluxes for the scalar: 7 real transforms per evaluation, 2/3 dealiasing. 100 samples take
    about 40 CPU-seconds.

    >>> fields = Boussinesq(resolution=16, t_end=1, records=1).generate(seed=0, indices=[0])
    >>> fields["vorticity"].shape, fields["scalar"].shape
    ((1, 2, 16, 16), (1, 2, 16, 16))
    """

    name: ClassVar[str] = "boussinesq"
    dimensions: ClassVar[int] = 2
    formula: ClassVar[str] = (
        "w_t + u.grad(w) = viscosity*laplace(w) + buoyancy*s_x, s_t + u.grad(s) = diffusivity*laplace(s), "
        "u = (psi_y, -psi_x), -laplace(psi) = w"
    )

    t_end: float = 10.0
    """Time of the last frame."""
    records: int = 20
    """Number of frames after the initial one."""
    viscosity: float = 1e-3
    """Kinematic viscosity."""
    diffusivity: float = 1e-3
    """Diffusivity of the scalar."""
    buoyancy: float = 0.5
    """Upward acceleration per unit of the scalar; 0 for a passive one."""

    def __post_init__(self) -> None:
        self.require(not_negative=("viscosity", "diffusivity"), finite=("buoyancy",))
        super().__post_init__()

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """Vorticity and scalar."""
        return {
            "vorticity": {"units": "1", "long_name": "vorticity of the flow", "symmetry": "pseudoscalar"},
            "scalar": {"units": "1", "long_name": "scalar carried by the flow", "symmetry": "scalar"},
        }

    @property
    def initial_law(self) -> str:
        """Two independent Gaussian random fields."""
        return f"vorticity, scalar: {_LAW}, independent"

    def initial(self, seed: int, indices: Sequence[int], grid: Grid) -> dict[str, np.ndarray]:
        """See :meth:`Periodic.initial`."""
        return {
            name: _LAW.sample(seed, indices, grid, component) for component, name in enumerate(self.variables)
        }

    def check_initial(self, fields: Mapping[str, torch.Tensor]) -> None:
        """Vorticity on a periodic box has mean zero."""
        require_mean_zero("vorticity", fields["vorticity"])

    def linear(self, spectrum: Spectrum) -> torch.Tensor:
        """Diffusion of both."""
        return torch.stack([-self.viscosity * spectrum.squared, -self.diffusivity * spectrum.squared])

    def nonlinear(self, spectrum: Spectrum, batch: int) -> Nonlinear:
        """Transport of both, and buoyancy."""
        return BuoyantTransport(spectrum, batch, self.buoyancy)

    def budgets(self, fields: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
        """The means of vorticity, which is zero, and of the scalar."""
        return {"vorticity": mean(fields["vorticity"], grid), "scalar": mean(fields["scalar"], grid)}


@final
class BuoyantTransport(Nonlinear):
    r"""$(-u\cdot\nabla w + B s_x, -\nabla\cdot(us))$ by three inverse and four forward transforms."""

    def __init__(self, spectrum: Spectrum, batch: int, buoyancy: float):
        self.spectrum, self.transport = spectrum, VorticityTransport(spectrum, batch)
        kx, ky = spectrum.wavenumbers
        to = {"device": spectrum.device, "dtype": spectrum.complex_dtype}
        self._divergence = torch.stack([-1j * kx * spectrum.mask, -1j * ky * spectrum.mask]).to(**to)
        self._lift = (1j * buoyancy * kx * spectrum.mask).to(**to)

    def __call__(self, modes: torch.Tensor, out: torch.Tensor) -> None:
        """See :class:`Nonlinear`."""
        self.transport(modes[:, :1], out[:, :1])
        out[:, 0].addcmul_(modes[:, 1], self._lift)
        self._scalar = self.spectrum.to_values(modes[:, 1:])
        flux = self.spectrum.to_modes(self.transport.velocity * self._scalar)
        torch.sum(flux.mul_(self._divergence), dim=1, out=out[:, 1])

    def rate(self) -> torch.Tensor:
        """Bound of the advective frequency."""
        return self.transport.rate()
