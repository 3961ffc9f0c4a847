"""One training of one model on one task, within its budget."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import nn

import opflow
from opflow.training import loop
from protocol.matching import count_parameters
from protocol.models import MODELS
from protocol.scores import scores
from protocol.tasks import Setup, Task
from protocol.views import View, data_file


@dataclasses.dataclass(frozen=True)
class Trial:
    """What identifies a training: the same fields give the same row of results."""

    scale: str
    task: str
    stage: str
    """"pilot", of which only the validation error counts, or "final"."""
    model: str
    width: int
    seed: int
    rate: float
    budget: float

    @property
    def folder(self) -> str:
        """Name of the folder that holds the state of an unfinished training."""
        return "-".join(
            str(v)
            for v in (self.scale, self.task, self.stage, self.model, self.width, self.seed, f"{self.rate:g}")
        )


def run(trial: Trial, task: Task, setup: Setup, folder: Path) -> dict[str, Any]:
    """Train a model and return what is recorded of it: parameters, steps, errors.

    The data must be there. A training that was killed goes on where it stood. Weights of the best validation
    error are tested; test data are read only in the final stage.
    """
    # One thread: two trainings side by side use two cores better than one after the other.
    gpu = torch.accelerator.is_available()
    if not gpu:
        torch.set_num_threads(1)
    row = MODELS[trial.model]
    view = row.view(task, setup, data_file(task, setup, trial.scale, folder))
    torch.manual_seed(trial.seed)
    model = row.build(view, trial.width)
    config = dataclasses.replace(
        task.train, learning_rate=trial.rate, budget_seconds=trial.budget, seed=trial.seed, **row.train
    )
    work = folder / "unfinished" / trial.folder
    train, valid = view.parts["train"], view.parts["valid"]
    _warm_up(model, view, config)
    record: dict[str, Any] = {"parameters": count_parameters(model), "clock": "wall" if gpu else "CPU"}
    try:
        with contextlib.nullcontext() if gpu else _cpu_clock():
            history = opflow.fit(model, train, valid, config=config, folder=work, resume=True).history
        record |= {"steps": history[-1]["step"], "valid": min(row["valid_l2"] for row in history)}
    except FloatingPointError:
        if trial.stage == "final":
            raise
        record |= {"steps": 0, "valid": math.inf}  # a learning rate that nobody will choose
    if trial.stage == "final":
        record |= scores(model, view)
    shutil.rmtree(work, ignore_errors=True)
    return record


@contextlib.contextmanager
def _cpu_clock() -> Iterator[None]:
    """Let the loop count CPU time: wall time on a CPU is also that of the neighbours."""
    with mock.patch.object(loop, "time", SimpleNamespace(perf_counter=time.process_time)):
        yield


def _warm_up(model: nn.Module, view: View, config: opflow.TrainConfig) -> None:
    """Compile kernels and read the data before the clock starts."""
    once = dataclasses.replace(config, budget_seconds=1e-9)
    opflow.fit(copy.deepcopy(model), view.parts["train"], config=once)
