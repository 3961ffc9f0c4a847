"""Fit the normaliser of a model to its training set."""

import torch
from torch.utils.data import Dataset

from opflow.nn.moments import Moments
from opflow.nn.normalize import Normalizer
from opflow.training.batches import Batches


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
