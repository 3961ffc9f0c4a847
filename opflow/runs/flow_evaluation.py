"""What a flow has learnt: its likelihood of unseen data, round trips, and statistics of its samples."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from opflow.flows import Flow
from opflow.training.batches import Batches

if TYPE_CHECKING:
    from opflow.runs.evaluation import Evaluation

SHOWN, COUNTED = 64, 256  # samples in pictures and in statistics


@torch.no_grad()
def evaluate_flow(flow: Flow, dataset: Dataset, *, batch_size: int = 128) -> "Evaluation":
    """Measure a flow on a data set of pairs of condition and sample.

    Args:
        flow: evaluated where its parameters are.
        dataset: the pairs.
        batch_size: samples at a time.

    Returns:
        Under "errors" the loss of `flow.loss_name`; under "round_trip" the largest differences of fresh noise
        after decoding and encoding, and of what it was decoded to after encoding and decoding; on periodic
        grids the "spectrum" of data and samples. The arrays are `data` and `samples`.
    """
    from opflow.runs.evaluation import Evaluation, spectra, summary

    like, was_training = next(flow.parameters()), flow.training
    flow.eval()
    losses, given, fields = [], [], []
    with torch.random.fork_rng([like.device] if like.is_cuda else []):
        torch.manual_seed(0)  # of the dequantisation
        for batch in Batches(dataset, batch_size).epoch(0):
            for piece in batch.pieces:
                x, y = piece.x.to(like), piece.y.to(like)
                losses.append(flow.losses(x, y).double().cpu())
                given.append(x)
                fields.append(y)
        x, y = torch.cat(given)[:COUNTED], torch.cat(fields)[:COUNTED]
        cond = flow.condition_of(x)
        noise = torch.randn(len(y), math.prod(flow.shape)).to(like)
        samples = flow.sample(len(y), cond=cond)
        decoded = flow.decode(noise, cond)
        again = flow.encode(decoded, cond)
        trips = {"noise": again - noise, "data": flow.decode(again, cond) - decoded}
    flow.train(was_training)
    numbers: dict[str, Any] = {
        "pairs": sum(map(len, losses)),
        "errors": {flow.loss_name: summary(losses)},
        "round_trip": {name: trip.abs().max().item() for name, trip in trips.items()},
    }
    numbers |= spectra(getattr(dataset, "grid", None), y, samples)
    return Evaluation(numbers, {"data": _array(y), "samples": _array(samples)})


def _array(values: Tensor) -> np.ndarray:
    return values[:SHOWN].float().cpu().numpy()
