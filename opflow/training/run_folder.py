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

from opflow.operators.base import Operator
from opflow.training.checkpoint import read_tensors, refuse_pickles, replacing, write_tensors

STATE = Path("last") / "state.safetensors"


class RunFolder:
    """A folder with `config.json`, `env.json`, `metrics.jsonl`, `model.safetensors` and `last/`.

    Raises:
        ValueError: the folder holds a run already and `resume` is off, or it holds pickles.
    """

    def __init__(self, path: str | Path, resume: bool):
        self.path = Path(path)
        self.state_path = self.path / STATE
        if self.path.exists():
            refuse_pickles(self.path)
        if self.state_path.exists() and not resume:
            raise ValueError(
                f"{self.path} holds a run already; pass resume=True to go on with it, or choose another folder"
            )

    def create(self) -> None:
        """Make the folder."""
        self.state_path.parent.mkdir(parents=True, exist_ok=True)

    def read_state(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return tensors and record of the last saved state, None where there is none."""
        return read_tensors(self.state_path) if self.state_path.exists() else None

    def write_state(self, tensors: Mapping[str, Tensor], record: dict[str, Any]) -> None:
        """Replace the state to resume from."""
        write_tensors(self.state_path, tensors, record)

    def write_model(self, model: nn.Module, weights: Mapping[str, Tensor], run: dict[str, Any]) -> None:
        """Write the best weights, and what is needed to build the model again."""
        described = (
            {"class": type(model).__name__, "config": model.config} if isinstance(model, Operator) else {}
        )
        self.write_json("config.json", {**described, "run": run})
        write_tensors(self.path / "model.safetensors", weights)

    def read_model(self) -> dict[str, Tensor]:
        """Return the best weights so far."""
        return read_tensors(self.path / "model.safetensors")[0]

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file, atomically."""
        with replacing(self.path / name) as temporary:
            temporary.write_text(json.dumps(value, indent=2) + "\n")

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
        with replacing(path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
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
