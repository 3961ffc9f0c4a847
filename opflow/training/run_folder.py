"""The files of a run: configuration, environment, metrics, best weights, state to resume from."""

import json
import math
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from opflow.nn.generative import Generative
from opflow.operators.base import BaseOperator
from opflow.save import read_tensors, remove_unfinished, write_atomically, write_json, write_tensors
from opflow.training.checkpoint import refuse_pickles
from opflow.training.config import TrainConfig

# What may differ when a run is resumed: none of it alters a step, but for the length of the run, which
# stretches the schedule.
MAY_CHANGE = (
    "epochs",
    "budget_seconds",
    "patience",
    "rollout_steps",
    "workers",
    "save_seconds",
    "tracker",
)


class RunFolder:
    """A folder with `config.json`, `env.json`, `metrics.jsonl`, `model.safetensors` and `last/`.

    Raises:
        ValueError: the folder holds a run already and `resume` is off, or it holds pickles.
    """

    def __init__(self, path: str | Path, resume: bool):
        self.path = Path(path)
        self.state_path = self.path / "last" / "state.safetensors"
        if self.path.exists():
            refuse_pickles(self.path)
        if self.state_path.exists() and not resume:
            raise ValueError(
                f"{self.path} holds a run already; pass resume=True to go on with it, or choose another "
                "folder"
            )

    def create(self, model: nn.Module, config: TrainConfig, device: torch.device, processes: int) -> None:
        """Make the folder, or clear away what a killed run left unfinished; write down what is trained."""
        self.state_path.parent.mkdir(parents=True, exist_ok=True)
        remove_unfinished(self.path)
        known = isinstance(model, BaseOperator | Generative)
        described = {"class": type(model).__name__, "config": model.config} if known else {}
        write_json(self.path / "config.json", {**described, "run": config.to_dict()})
        write_json(self.path / "env.json", environment(device, processes))

    def read_state(self, config: TrainConfig) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return tensors and record of the last saved state, None where there is none.

        Raises:
            ValueError: the state is damaged, or was saved under a configuration that `config` does not
                continue.
        """
        if not self.state_path.exists():
            return None
        tensors, record = read_tensors(self.state_path)
        if record is None:
            raise ValueError(
                f"{self.state_path} was not written by opflow: it does not say where the run stands; "
                "remove it to start afresh"
            )
        now = config.to_dict()
        changed = [
            f"{name} was {before!r}, now {now.get(name)!r}"
            for name, before in record["config"].items()
            if now.get(name) != before and name not in MAY_CHANGE
        ]
        if changed:
            raise ValueError(
                f"{self.path} cannot be resumed with another configuration ({'; '.join(changed)}); only "
                f"{', '.join(MAY_CHANGE)} may change. Choose another folder for a new run"
            )
        return tensors, record

    def write_state(self, tensors: Mapping[str, Tensor], record: dict[str, Any]) -> None:
        """Replace the state to resume from."""
        write_tensors(self.state_path, tensors, record)

    def write_model(self, weights: Mapping[str, Tensor]) -> None:
        """Replace the best weights."""
        write_tensors(self.path / "model.safetensors", weights)

    def read_model(self) -> dict[str, Tensor]:
        """Return the best weights so far."""
        return read_tensors(self.path / "model.safetensors")[0]

    def start_metrics(self, epochs: int) -> list[dict[str, Any]]:
        """Keep the rows of the first `epochs` epochs of `metrics.jsonl` and return them.

        A run that was killed may have logged more than its state knows of, and half a row.
        """
        path, rows = self.path / "metrics.jsonl", []
        for line in path.read_text().splitlines() if path.exists() else []:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break
            if "train_loss" in row and row["epoch"] <= epochs:
                rows.append(row)
        write_atomically(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
        return rows

    def log(self, row: dict[str, Any]) -> None:
        """Append a row to `metrics.jsonl`; numbers that are not finite become null."""
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(_finite(row)) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def environment(device: torch.device, processes: int) -> dict[str, Any]:
    """Return what the numbers of a run depend on besides its configuration."""
    from importlib.metadata import version

    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "accelerate": version("accelerate"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "processes": processes,
        "command": sys.argv,
    }
