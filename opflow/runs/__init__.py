"""Named runs: configurations as data, and what can be done with them."""

from typing import TYPE_CHECKING

from pde_data.lazy import attach

if TYPE_CHECKING:
    from opflow.runs.actions import certify, compare, evaluate_run, export, save_evaluation, train
    from opflow.runs.config import RunConfig
    from opflow.runs.evaluation import Evaluation, evaluate
    from opflow.runs.images import ImageSet, open_images
    from opflow.runs.named import RUNS
    from opflow.runs.prediction import predict
    from opflow.runs.sampling import Sampled, sample

_HOMES = {
    "RUNS": "opflow.runs.named",
    "Evaluation": "opflow.runs.evaluation",
    "ImageSet": "opflow.runs.images",
    "RunConfig": "opflow.runs.config",
    "Sampled": "opflow.runs.sampling",
    "certify": "opflow.runs.actions",
    "compare": "opflow.runs.actions",
    "evaluate": "opflow.runs.evaluation",
    "evaluate_run": "opflow.runs.actions",
    "export": "opflow.runs.actions",
    "open_images": "opflow.runs.images",
    "predict": "opflow.runs.prediction",
    "sample": "opflow.runs.sampling",
    "save_evaluation": "opflow.runs.actions",
    "train": "opflow.runs.actions",
}

__all__ = [
    "RUNS",
    "Evaluation",
    "ImageSet",
    "RunConfig",
    "Sampled",
    "certify",
    "compare",
    "evaluate",
    "evaluate_run",
    "export",
    "open_images",
    "predict",
    "sample",
    "save_evaluation",
    "train",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
