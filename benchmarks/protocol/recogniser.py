"""A classifier trained apart, to say whether what a model drew is what it was asked for."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


def recogniser(fields: Tensor, labels: Tensor, seconds: float) -> Callable[[Tensor], Tensor]:
    """Train a small convolutional network for so many CPU seconds; returns its logits, a function of fields.

    Images are shifted at random by up to two points in training.
    """
    mean, std, classes = fields.mean(), fields.std(), int(labels.max()) + 1
    with torch.random.fork_rng([]):
        torch.manual_seed(7)
        net = nn.Sequential(
            nn.Conv2d(fields.shape[1], 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Dropout(0.3), nn.Linear(1024, classes),
        )  # fmt: skip
        optimizer = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-2)
        start = time.process_time()
        while (progress := (time.process_time() - start) / seconds) < 1:
            optimizer.param_groups[0]["lr"] = 2e-3 * (1 - progress)
            index = torch.randint(len(fields), (64,))
            shift = [int(s) for s in torch.randint(-2, 3, (2,))]
            loss = cross_entropy(net(((fields[index] - mean) / std).roll(shift, (2, 3))), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.eval()

    @torch.no_grad()
    def logits(x: Tensor) -> Tensor:
        return torch.cat([net((part - mean) / std) for part in x.split(256)])

    return logits
