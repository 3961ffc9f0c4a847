"""Training: `fit`, its configuration, losses and schedules."""

from opflow.training.config import TrainConfig
from opflow.training.loop import FitResult, fit
from opflow.training.losses import LOSSES, RelativeH1, RelativeL2
from opflow.training.optim import OPTIMIZERS, SCHEDULES

__all__ = [
    "LOSSES",
    "OPTIMIZERS",
    "SCHEDULES",
    "FitResult",
    "RelativeH1",
    "RelativeL2",
    "TrainConfig",
    "fit",
]
