"""Reactions: the nonlinear part of equations that couple points by diffusion alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import torch

from pde_data.spectral import Nonlinear, Spectrum


@final
class Reaction(Nonlinear):
    """A polynomial of the fields at each point, cut to the modes that are kept.

    ``term`` takes values ``(batch, component, *sizes)`` to values of the same shape; ``size`` to a bound
    ``(batch, *sizes)`` of the eigenvalues of its Jacobian.
    """

    def __init__(
        self,
        spectrum: Spectrum,
        term: Callable[[torch.Tensor], torch.Tensor],
        size: Callable[[torch.Tensor], torch.Tensor],
    ):
        self.spectrum, self.term, self.size = spectrum, term, size
        self._mask = spectrum.mask.to(spectrum.device, spectrum.dtype)

    def __call__(self, modes: torch.Tensor, out: torch.Tensor) -> None:
        """See :class:`Nonlinear`."""
        self._values = self.spectrum.to_values(modes)
        torch.mul(self.spectrum.to_modes(self.term(self._values)), self._mask, out=out)

    def rate(self) -> torch.Tensor:
        """Largest value of ``size`` over space."""
        return self.size(self._values).flatten(1).amax(1)
