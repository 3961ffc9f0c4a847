"""The Gray-Scott reaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch

from pde_data.equations.periodic import Periodic
from pde_data.equations.reaction import Reaction
from pde_data.grids import Grid
from pde_data.random_fields import generator
from pde_data.spectral import Nonlinear, Spectrum

_SPOTS, _RADIUS = 12, 0.04  # radius in units of the side


@final
@dataclass(frozen=True)
class GrayScott(Periodic):
    r"""Spots that divide and stripes that wander: two reactants on a periodic square.

    $$a_t = D_a\Delta a - ab^2 + F(1-a), \qquad b_t = D_b\Delta b + ab^2 - (F+k)b$$

    The diffusivities are those of Pearson (Science 261, 1993); with the default rates, stripes grow from a
    few spots of $b$ and fill the box by time 2000. Edges are about $\sqrt{D_b/(F+k)}$ wide, and the spacing
    should be at most six tenths of that; the default leaves 1e-3 in the ``spectrum_tail``. 100 samples take
    about 3 CPU-minutes.

    >>> fields = GrayScott(resolution=32, t_end=10, records=1).generate(seed=0, indices=[0])
    >>> fields["a"].shape, fields["b"].shape
    ((1, 2, 32, 32), (1, 2, 32, 32))
    """

    name: ClassVar[str] = "gray_scott"
    dimensions: ClassVar[int] = 2
    degree: ClassVar[int] = 3
    tolerance: ClassVar[float] = 5e-6
    formula: ClassVar[str] = (
        "a_t = diffusivity_a*laplace(a) - a*b^2 + feed*(1-a), "
        "b_t = diffusivity_b*laplace(b) + a*b^2 - (feed+kill)*b"
    )

    resolution: int = 128
    """Points per axis of the stored frames."""
    length: float = 0.75
    """Side of the box."""
    t_end: float = 2000.0
    """Time of the last frame."""
    records: int = 50
    """Number of frames after the initial one."""
    diffusivity_a: float = 2e-5
    """Diffusivity of a."""
    diffusivity_b: float = 1e-5
    """Diffusivity of b."""
    feed: float = 0.04
    """Rate F at which a is fed and b washed out."""
    kill: float = 0.06
    """Rate k at which b decays."""

    def __post_init__(self) -> None:
        self.require(not_negative=("diffusivity_a", "diffusivity_b", "feed", "kill"))
        super().__post_init__()

    @property
    def variables(self) -> dict[str, dict[str, str]]:
        """Both concentrations."""
        return {
            name: {"units": "1", "long_name": f"concentration of {name}", "symmetry": "scalar"}
            for name in ("a", "b")
        }

    @property
    def initial_law(self) -> str:
        """Spots of b in a."""
        return (
            f"a = 1 - s/2, b = s/4, s = 1 - exp(-g) with g the sum of {_SPOTS} Gaussians of standard "
            f"deviation {_RADIUS}*length, uniformly placed"
        )

    def initial(self, seed: int, indices: Sequence[int], grid: Grid) -> dict[str, np.ndarray]:
        """See :meth:`Periodic.initial`."""
        centres = np.stack([generator(seed, i).uniform(size=(_SPOTS, grid.ndim)) for i in indices])
        spots = np.ones((len(indices), _SPOTS, *(1,) * grid.ndim))
        for axis, (x, length) in enumerate(zip(grid.coordinates, grid.lengths)):
            distance = x / length - centres[..., axis, None]
            # The images of a spot that matter to double precision.
            images = distance[..., None] - np.arange(-1, 3)
            profile = np.exp(-0.5 * (images / _RADIUS) ** 2).sum(-1)
            shape = [*profile.shape[:2], *(1,) * grid.ndim]
            shape[2 + axis] = x.size
            spots = spots * profile.reshape(shape)
        s = -np.expm1(-spots.sum(1))
        return {"a": 1 - s / 2, "b": s / 4}

    def linear(self, spectrum: Spectrum) -> torch.Tensor:
        """Diffusion and decay of both."""
        k2 = spectrum.squared
        return torch.stack(
            [-self.diffusivity_a * k2 - self.feed, -self.diffusivity_b * k2 - (self.feed + self.kill)]
        )

    def nonlinear(self, spectrum: Spectrum, batch: int) -> Nonlinear:
        """Reaction and feed."""

        def term(values: torch.Tensor) -> torch.Tensor:
            a, b = values.unbind(1)
            reaction = a * b**2
            return torch.stack([self.feed - reaction, reaction], dim=1)

        return Reaction(spectrum, term, lambda x: x[:, 1] ** 2 + 2 * (x[:, 0] * x[:, 1]).abs())
