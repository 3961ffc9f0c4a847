"""The layer of FInC Flow: four causal convolutions side by side, one from each corner of the plane."""

from torch import Tensor

from opflow.kernels.causal_map import CausalMap
from opflow.nn.invertible.bijection import Bijection
from opflow.nn.invertible.causal_weight import ORIENTATIONS, CausalWeight
from opflow.nn.invertible.remembered import Remembered, weights_of


class FInCConv(Bijection):
    """Invertible k x k convolution of four groups of channels, padded at the four corners; volume is kept.

    Encoding convolves, decoding solves. The corner of each group is triangular with ones on the diagonal by
    its parametrisation: no optimiser, weight decay or averaging of weights can make it singular. Groups do
    not mix; a `PointwiseConv` after it does that. The log-determinant is zero.

    Args:
        channels: channels of the input, a multiple of 4.
        kernel_size: points of the kernel per axis, no more than the grid has.
        gain_bound: keep the inverse bounded in training, see `CausalWeight`; None leaves the weight free.

    Raises:
        ValueError: channels that are no multiple of 4, or an argument out of range.

    Source: Kallappa, Nagar and Varma, FInC Flow, 2023.

    Example:
        >>> import torch
        >>> conv, x = FInCConv(8), torch.randn(2, 8, 5, 3)
        >>> z, logdet = conv(x)
        >>> torch.allclose(conv.inverse(z)[0], x, atol=1e-5), logdet.tolist()
        (True, [0.0, 0.0])
    """

    def __init__(self, channels: int, kernel_size: int = 3, gain_bound: float | None = None):
        super().__init__()
        if channels < 4 or channels % 4:
            raise ValueError(
                f"FInCConv divides the channels into four equal groups, got channels={channels}: squeeze the "
                "image first, or use CInCConv"
            )
        self.weight = CausalWeight(channels, kernel_size, "unit", 4, gain_bound)
        self._kernel = Remembered()

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Convolve."""
        return self._map().forward(x), x.new_zeros(len(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Solve."""
        return self._map().inverse(z), z.new_zeros(len(z))

    def _map(self) -> CausalMap:
        return self._kernel(self._assemble, *weights_of(self))

    def _assemble(self) -> CausalMap:
        return CausalMap(self.weight(), reverse=ORIENTATIONS, groups=4)
