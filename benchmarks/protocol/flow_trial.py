"""One training of a flow of images within a budget of CPU seconds."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from opflow.runs.images import DIGITS, open_images
from opflow.training.optim import EMA
from protocol.flow_models import build
from protocol.matching import count_parameters
from protocol.pairs import real_data


@dataclass(frozen=True)
class Task:
    """Images, how they are divided, and the size of the flows.

    `train` images are the first, of which the last `held_out` select the weights; the rest are for testing.
    Kernels of convolutions shrink by `decay` times the learning rate at each step.
    """

    name: str
    bins: int
    train: int
    held_out: int
    levels: int
    steps: int
    width: int
    batch: int
    learning_rate: float
    decay: float

    def images(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return training, held-out and test images, integers `(n, 1, row, column)`."""
        source = DIGITS if self.name == "digits" else real_data("t10k-images-idx3-ubyte.gz")
        x = open_images(source).tensors[1].long()
        cut = self.train - self.held_out
        return x[:cut], x[cut : self.train], x[self.train :]


TASKS = {
    task.name: task
    for task in (
        Task("digits", 17, 1500, 150, levels=2, steps=8, width=64, batch=128, learning_rate=2e-3, decay=0.5),
        Task("mnist", 256, 8000, 500, levels=2, steps=8, width=64, batch=64, learning_rate=2e-3, decay=0.5),
    )
}


def run(task: Task, model: str, width: int, seed: int, seconds: float) -> dict[str, float]:
    """Train for a budget of CPU seconds, select by held-out bits, test the weights selected.

    Adamax, warmed up over 3 % of the budget and cooled down along a cosine; gradients clipped, kernels of
    convolutions decayed apart from the gradient; the weights that are judged are their moving average. A
    model whose name ends in "-plain" goes without all of this: Adamax at one rate, as normflows' examples.
    Judging and testing count towards the budget no more than building does.

    Returns:
        Bits per dimension, held out and test with its spread over draws of the noise, and what it took.
    """
    torch.manual_seed(seed)
    train, held_out, test = task.images()
    shape, plain = (1, *train.shape[2:]), model.endswith("-plain")
    flow = build(model.removesuffix("-plain"), shape, task.levels, task.steps, width, task.bins)
    flow.train().bits_per_dim(train[torch.randperm(len(train))[:256]])  # sets every ActNorm
    parameters = [p for p in flow.parameters() if p.requires_grad]
    kernels = [p for p in parameters if p.ndim == 4]
    optimizer = torch.optim.Adamax(parameters, task.learning_rate)
    ema = None if plain else EMA(parameters, 0.998)
    spent, step, looks, best, kept = 0.0, 0, 0, math.inf, [p.detach().clone() for p in parameters]
    while spent < seconds:
        start = time.process_time()
        done = spent / seconds
        share = min(done / 0.03, 0.5 + 0.5 * math.cos(math.pi * max(0.0, done - 0.03) / 0.97))
        for group in optimizer.param_groups:
            group["lr"] = task.learning_rate * (1.0 if plain else max(share, 1e-3))
        batch = train[torch.randint(len(train), (task.batch,))]
        optimizer.zero_grad(set_to_none=True)
        flow.bits_per_dim(batch).mean().backward()
        if ema is None:
            optimizer.step()
        else:
            torch.nn.utils.clip_grad_norm_(parameters, 50.0)
            optimizer.step()
            with torch.no_grad():
                torch._foreach_mul_(kernels, 1 - group["lr"] * task.decay)
            ema.update(step)
        step += 1
        spent += time.process_time() - start
        if spent >= seconds * (looks + 1) / 30:
            looks = int(30 * spent / seconds)
            with ema.applied() if ema else contextlib.nullcontext():
                found = _bits(flow, held_out, draws=4)
                if found < best:
                    best, kept = found, [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for p, value in zip(parameters, kept):
            p.copy_(value)
    draws = [_bits(flow, test, draws=1, seed=s) for s in range(10)]
    return {
        "valid": best,
        "test": sum(draws) / len(draws),
        "test_draw_deviation": float(torch.tensor(draws).std()),
        "train_sample": _bits(flow, train[: len(test)], draws=1),
        "steps": step,
        "parameters": count_parameters(flow),
    }


@torch.no_grad()
def _bits(flow, images: Tensor, draws: int, seed: int = 0) -> float:
    """Return mean bits per dimension with noise that is the same at each call; torch's own state stays."""
    state, was_training = torch.get_rng_state(), flow.training
    torch.manual_seed(seed)
    flow.eval()
    total = sum(float(flow.bits_per_dim(part, draws=draws).sum()) for part in images.split(500))
    flow.train(was_training)
    torch.set_rng_state(state)
    return total / len(images)
