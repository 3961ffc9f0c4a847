"""What a layer makes of its condition: a class, a vector or a field."""

from torch import Tensor, nn

from opflow.nn.convolution import Convolution

Condition = int | tuple[int, ...] | None
"""A number of classes, `(d,)` for vectors, `(c, h, w)` for fields on the grid of the layer, or nothing."""


class Conditioner(nn.Module):
    """Map a condition to channels that can be added to a field.

    Args:
        condition: number of classes, or the shape of one vector or field.
        channels: channels of the result.
        circular: continue fields periodically.

    Shapes:
        Labels `(batch,)` of integers, vectors `(batch, d)` or fields `(batch, c, h, w)`; returns
        `(batch, channels, 1, 1)`, for fields `(batch, channels, h, w)`.

    Example:
        >>> import torch
        >>> Conditioner(10, 4)(torch.tensor([3, 7])).shape
        torch.Size([2, 4, 1, 1])
        >>> Conditioner((2, 6, 5), 4)(torch.randn(3, 2, 6, 5)).shape
        torch.Size([3, 4, 6, 5])
    """

    def __init__(self, condition: int | tuple[int, ...], channels: int, circular: bool = False):
        super().__init__()
        self.encode: nn.Module
        if isinstance(condition, int):
            self.encode = nn.Embedding(condition, channels)
            self.encode.weight.data.mul_(0.1)
        elif len(condition) == 1:
            self.encode = nn.Linear(condition[0], channels)
        else:
            self.encode = Convolution(condition[0], channels, n_dim=2, circular=circular)

    def forward(self, cond: Tensor) -> Tensor:
        """Return the channels to be added."""
        encoded = self.encode(cond)
        return encoded if encoded.ndim == 4 else encoded[..., None, None]


def squeezed(condition: Condition) -> Condition:
    """Return what a condition is after the field has been squeezed.

    Example:
        >>> squeezed((2, 8, 6)), squeezed(10)
        ((8, 4, 3), 10)
    """
    if isinstance(condition, tuple) and len(condition) == 3:
        c, h, w = condition
        return (4 * c, h // 2, w // 2)
    return condition
