"""The wave equation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
import torch

from pde_data.equations.fourier import mean, seminorm
from pde_data.equations.periodic import Periodic, require_dimensions
from pde_data.equations.vorticity import require_mean_zero
from pde_data.grids import Grid
from pde_data.random_fields import GaussianRandomField
from pde_data.spectral import Spectrum

_LAW = GaussianRandomField(tau=7.0, alpha=3.5)


@final
@dataclass(frozen=True)
class Wave(Periodic):
    r"""Waves of one speed on a periodic box of one to three dimensions.

    $$u_{tt} = c^2\Delta u$$

    Exact in time: $\hat u_t \pm i c|k|\hat u$ are eigenvectors. The initial law is
    ``GaussianRandomField(tau=7, alpha=3.5)`` at rest. 100 samples take half a CPU-second in two dimensions.

    >>> fields = Wave(dimensions=1, resolution=32, records=1).generate(seed=0, indices=[0])
    >>> fields["u"].shape, fields["u_t"].shape
    ((1, 2, 32), (1, 2, 32))
    """

    name: ClassVar[str] = "wave"
    degree: ClassVar[int] = 1
    formula: ClassVar[str] = "u_tt = speed^2*laplace(u)"

    dimensions: Literal[1, 2, 3] = 2
    """Number of space axes."""
    speed: float = 1.0
    """Speed of the waves."""

    def __post_init__(self) -> None:
        self.require(positive=("speed",))
        require_dimensions(self.dimensions)
        super().__post_init__()

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """The displacement and its rate of change."""
        return {
            "u": {"units": "1", "long_name": "displacement", "symmetry": "scalar"},
            "u_t": {"units": "1", "long_name": "rate of change of the displacement", "symmetry": "scalar"},
        }

    @property
    def initial_law(self) -> str:
        """A Gaussian random field at rest."""
        return f"u: {_LAW}; u_t: 0"

    def initial(self, seed: int, indices: Sequence[int], grid: Grid) -> dict[str, np.ndarray]:
        """See :meth:`Periodic.initial`."""
        u = _LAW.sample(seed, indices, grid)
        return {"u": u, "u_t": np.zeros_like(u)}

    def check_initial(self, fields: Mapping[str, torch.Tensor]) -> None:
        """The box as a whole must not move."""
        require_mean_zero("u_t", fields["u_t"])

    def linear(self, spectrum: Spectrum) -> torch.Tensor:
        r"""Eigenvalues $\pm i c|k|$."""
        frequency = self.speed * spectrum.squared.sqrt()
        return torch.stack([1j * frequency, -1j * frequency])

    def to_state(self, spectrum: Spectrum, fields: Mapping[str, torch.Tensor]) -> torch.Tensor:
        r"""The eigenvectors $\hat u_t \pm i c|k|\hat u$; for the mean, $\hat u$ twice."""
        u, v = (spectrum.project(fields[name]) for name in ("u", "u_t"))
        frequency = self._frequency(spectrum)
        return torch.stack([v + 1j * frequency * u, v - 1j * frequency * u], dim=1)

    def to_fields(self, spectrum: Spectrum, state: torch.Tensor) -> dict[str, torch.Tensor]:
        """See :meth:`Periodic.to_fields`."""
        forward, backward = state.unbind(1)
        frequency = self._frequency(spectrum)
        modes = torch.stack([(forward - backward) / (2j * frequency), (forward + backward) / 2], dim=1)
        u, v = spectrum.to_values(modes).unbind(1)
        return {"u": u, "u_t": v - v.mean(dim=tuple(range(1, v.ndim)), keepdim=True)}

    def _frequency(self, spectrum: Spectrum) -> torch.Tensor:
        # Any number but 0 lets the mean displacement, which rests, pass through the eigenvectors.
        k2 = spectrum.squared
        return (self.speed * torch.where(k2 > 0, k2, 1.0).sqrt()).to(spectrum.device, spectrum.dtype)

    def budgets(self, fields: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
        r"""The mean of $u$ and the energy, the mean of $(u_t^2 + c^2|\nabla u|^2)/2$."""
        kinetic = mean(fields["u_t"].astype(np.float64) ** 2, grid)
        return {
            "mean": mean(fields["u"], grid),
            "energy": (kinetic + self.speed**2 * seminorm(fields["u"], grid, 1)) / 2,
        }
