"""The Allen-Cahn equation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
import torch

from pde_data.equations.periodic import Periodic, require_dimensions
from pde_data.equations.reaction import Reaction
from pde_data.grids import Grid
from pde_data.random_fields import GaussianRandomField
from pde_data.spectral import Nonlinear, Spectrum

_LAW = GaussianRandomField(tau=7.0, alpha=2.5)


@final
@dataclass(frozen=True)
class AllenCahn(Periodic):
    r"""Two phases that separate, on a periodic box of one to three dimensions.

    $$u_t = \epsilon^2\Delta u + u - u^3$$

    From ``GaussianRandomField(tau=7, alpha=2.5)``, phases form by time 5, and their interfaces, about
    $3\epsilon$ wide, move by curvature. The free energy, the mean of
    $\epsilon^2|\nabla u|^2/2 + (1-u^2)^2/4$, falls. A spacing of $\epsilon/4$ resolves the interfaces to
    1e-5 of their size. 100 samples take about 5 CPU-seconds.

    >>> AllenCahn(resolution=32, t_end=1, records=1).generate(seed=0, indices=[0])["u"].shape
    (1, 2, 32, 32)
    """

    name: ClassVar[str] = "allen_cahn"
    degree: ClassVar[int] = 3
    formula: ClassVar[str] = "u_t = epsilon^2*laplace(u) + u - u^3"

    resolution: int = 128
    """Points per axis of the stored frames."""
    t_end: float = 10.0
    """Time of the last frame."""
    dimensions: Literal[1, 2, 3] = 2
    """Number of space axes."""
    epsilon: float = 0.03
    """Width of the interfaces."""

    def __post_init__(self) -> None:
        self.require(not_negative=("epsilon",))
        require_dimensions(self.dimensions)
        super().__post_init__()

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """The phase, between -1 and 1."""
        return {"u": {"units": "1", "long_name": "phase", "symmetry": "scalar"}}

    @property
    def initial_law(self) -> str:
        """A Gaussian random field."""
        return str(_LAW)

    def initial(self, seed: int, indices: Sequence[int], grid: Grid) -> dict[str, np.ndarray]:
        """See :meth:`Periodic.initial`."""
        return {"u": _LAW.sample(seed, indices, grid)}

    def linear(self, spectrum: Spectrum) -> torch.Tensor:
        """Diffusion, and growth away from zero."""
        return 1 - self.epsilon**2 * spectrum.squared[None]

    def nonlinear(self, spectrum: Spectrum, batch: int) -> Nonlinear:
        """Saturation."""
        return Reaction(spectrum, lambda u: -(u**3), lambda u: 3 * u[:, 0] ** 2)
