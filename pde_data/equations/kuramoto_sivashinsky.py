"""The Kuramoto-Sivashinsky equation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch

from pde_data.equations.burgers import Steepening
from pde_data.equations.fourier import mean
from pde_data.equations.periodic import Periodic
from pde_data.grids import Grid
from pde_data.random_fields import GaussianRandomField
from pde_data.spectral import Nonlinear, Spectrum

_LAW = GaussianRandomField(tau=0.5, alpha=5.0)


@final
@dataclass(frozen=True)
class KuramotoSivashinsky(Periodic):
    r"""Chaos in one dimension, as of a flame front, on a periodic interval.

    $$u_t + u u_x + u_{xx} + u_{xxxx} = 0$$

    From ``GaussianRandomField(tau=0.5, alpha=5)``, waves of length near $2\sqrt2\pi$ grow and saturate by
    time 50; frames begin after ``burn_in``. Two points per unit of length resolve waves to 1e-4 of their
    size, the default of three to 1e-6. Neighbouring solutions part by $e$ in a time of about 12, and so does
    a temporal error of 1e-6. 100 samples take about 30 CPU-seconds.

    >>> equation = KuramotoSivashinsky(resolution=48, length=22, burn_in=5, t_end=1, records=1)
    >>> equation.generate(seed=0, indices=[0])["u"].shape
    (1, 2, 48)
    """

    name: ClassVar[str] = "kuramoto_sivashinsky"
    formula: ClassVar[str] = "u_t + u*u_x + u_xx + u_xxxx = 0"

    resolution: int = 192
    """Points of the stored frames."""
    length: float = 64.0
    """Length of the interval."""
    t_end: float = 100.0
    """Time of the last frame, from the end of the burn-in."""
    records: int = 100
    """Number of frames after the first one."""
    burn_in: float = 100.0
    """Time before the first frame."""

    def __post_init__(self) -> None:
        self.require(not_negative=("burn_in",))
        super().__post_init__()

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """The slope of the front."""
        return {"u": {"units": "1", "long_name": "slope of the front", "symmetry": "vector x"}}

    @property
    def initial_law(self) -> str:
        """A Gaussian random field, forgotten at the first frame."""
        return f"{_LAW}, then time {self.burn_in} of the flow"

    def initial(self, seed: int, indices: Sequence[int], grid: Grid) -> dict[str, np.ndarray]:
        """See :meth:`Periodic.initial`; at the start of the burn-in."""
        return {"u": _LAW.sample(seed, indices, grid)}

    def linear(self, spectrum: Spectrum) -> torch.Tensor:
        """Growth of long waves, decay of short ones."""
        k2 = spectrum.squared[None]
        return k2 - k2**2

    def nonlinear(self, spectrum: Spectrum, batch: int) -> Nonlinear:
        """Steepening."""
        return Steepening(spectrum)

    def budgets(self, fields: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
        """The mean slope."""
        return {"mean": mean(fields["u"], grid)}
