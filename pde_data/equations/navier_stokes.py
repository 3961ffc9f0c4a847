"""Two-dimensional incompressible flow on a periodic box, in vorticity form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final, get_args

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
    dimensions: ClassVar[int] = 2
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
        self.require_resolved(self.solver_grid)

    def require_resolved(self, grid: Grid) -> None:
        """Raise ``ValueError`` when the forcing has modes that the 2/3 rule cuts off on ``grid``."""
        modes = {"fno": (1, 1), "sym": (2, 2), "kolmogorov": (0, self.wavenumber), "none": (0, 0)}
        require_resolved(f"forcing={self.forcing!r}", modes[self.forcing], grid)

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
        require_mean_zero("vorticity", fields["vorticity"])

    def budgets(self, fields: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
        """The mean vorticity, which is zero."""
        return {"mean": fields["vorticity"].mean((-2, -1), dtype=np.float64)}

    def linear(self, spectrum: Spectrum) -> torch.Tensor:
        """Diffusion."""
        return -self.viscosity * spectrum.squared[None]

    def nonlinear(self, spectrum: Spectrum, batch: int) -> Nonlinear:
        """Transport and forcing."""
        self.require_resolved(spectrum.grid)
        return VorticityTransport(spectrum, batch, self._forcing(spectrum.grid))

    def _forcing(self, grid: Grid) -> np.ndarray | None:
        x, y = np.meshgrid(
            *(2 * np.pi * c / length for c, length in zip(grid.coordinates, grid.lengths)), indexing="ij"
        )
        match self.forcing:
            case "fno":
                return 0.1 * (np.sin(x + y) + np.cos(x + y))
            case "sym":
                return 0.1 * (np.cos(2 * x) + np.cos(2 * y))
            case "kolmogorov":
                return kolmogorov(grid, self.amplitude, self.wavenumber)
            case _:
                return None
