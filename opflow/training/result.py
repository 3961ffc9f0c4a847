"""Where a run stands, and what it leaves."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn


@dataclass
class Progress:
    """Where a run stands: JSON values, saved with the weights."""

    epoch: int = 0  # finished epochs
    batch: int = 0  # finished batches of the next one
    step: int = 0
    seconds: float = 0.0
    learning_rate: float = 0.0
    loss_sum: float = 0.0  # over the samples of the epoch in hand
    samples: int = 0
    best: float = math.inf
    best_epoch: int = 0


@dataclass
class FitResult:
    """What `fit` returns.

    Attributes:
        model: the model that was trained, holding its best weights.
        history: the rows of `metrics.jsonl`, one per epoch.
        test: errors of the best weights on each test set, `{name: {"loss": ..., "l2": ...}}`.
        best_epoch: epoch of the best weights, counted from 1.
        folder: where the run was written, or None.
    """

    model: nn.Module
    history: list[dict[str, Any]]
    test: dict[str, dict[str, float]] = field(default_factory=dict)
    best_epoch: int = 0
    folder: Path | None = None
