"""The heat equation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
import torch

from pde_data.equations.fourier import mean
from pde_data.equations.periodic import Periodic, require_dimensions
from pde_data.grids import Grid
from pde_data.random_fields import GaussianRandomField
from pde_data.spectral import Spectrum

_LAW = GaussianRandomField(tau=7.0, alpha=2.5)


@final
@dataclass(frozen=True)
class Heat(Periodic):
    r"""Diffusion on a periodic box of one to three dimensions.

    $$u_t = \kappa\Delta u$$

    Exact in time for every Fourier mode. The initial law is ``GaussianRandomField(tau=7, alpha=2.5)``. 100
    samples take less than half a CPU-second in two dimensions.

    >>> Heat(dimensions=3, resolution=8, records=1).generate(seed=0, indices=[0])["u"].shape
    (1, 2, 8, 8, 8)
    """

    name: ClassVar[str] = "heat"
    degree: ClassVar[int] = 1
    formula: ClassVar[str] = "u_t = diffusivity*laplace(u)"

    dimensions: Literal[1, 2, 3] = 2
    """Number of space axes."""
    diffusivity: float = 1e-2
    """Thermal diffusivity."""

    def __post_init__(self) -> None:
        self.require(not_negative=("diffusivity",))
        require_dimensions(self.dimensions)
        super().__post_init__()

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """The temperature."""
        return {"u": {"units": "1", "long_name": "temperature", "symmetry": "scalar"}}

    @property
    def initial_law(self) -> str:
        """A Gaussian random field."""
        return str(_LAW)

    def initial(self, seed: int, indices: Sequence[int], grid: Grid) -> dict[str, np.ndarray]:
        """See :meth:`Periodic.initial`."""
        return {"u": _LAW.sample(seed, indices, grid)}

    def linear(self, spectrum: Spectrum) -> torch.Tensor:
        """Decay of each mode."""
        return -self.diffusivity * spectrum.squared[None]

    def budgets(self, fields: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
        """The mean temperature."""
        return {"mean": mean(fields["u"], grid)}
