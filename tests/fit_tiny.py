"""A program that trains a tiny model, for tests that start, kill and distribute it.

python fit_tiny.py FOLDER '{"epochs": 4, ...}' [SECONDS_PER_STEP]
"""

import json
import sys
import time

import torch
from torch import nn
from torch.utils.data import TensorDataset

from opflow.training import TrainConfig, fit

pause = 0.0


class Slow(TensorDataset):
    """Pairs that take a while to read, so that there is time to be killed in."""

    def gather(self, indices):
        time.sleep(pause)
        return self[torch.as_tensor(indices)]


def model():
    torch.manual_seed(0)
    layers = [nn.Conv1d(1, 6, 3, padding=1, padding_mode="circular"), nn.GELU(), nn.Conv1d(6, 1, 1)]
    return nn.Sequential(*layers)


def data(seed, n=22):
    x = torch.randn(n, 1, 8, generator=torch.Generator().manual_seed(seed))
    return Slow(x, x.roll(1, 2) * 2 + 0.3)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, options = sys.argv[1], json.loads(sys.argv[2])
    pause = float(sys.argv[3]) if len(sys.argv) > 3 else pause
    print("ready", flush=True)
    fit(model(), data(1), data(2, 7), config=TrainConfig(**options), folder=folder, resume=True)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
