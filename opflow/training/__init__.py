"""Training: `fit`, its configuration, losses and schedules."""

from typing import TYPE_CHECKING

from pde_data.lazy import attach

if TYPE_CHECKING:
    from opflow.training.config import TrainConfig
    from opflow.training.loop import fit
    from opflow.training.losses import LOSSES, RelativeH1, RelativeL2
    from opflow.training.optim import OPTIMIZERS, SCHEDULES
    from opflow.training.result import FitResult

_HOMES = {
    "LOSSES": "opflow.training.losses",
    "OPTIMIZERS": "opflow.training.optim",
    "SCHEDULES": "opflow.training.optim",
    "FitResult": "opflow.training.result",
    "RelativeH1": "opflow.training.losses",
    "RelativeL2": "opflow.training.losses",
    "TrainConfig": "opflow.training.config",
    "fit": "opflow.training.loop",
}

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

__getattr__, __dir__ = attach(__name__, _HOMES)
