"""The viscous Burgers equation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch

from pde_data.equations.periodic import Periodic
from pde_data.grids import Grid
from pde_data.random_fields import GaussianRandomField
from pde_data.spectral import Nonlinear, Spectrum

_LAW = GaussianRandomField(tau=7.0, alpha=2.5)


@final
@dataclass(frozen=True)
class Burgers(Periodic):
    r"""Steepening against diffusion on a periodic interval.

    $$u_t + u u_x = \nu u_{xx}$$

    The initial law is ``GaussianRandomField(tau=7, alpha=2.5)``, as in Li et al., *Fourier Neural Operator*
    (ICLR 2021), who solve to time 1. Fronts are about $\nu / \max|u|$ wide: the solver's grid must resolve
    them, with 256 points for viscosities from 5e-3. 100 samples take a CPU-second.

    >>> Burgers(resolution=64, t_end=0.1, records=1).generate(seed=0, indices=[0])["u"].shape
    (1, 2, 64)
    """

    name: ClassVar[str] = "burgers"
    formula: ClassVar[str] = "u_t + u*u_x = viscosity*u_xx"

    resolution: int = 256
    """Points of the stored frames."""
    viscosity: float = 1e-2
    """Viscosity."""

    def __post_init__(self) -> None:
        self.require(not_negative=("viscosity",))
        super().__post_init__()

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """The velocity."""
        return {"u": {"units": "1", "long_name": "velocity", "symmetry": "vector x"}}

    @property
    def initial_law(self) -> str:
        """A Gaussian random field."""
        return f"Gaussian random field, tau={_LAW.tau}, alpha={_LAW.alpha}, mean 0"

    def initial(self, seed: int, indices: Sequence[int], grid: Grid) -> dict[str, np.ndarray]:
        """See :meth:`Periodic.initial`."""
        return {"u": _LAW.sample(seed, indices, grid)}

    def linear(self, spectrum: Spectrum) -> torch.Tensor:
        """Diffusion."""
        return -self.viscosity * spectrum.wavenumbers[0][None] ** 2

    def nonlinear(self, spectrum: Spectrum, batch: int) -> Nonlinear:
        """Steepening."""
        return Steepening(spectrum)

    def budgets(self, fields: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
        """The mean velocity."""
        return {"mean": fields["u"].mean(-1, dtype=np.float64)}


@final
class Steepening(Nonlinear):
    """$-c (u^2)_x / 2$: a profile whose points move at ``factor`` $c$ times their height."""

    def __init__(self, spectrum: Spectrum, factor: float = 1.0):
        self.spectrum, self.factor = spectrum, factor
        derivative = -0.5j * factor * spectrum.wavenumbers[0] * spectrum.mask
        self._derivative = derivative.to(spectrum.device, spectrum.complex_dtype)

    def __call__(self, modes: torch.Tensor, out: torch.Tensor) -> None:
        """See :class:`Nonlinear`."""
        self._u = self.spectrum.to_values(modes)
        torch.mul(self.spectrum.to_modes(self._u.square()), self._derivative, out=out)

    def rate(self) -> torch.Tensor:
        """Highest wavenumber times the largest velocity."""
        return self.factor * self._u.abs().amax(dim=(-2, -1)) * self.spectrum.highest_wavenumbers[0]
