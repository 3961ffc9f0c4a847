"""What the layers of one causal convolution share, whichever way they encode."""

import abc

from torch import Tensor

from opflow.kernels.causal_map import CausalMap
from opflow.nn.invertible.actnorm import ActNorm
from opflow.nn.invertible.bijection import Bijection
from opflow.nn.invertible.causal_weight import ORIENTATIONS, CausalWeight, Reverse
from opflow.nn.invertible.remembered import Remembered, weights_of


class CausalLayer(Bijection):
    """A causal k x k convolution over all channels and an `ActNorm`, as one map; see its subclasses."""

    def __init__(
        self,
        channels: int,
        kernel_size: int = 3,
        corner: str = "plu",
        reverse: Reverse = ORIENTATIONS[0],
        gain_bound: float | None = None,
        actnorm: bool = False,
    ):
        super().__init__()
        self.weight = CausalWeight(channels, kernel_size, corner, gain_bound=gain_bound)
        self.reverse = reverse
        self.norm = ActNorm(channels) if actnorm else None
        self._kernel = Remembered()

    def _map(self) -> tuple[CausalMap, Tensor]:
        """Return what `_assemble` returns, or returned for the same weights."""
        return self._kernel(self._assemble, *weights_of(self))

    @abc.abstractmethod
    def _assemble(self) -> tuple[CausalMap, Tensor]:
        """Return the convolution with the norm in it, and its log-determinant per point."""
