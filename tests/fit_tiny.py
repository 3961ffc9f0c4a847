"""A program that trains a tiny model, for tests that start it in several processes.

python fit_tiny.py FOLDER '{"epochs": 4, ...}'
"""

import json
import sys

import torch
from torch import nn
from torch.utils.data import TensorDataset

from opflow.training import TrainConfig, fit


def model():
    torch.manual_seed(0)
    layers = [nn.Conv1d(1, 6, 3, padding=1, padding_mode="circular"), nn.GELU(), nn.Conv1d(6, 1, 1)]
    return nn.Sequential(*layers)


def data(seed, n=22):
    x = torch.randn(n, 1, 8, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, x.roll(1, 2) * 2 + 0.3)


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, options = sys.argv[1], json.loads(sys.argv[2])
    fit(model(), data(1), data(2, 7), config=TrainConfig(**options), folder=folder, resume=True)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
