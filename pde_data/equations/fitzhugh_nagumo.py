"""The FitzHugh-Nagumo reaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch

from pde_data.equations.periodic import Periodic
from pde_data.equations.reaction import Reaction
from pde_data.grids import Grid
from pde_data.random_fields import GaussianRandomField
from pde_data.spectral import Nonlinear, Spectrum

_LAW = GaussianRandomField(tau=7.0, alpha=2.5)
_AMPLITUDE = 3.0  # for a standard deviation near 1


@final
@dataclass(frozen=True)
class FitzHughNagumo(Periodic):
    r"""An activator and its inhibitor that form patterns on a periodic square.

    $$u_t = D_u\Delta u + u - u^3 - k - v, \qquad v_t = D_v\Delta v + u - v$$

    Domain, diffusivities, ``k`` and times are those of the reaction-diffusion set of PDEBench (Takamoto et
    al., NeurIPS 2022), which has walls where this box is periodic, and starts from noise at each point where
    this starts from two fields ``3 * GaussianRandomField(tau=7, alpha=2.5)``. The default leaves 4e-4 in the
    ``spectrum_tail`` once patterns form. 100 samples take about 20 CPU-seconds.

    >>> fields = FitzHughNagumo(resolution=32, t_end=1, records=1).generate(seed=0, indices=[0])
    >>> fields["u"].shape, fields["v"].shape
    ((1, 2, 32, 32), (1, 2, 32, 32))
    """

    name: ClassVar[str] = "fitzhugh_nagumo"
    dimensions: ClassVar[int] = 2
    degree: ClassVar[int] = 3
    formula: ClassVar[str] = (
        "u_t = diffusivity_u*laplace(u) + u - u^3 - k - v, v_t = diffusivity_v*laplace(v) + u - v"
    )

    resolution: int = 128
    """Points per axis of the stored frames."""
    length: float = 2.0
    """Side of the box."""
    t_end: float = 5.0
    """Time of the last frame."""
    records: int = 100
    """Number of frames after the initial one."""
    diffusivity_u: float = 1e-3
    """Diffusivity of the activator."""
    diffusivity_v: float = 5e-3
    """Diffusivity of the inhibitor."""
    k: float = 5e-3
    """Constant loss of the activator."""

    def __post_init__(self) -> None:
        self.require(not_negative=("diffusivity_u", "diffusivity_v"), finite=("k",))
        super().__post_init__()

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """Activator and inhibitor."""
        return {
            "u": {"units": "1", "long_name": "activator", "symmetry": "scalar"},
            "v": {"units": "1", "long_name": "inhibitor", "symmetry": "scalar"},
        }

    @property
    def initial_law(self) -> str:
        """Two independent Gaussian random fields."""
        return f"u, v: {_AMPLITUDE} * ({_LAW}), independent"

    def initial(self, seed: int, indices: Sequence[int], grid: Grid) -> dict[str, np.ndarray]:
        """See :meth:`Periodic.initial`."""
        return {
            name: _AMPLITUDE * _LAW.sample(seed, indices, grid, component)
            for component, name in enumerate(self.variables)
        }

    def linear(self, spectrum: Spectrum) -> torch.Tensor:
        """Diffusion, growth of the activator, decay of the inhibitor."""
        k2 = spectrum.squared
        return torch.stack([1 - self.diffusivity_u * k2, -1 - self.diffusivity_v * k2])

    def nonlinear(self, spectrum: Spectrum, batch: int) -> Nonlinear:
        """Saturation and coupling."""

        def term(values: torch.Tensor) -> torch.Tensor:
            u, v = values.unbind(1)
            return torch.stack([-(u**3) - v - self.k, u], dim=1)

        return Reaction(spectrum, term, lambda values: 3 * values[:, 0] ** 2 + 1)
