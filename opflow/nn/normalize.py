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
        input_turns: matrices by which the elements of a group turn the input channels, `(element, in, in)`,
            signed permutations, for a model that commutes with the group. The statistics kept are then those
            of the data together with all their turned copies, so that the model with them still does: the
            components of a vector, for instance, have mean zero and one scale.
        output_turns: likewise for the output, `(element, out, out)`.

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

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        input_turns: Tensor | None = None,
        output_turns: Tensor | None = None,
    ):
        super().__init__()
        self._turns = {"input": input_turns, "output": output_turns}
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
        if increment:
            self._check_last_frame()
        given = {
            "input_mean": input_mean,
            "input_std": input_std,
            "output_mean": output_mean,
            "output_std": output_std,
        }
        new_values: dict[str, Tensor] = {}
        for name, values in given.items():
            buffer = getattr(self, name)
            new = torch.as_tensor(values, dtype=torch.float64).flatten()
            if len(new) != len(buffer):
                raise ValueError(f"{name} needs one number per channel, {len(buffer)}, got {len(new)}")
            if not torch.isfinite(new).all():
                raise ValueError(f"{name} holds a value that is not finite: {new.tolist()}")
            new_values[name] = new
        for side, turns in self._turns.items():
            if turns is not None:
                mean, std = new_values[f"{side}_mean"], new_values[f"{side}_std"]
                new_values[f"{side}_mean"], new_values[f"{side}_std"] = _over_turns(mean, std, turns)
        for name, new in new_values.items():
            if name.endswith("std"):
                new = torch.where(new > 0, new, torch.ones_like(new))
            getattr(self, name).copy_(new)
        self.increment.fill_(float(increment))

    def _check_last_frame(self) -> None:
        inputs, outputs = self._turns["input"], self._turns["output"]
        if inputs is None or outputs is None:
            return
        frame = outputs.shape[-1]
        others = inputs.shape[-1] - frame
        if (inputs[:, others:, :others] != 0).any() or (inputs[:, others:, others:] != outputs).any():
            raise ValueError(
                "cannot predict increments: the last input channels are the frame that the output is added "
                "to, and turn in another way than the output; give them the same kinds"
            )

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


def _over_turns(mean: Tensor, std: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of data together with their turned copies."""
    turns = turns.to(mean)
    weights, centre = turns.square().mean(0), turns.mean(0) @ mean
    spread = (weights @ mean.square() - centre.square()).clamp(min=0)  # exactly zero for what never turns
    return centre, (weights @ std.square() + spread).sqrt()
