"""Two-dimensional incompressible magnetohydrodynamics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch

from pde_data.equations.fourier import mean, seminorm
from pde_data.equations.periodic import Periodic
from pde_data.equations.vorticity import require_mean_zero, stream_derivatives, stress_derivatives
from pde_data.grids import Grid
from pde_data.random_fields import GaussianRandomField
from pde_data.spectral import Nonlinear, Spectrum

_FLOW = GaussianRandomField(tau=1.0, alpha=2.5, sigma=3.0)
_FIELD = GaussianRandomField(tau=1.0, alpha=3.5, sigma=3.0)


@final
@dataclass(frozen=True)
class MHD(Periodic):
    r"""Vorticity and magnetic potential of a conducting fluid on a periodic square.

    $$w_t + u\cdot\nabla w = \nu\Delta w + b\cdot\nabla j, \qquad
    a_t + u\cdot\nabla a = \eta\Delta a + B\psi_x, \qquad u = (\psi_y, -\psi_x), \quad -\Delta\psi = w,
    \quad b = (B + a_y, -a_x), \quad j = -\Delta a$$

    Velocity and field (in Alfven units) start from independent Gaussian random fields of like spectra;
    current sheets form by time 1. Without friction the solver keeps energy, cross helicity and mean-square
    potential. A ``mean_field`` carries Alfven waves along $x$; reflection of $y$ is then a symmetry only
    with $a\to-a$. 128 points per axis resolve viscosity and resistivity from 1e-2. 7 real transforms per
    evaluation, 2/3 dealiasing. 100 samples take about 2 CPU-minutes.

    >>> fields = MHD(resolution=16, t_end=0.1, records=1).generate(seed=0, indices=[0])
    >>> fields["vorticity"].shape, fields["potential"].shape
    ((1, 2, 16, 16), (1, 2, 16, 16))
    """

    name: ClassVar[str] = "mhd"
    dimensions: ClassVar[int] = 2
    formula: ClassVar[str] = (
        "w_t + u.grad(w) = viscosity*laplace(w) + b.grad(j), "
        "a_t + u.grad(a) = resistivity*laplace(a) + mean_field*psi_x, "
        "u = (psi_y, -psi_x), -laplace(psi) = w, b = (mean_field + a_y, -a_x), j = -laplace(a)"
    )

    resolution: int = 128
    """Points per axis of the stored frames."""
    length: float = 2 * np.pi
    """Side of the box."""
    t_end: float = 5.0
    """Time of the last frame."""
    records: int = 20
    """Number of frames after the initial one."""
    viscosity: float = 1e-2
    """Kinematic viscosity."""
    resistivity: float = 1e-2
    """Magnetic diffusivity."""
    mean_field: float = 0.0
    """Uniform magnetic field B along x, in units of velocity."""

    def __post_init__(self) -> None:
        self.require(not_negative=("viscosity", "resistivity"), finite=("mean_field",))
        super().__post_init__()

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """Vorticity and magnetic potential, without the part of the mean field."""
        return {
            "vorticity": {"units": "1", "long_name": "vorticity of the flow", "symmetry": "pseudoscalar"},
            "potential": {"units": "1", "long_name": "magnetic potential", "symmetry": "scalar"},
        }

    @property
    def initial_law(self) -> str:
        """Two independent Gaussian random fields of like energy."""
        return f"vorticity: {_FLOW}; potential: {_FIELD}; independent"

    def initial(self, seed: int, indices: Sequence[int], grid: Grid) -> dict[str, np.ndarray]:
        """See :meth:`Periodic.initial`."""
        return {
            "vorticity": _FLOW.sample(seed, indices, grid),
            "potential": _FIELD.sample(seed, indices, grid, component=1),
        }

    def check_initial(self, fields: Mapping[str, torch.Tensor]) -> None:
        """Vorticity on a periodic box has mean zero."""
        require_mean_zero("vorticity", fields["vorticity"])

    def linear(self, spectrum: Spectrum) -> torch.Tensor:
        """Diffusion of both."""
        return torch.stack([-self.viscosity * spectrum.squared, -self.resistivity * spectrum.squared])

    def nonlinear(self, spectrum: Spectrum, batch: int) -> Nonlinear:
        """Transport, Lorentz force and induction."""
        return Induction(spectrum, self.mean_field)

    def budgets(self, fields: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
        r"""Means of both and, in an ideal fluid, energy, cross helicity and mean-square potential.

        These are half the mean of $|u|^2 + |b|^2$, the mean of $u\cdot b$ and, without mean field, of $a^2$.
        """
        w, a = (fields[name].astype(np.float64) for name in self.variables)
        kept = {"vorticity": mean(w, grid), "potential": mean(a, grid)}
        if self.viscosity == self.resistivity == 0:
            kept["energy"] = (seminorm(w, grid, -1) + seminorm(a, grid, 1)) / 2
            kept["cross_helicity"] = mean(w * a, grid)
            if self.mean_field == 0:
                kept["square_potential"] = mean(a**2, grid)
        return kept


@final
class Induction(Nonlinear):
    r"""$(-u\cdot\nabla w + b\cdot\nabla j, u_x b_y - u_y b_x)$ by four inverse and three forward transforms.

    The stresses of the field enter like those of the flow, with the opposite sign.
    """

    def __init__(self, spectrum: Spectrum, mean_field: float):
        self.spectrum, self.mean_field = spectrum, mean_field
        to = {"device": spectrum.device, "dtype": spectrum.complex_dtype}
        velocity = stream_derivatives(spectrum)
        factors = torch.stack([velocity, velocity * spectrum.squared])
        self._factors = factors.to(**to)
        self._of_difference, self._of_product = stress_derivatives(spectrum)
        self._mask = spectrum.mask.to(spectrum.device, spectrum.dtype)

    def __call__(self, modes: torch.Tensor, out: torch.Tensor) -> None:
        """See :class:`Nonlinear`."""
        self._vectors = self.spectrum.to_values(modes[:, :, None] * self._factors)
        self._vectors[:, 1, 0] += self.mean_field
        u, v, bx, by = self._vectors.flatten(1, 2).unbind(1)
        difference = (u + v) * (u - v) - (bx + by) * (bx - by)
        products = torch.stack([difference, u * v - bx * by, u * by - v * bx], dim=1)
        first, second, third = self.spectrum.to_modes(products).unbind(1)
        torch.mul(third, self._mask, out=out[:, 1])
        result = torch.view_as_real(out[:, 0])
        torch.mul(torch.view_as_real(first), self._of_difference, out=result)
        result.addcmul_(torch.view_as_real(second), self._of_product)

    def rate(self) -> torch.Tensor:
        """Highest wavenumbers times the largest velocities of Alfven waves on the flow, an upper bound."""
        fastest = self._vectors.abs().amax(dim=(-2, -1)).sum(1)
        kx, ky = self.spectrum.highest_wavenumbers
        return fastest[:, 0] * kx + fastest[:, 1] * ky
