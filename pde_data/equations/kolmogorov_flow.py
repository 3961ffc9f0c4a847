"""Turbulence driven by a steady shear force."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch

from pde_data.equations.periodic import Periodic
from pde_data.equations.vorticity import (
    VorticityTransport,
    kolmogorov,
    require_mean_zero,
    require_resolved,
)
from pde_data.grids import Grid
from pde_data.random_fields import GaussianRandomField
from pde_data.spectral import Nonlinear, Spectrum

_LAW = GaussianRandomField(tau=1.0, alpha=2.5, sigma=10.0)


@final
@dataclass(frozen=True)
class KolmogorovFlow(Periodic):
    r"""Turbulence, statistically steady, under a sinusoidal body force on a periodic square.

    $$w_t + u\cdot\nabla w = \frac{1}{Re}\Delta w - \mu w - k\cos(ky), \qquad u = (\psi_y, -\psi_x),
    \quad -\Delta\psi = w$$

    The setting of Kochkov et al. (PNAS 118, 2021), who take $Re=1000$ and drag $\mu=0.1$: after a time of 20
    energy and enstrophy only fluctuate, and after the default burn-in of 40 the initial law is forgotten.
    With ``drag=0``, as in Li et al., *Physics-Informed Neural Operator* (2021), the largest eddies gather
    energy over a time of about $Re/2$, which the burn-in must then cover.

    Eddies go down to wavenumbers near $\sqrt{Re}$. The solver therefore takes at least $10\sqrt{Re}$ points
    per axis, 320 for $Re=1000$, and keeps modes up to 3.3 times that wavenumber; the outer tenth of them
    holds less than 1e-2 of the vorticity (``spectrum_tail`` in the data tells how much). The Courant number
    decides the time step. 100 samples take about 20 CPU-minutes at $Re=100$, some hours at $Re=1000$.

    >>> run = KolmogorovFlow(reynolds=10, resolution=16, burn_in=1, t_end=1, records=1)
    >>> run.generate(seed=0, indices=[0])["vorticity"].shape
    (1, 2, 16, 16)
    """

    name: ClassVar[str] = "kolmogorov_flow"
    dimensions: ClassVar[int] = 2
    formula: ClassVar[str] = (
        "w_t + u.grad(w) = laplace(w)/reynolds - drag*w - k*cos(k*y), k = 2*pi*wavenumber/length, "
        "u = (psi_y, -psi_x), -laplace(psi) = w"
    )

    length: float = 2 * np.pi
    """Side of the box."""
    t_end: float = 10.0
    """Time of the last frame, from the end of the burn-in."""
    records: int = 20
    """Number of frames after the first one."""
    reynolds: float = 100.0
    """Reynolds number: one over the viscosity, for a force of size 1 on a box of side 2 pi."""
    wavenumber: int = 4
    """Periods of the force over the box."""
    drag: float = 0.1
    """Rate of linear friction, which keeps energy from gathering in the largest eddies."""
    burn_in: float = 40.0
    """Time before the first frame."""

    def __post_init__(self) -> None:
        self.require(positive=("reynolds",), not_negative=("drag", "burn_in"), counts=("wavenumber",))
        super().__post_init__()
        self.require_resolved(self.solver_grid)

    def require_resolved(self, grid: Grid) -> None:
        """Raise ``ValueError`` when the 2/3 rule cuts off the force on ``grid``."""
        require_resolved(f"the force of wavenumber={self.wavenumber}", (0, self.wavenumber), grid)

    @property
    def solver_grid(self) -> Grid:
        """Grid of the solver: fine enough for the Reynolds number unless ``solve_resolution`` is given."""
        enough = 16 * math.ceil(10 * math.sqrt(self.reynolds) / 16)
        n = self.solve_resolution or max(self.resolution, enough)
        return self.grid.with_sizes((n, n))

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """Only the vorticity."""
        about = {"units": "1", "long_name": "vorticity of the flow", "symmetry": "pseudoscalar"}
        return {"vorticity": about}

    @property
    def initial_law(self) -> str:
        """A Gaussian random field, long forgotten at the first frame."""
        return f"{_LAW}, then time {self.burn_in} of the flow"

    def initial(self, seed: int, indices: Sequence[int], grid: Grid) -> dict[str, np.ndarray]:
        """See :meth:`Periodic.initial`; at the start of the burn-in."""
        return {"vorticity": _LAW.sample(seed, indices, grid)}

    def check_initial(self, fields: Mapping[str, torch.Tensor]) -> None:
        """Vorticity on a periodic box has mean zero."""
        require_mean_zero("vorticity", fields["vorticity"])

    def budgets(self, fields: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
        """The mean vorticity, which is zero."""
        return {"mean": fields["vorticity"].mean((-2, -1), dtype=np.float64)}

    def linear(self, spectrum: Spectrum) -> torch.Tensor:
        """Diffusion and drag."""
        return -spectrum.squared[None] / self.reynolds - self.drag

    def nonlinear(self, spectrum: Spectrum, batch: int) -> Nonlinear:
        """Transport and forcing."""
        self.require_resolved(spectrum.grid)
        return VorticityTransport(spectrum, batch, kolmogorov(spectrum.grid, 1.0, self.wavenumber))
