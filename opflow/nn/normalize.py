"""Per-channel normalisation that is fitted once and saved with the model."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalizer(nn.Module):
    r"""Standardise inputs and return outputs to physical units.

    With per-channel buffers, `x -> (x - input_mean) / input_std` on the way in and
    `y -> y * output_std + output_mean (+ last input frame)` on the way out. The bracket is there when
    the model was fitted to predict *increments*, :math:`u(t + \Delta t) - u(t)`, which are smaller and
    better conditioned than the next field itself.

    An unfitted normaliser is the identity. The statistics are buffers: they move, save and load with
    the model, so a loaded model maps raw fields to raw fields.

    Args:
        in_channels: channels of the input field.
        out_channels: channels of the output field.

    Example:
        >>> import torch
        >>> normalizer = Normalizer(1, 1)
        >>> normalizer.set(input_mean=[2.0], input_std=[4.0], output_mean=[0.0], output_std=[10.0])
        >>> x = torch.full((1, 1, 3), 6.0)
        >>> normalizer.normalize(x).squeeze().tolist()
        [1.0, 1.0, 1.0]
        >>> normalizer.denormalize(normalizer.normalize(x), x).squeeze().tolist()
        [10.0, 10.0, 10.0]
    """

    input_mean: Tensor
    input_std: Tensor
    output_mean: Tensor
    output_std: Tensor
    increment: Tensor

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.register_buffer("input_mean", torch.zeros(in_channels))
        self.register_buffer("input_std", torch.ones(in_channels))
        self.register_buffer("output_mean", torch.zeros(out_channels))
        self.register_buffer("output_std", torch.ones(out_channels))
        self.register_buffer("increment", torch.zeros(()))

    @property
    def fitted(self) -> bool:
        """Whether any statistic differs from the identity."""
        identity = Normalizer(len(self.input_mean), len(self.output_mean)).state_dict()
        return any(not torch.equal(v.cpu().float(), identity[k]) for k, v in self.state_dict().items())

    def set(
        self,
        input_mean: Sequence[float],
        input_std: Sequence[float],
        output_mean: Sequence[float],
        output_std: Sequence[float],
        increment: bool = False,
    ) -> None:
        """Take the statistics, one number per channel; a standard deviation of zero counts as one.

        With `increment`, the output statistics describe `target - last input frame`, and the last
        `out_channels` input channels are that frame.

        Raises:
            ValueError: a list has the wrong length or holds a value that is not finite, or `increment`
                is asked of a model with more output than input channels.
        """
        if increment and len(self.output_mean) > len(self.input_mean):
            raise ValueError(
                f"cannot predict increments of {len(self.output_mean)} output channels from "
                f"{len(self.input_mean)} input channels: the last frame is not among the inputs"
            )
        given = {
            "input_mean": input_mean,
            "input_std": input_std,
            "output_mean": output_mean,
            "output_std": output_std,
        }
        for name, values in given.items():
            buffer = getattr(self, name)
            new = torch.as_tensor(values, dtype=torch.float64).flatten()
            if len(new) != len(buffer):
                raise ValueError(f"{name} needs one number per channel, {len(buffer)}, got {len(new)}")
            if not torch.isfinite(new).all():
                raise ValueError(f"{name} holds a value that is not finite: {new.tolist()}")
            if name.endswith("std"):
                new = torch.where(new > 0, new, torch.ones_like(new))
            buffer.copy_(new)
        self.increment.fill_(float(increment))

    def normalize(self, x: Tensor) -> Tensor:
        """Standardise a raw input `(batch, in_channels, *space)`."""
        shape = (-1,) + (1,) * (x.ndim - 2)
        return (x - self.input_mean.view(shape)) / self.input_std.view(shape)

    def denormalize(self, y: Tensor, last_frame: Tensor) -> Tensor:
        """Return a network output `(batch, out_channels, *space)` to physical units.

        `last_frame` are the last raw input channels on the grid of `y`, used by increment models.
        """
        shape = (-1,) + (1,) * (y.ndim - 2)
        y = y * self.output_std.view(shape) + self.output_mean.view(shape)
        return y + self.increment * last_frame
