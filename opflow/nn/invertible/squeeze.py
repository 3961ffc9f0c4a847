"""Points into channels."""

from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from opflow.nn.convolution import channels_last
from opflow.nn.invertible.bijection import Bijection


class Squeeze(Bijection):
    """Turn each 2 x 2 block of points into channels: `(c, h, w)` to `(4 c, h / 2, w / 2)`.

    Example:
        >>> import torch
        >>> Squeeze()(torch.arange(4.0).view(1, 1, 2, 2))[0].flatten().tolist()
        [0.0, 1.0, 2.0, 3.0]
    """

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Fold blocks into channels; both sides must be even."""
        if x.shape[-2] % 2 or x.shape[-1] % 2:
            raise ValueError(f"only even sides can be squeezed, got {tuple(x.shape[-2:])}: pad or crop")
        if not len(x):  # torch leaves the shape of an empty batch as it is
            return x.view(0, 4 * x.shape[1], x.shape[2] // 2, x.shape[3] // 2), x.new_zeros(0)
        z = channels_last(pixel_unshuffle(x, 2))
        return z, x.new_zeros(len(x))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Unfold channels into blocks."""
        if not len(z):
            return z.view(0, z.shape[1] // 4, 2 * z.shape[2], 2 * z.shape[3]), z.new_zeros(0)
        x = channels_last(pixel_shuffle(z, 2))
        return x, z.new_zeros(len(z))
