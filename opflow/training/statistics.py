"""Fit the normaliser of a model to its training set."""

import torch
from torch import Tensor
from torch.utils.data import Dataset

from opflow.nn.normalize import Normalizer
from opflow.training.batches import Batches


class Moments:
    """Mean and standard deviation per channel, from a stream of batches, in float64.

    Batches are merged by the pairwise update of Chan, Golub and LeVeque (1983), which does not cancel.

    Example:
        >>> moments = Moments()
        >>> moments.add(torch.tensor([[[1.0, 2.0]]]))
        >>> moments.add(torch.tensor([[[6.0, 7.0]]]))
        >>> moments.mean.item(), round(moments.std.item() ** 2, 12)
        (4.0, 6.5)
    """

    def __init__(self):
        self.count = 0.0
        self.mean = self._squares = torch.zeros((), dtype=torch.float64)

    def add(self, fields: Tensor, weights: Tensor | None = None) -> None:
        """Take in `(batch, channel, *space)`, all values alike or by weights `(batch, *space)`.

        Complex fields count as their modulus with both signs: mean zero and the root mean square, because a
        real mean would single out a phase.
        """
        if fields.is_complex():
            fields = torch.cat((fields.abs(), -fields.abs()))
        values = fields.to(torch.float64).transpose(0, 1).flatten(1)
        if weights is None:
            count, mean = values.shape[1], values.mean(1)
            squares = (values - mean[:, None]).square().sum(1)
        else:
            share = weights.to(torch.float64).flatten()
            count = share.sum().item()
            mean = values @ share / count
            squares = (values - mean[:, None]).square() @ share
        shift, total = mean - self.mean, self.count + count
        self._squares = self._squares + squares + shift.square() * (self.count * count / total)
        self.mean = self.mean + shift * (count / total)
        self.count = total

    @property
    def std(self) -> Tensor:
        """Standard deviation, the mean square deviation under the root."""
        return (self._squares / self.count).sqrt()


def fit_normalizer(normalizer: Normalizer, dataset: Dataset, increment: bool) -> None:
    """Set the statistics of a normaliser in one pass over a data set of pairs `(x, y)`.

    The frames of a target with several of them count alike, points by their quadrature weights. With
    `increment` the output statistics are those of the change from frame to frame, starting from the last
    frame of the input.

    Raises:
        ValueError: the data hold values that are not finite, or `increment` is asked of a model whose input
            does not hold a frame of its output.
    """
    channels = len(normalizer.output_mean)
    inputs, outputs = Moments(), Moments()
    for batch in Batches(dataset, batch_size=64).epoch(0):
        for x, y, _, points in batch.pieces:
            weights = points[1] if points else None
            frames = y.unflatten(1, (-1, channels))
            if increment:
                if x.shape[1] < channels or x.shape[2:] != y.shape[2:]:
                    raise ValueError(
                        f"predict='increment' needs the last frame among the inputs, got an input of shape "
                        f"{tuple(x.shape)} for a model with {channels} output channels; use predict='field'"
                    )
                last = x[:, None, -channels:]
                frames = torch.diff(torch.cat((last, frames), 1), dim=1)
            inputs.add(x, weights)
            repeats = None if weights is None else weights.repeat_interleave(frames.shape[1], 0)
            outputs.add(frames.flatten(0, 1), repeats)
    normalizer.set(
        inputs.mean.tolist(), inputs.std.tolist(), outputs.mean.tolist(), outputs.std.tolist(), increment
    )
