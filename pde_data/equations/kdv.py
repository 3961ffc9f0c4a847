"""The Korteweg-de Vries equation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch

from pde_data.equations.burgers import Steepening
from pde_data.equations.fourier import mean, seminorm
from pde_data.equations.periodic import Periodic
from pde_data.grids import Grid
from pde_data.random_fields import GaussianRandomField
from pde_data.spectral import Nonlinear, Spectrum

_LAW = GaussianRandomField(tau=0.5, alpha=5.0, sigma=0.025)


@final
@dataclass(frozen=True)
class KdV(Periodic):
    r"""Long waves on shallow water, which break into solitons, on a periodic interval.

    $$u_t + 6 u u_x + u_{xxx} = 0$$

    The initial law ``GaussianRandomField(tau=0.5, alpha=5, sigma=0.025)`` makes some ten waves that become
    solitons of heights up to about 3. A soliton of height $h$ moves at speed $2h$, and $n$ points resolve it
    to $\exp(-\pi^2 n / (3 L \sqrt{h/2}))$ of its size, the default to 1e-4 at height 4. Steps must follow
    each passing crest, so that the cost grows with $h^{3/2}$: 100 samples take about a CPU-minute. The phase
    of solitons carries the temporal error, 1e-5 at time 10.

    >>> KdV(resolution=64, length=32, t_end=1, records=1).generate(seed=0, indices=[0])["u"].shape
    (1, 2, 64)
    """

    name: ClassVar[str] = "kdv"
    tolerance: ClassVar[float] = 5e-6
    formula: ClassVar[str] = "u_t + 6*u*u_x + u_xxx = 0"

    resolution: int = 256
    """Points of the stored frames."""
    length: float = 64.0
    """Length of the interval."""
    t_end: float = 20.0
    """Time of the last frame."""
    records: int = 40
    """Number of frames after the initial one."""

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """The elevation of the surface."""
        return {"u": {"units": "1", "long_name": "elevation of the surface", "symmetry": "scalar"}}

    @property
    def initial_law(self) -> str:
        """A Gaussian random field."""
        return str(_LAW)

    def initial(self, seed: int, indices: Sequence[int], grid: Grid) -> dict[str, np.ndarray]:
        """See :meth:`Periodic.initial`."""
        return {"u": _LAW.sample(seed, indices, grid)}

    def linear(self, spectrum: Spectrum) -> torch.Tensor:
        """Dispersion."""
        return 1j * spectrum.wavenumbers[0][None] ** 3

    def nonlinear(self, spectrum: Spectrum, batch: int) -> Nonlinear:
        """Steepening."""
        return Steepening(spectrum, 6.0)

    def budgets(self, fields: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
        """Mass, momentum and energy per length: the means of $u$, $u^2$ and $u_x^2/2 - u^3$."""
        u = fields["u"].astype(np.float64)
        return {
            "mass": mean(u, grid),
            "momentum": mean(u**2, grid),
            "energy": seminorm(u, grid, 1) / 2 - mean(u**3, grid),
        }
