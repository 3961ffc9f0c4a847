"""Two processes under torchrun give the losses of one."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from opflow.training import TrainConfig, fit

PROGRAM = Path(__file__).with_name("fit_tiny.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parents[1])}
# 22 samples in batches of 8, 8 and 6, cut into 2 x 3 unequal pieces; 7 samples for validation.
CONFIG = {"epochs": 4, "batch_size": 8, "accumulate": 3, "ema": 0.9}


def tiny():
    spec = importlib.util.spec_from_file_location("fit_tiny", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def alone(folder, epochs):
    program, config = tiny(), TrainConfig(**CONFIG | {"epochs": epochs})
    data, valid = program.data(1), program.data(2, 7)
    return fit(program.model(), data, valid, config=config, folder=folder, resume=True)


def together(folder, epochs, program=PROGRAM, **environment):
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(program)]
    command = [sys.executable, *launch, str(folder), json.dumps(CONFIG | {"epochs": epochs})]
    environment = {**ENVIRONMENT, **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def log(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_follow_one_and_one_goes_on_where_they_stopped(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    together(two, 2)
    alone(one, 2)
    assert json.loads((two / "env.json").read_text())["processes"] == 2
    for key in ("train_loss", "valid_loss", "valid_l2", "learning_rate"):
        assert [row[key] for row in log(two)] == pytest.approx([row[key] for row in log(one)], rel=1e-5)
    alone(two, 4)
    alone(one, 4)
    first, second = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)


# Accelerate offers FSDP on GPUs only; told that these processes have some, it shards on CPUs as well.
SHARDED = """
import runpy, sys
import torch
from accelerate.state import DistributedType, PartialState
PartialState._prepare_backend = lambda *args: ("gloo", DistributedType.MULTI_GPU)
torch.accelerator.is_available = lambda: True
import opflow.training.loop as loop
from torch.distributed.tensor import DTensor
def evaluate(objective, *args, evaluate=loop.evaluate):
    assert all(isinstance(p, DTensor) for p in objective.parameters())
    return evaluate(objective, *args)
loop.evaluate = evaluate
runpy.run_path({program!r}, run_name="__main__")
"""


@pytest.mark.slow
def test_sharded_processes_follow_one_through_a_resume(tmp_path):
    one, sharded = tmp_path / "one", tmp_path / "sharded"
    program = tmp_path / "sharded.py"
    program.write_text(SHARDED.format(program=str(PROGRAM)))
    fsdp = {
        "ACCELERATE_TORCH_DEVICE": "cpu",
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_VERSION": "2",
        "FSDP_AUTO_WRAP_POLICY": "NO_WRAP",
        "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    }
    for epochs in (2, 4):
        together(sharded, epochs, program, **fsdp)
        alone(one, epochs)
    for key in ("train_loss", "valid_loss", "valid_l2"):
        assert [row[key] for row in log(sharded)] == pytest.approx([row[key] for row in log(one)], rel=1e-5)
    first, second = (load_file(folder / "model.safetensors") for folder in (one, sharded))
    assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)
