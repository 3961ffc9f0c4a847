"""Named runs: configurations as data, and what can be done with them."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opflow.runs.actions import compare, evaluate_run, export, save_evaluation, train
    from opflow.runs.config import RUNS, RunConfig
    from opflow.runs.evaluation import Evaluation, evaluate
    from opflow.runs.prediction import predict

_HOMES = {
    "RUNS": "config",
    "Evaluation": "evaluation",
    "RunConfig": "config",
    "compare": "actions",
    "evaluate": "evaluation",
    "evaluate_run": "actions",
    "export": "actions",
    "predict": "prediction",
    "save_evaluation": "actions",
    "train": "actions",
}

__all__ = [
    "RUNS",
    "Evaluation",
    "RunConfig",
    "compare",
    "evaluate",
    "evaluate_run",
    "export",
    "predict",
    "save_evaluation",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'opflow.runs' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"opflow.runs.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
