"""`opflow train`, killed at random moments and given again, ends with the bytes of an undisturbed run."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import pde_data
from opflow.save import read_tensors

PROGRAM = "import sys; from opflow.cli import main; sys.exit(main())"  # the console script
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
# Noise and EMA, because both carry state from step to step.
OPTIONS = [
    "--batch-size",
    "8",
    "--ema",
    "0.9",
    "--noise",
    "0.1",
    "--rollout-steps",
    "2",
    "--save-seconds",
    "0",
]
MODEL = ["--options", "n_modes=[4,4]", "hidden_channels=4", "n_layers=2"]


def start(data, folder, epochs):
    words = ["train", "fno-navier-stokes", "--data", str(data), "--folder", str(folder)]
    command = [sys.executable, "-c", PROGRAM, *words, "--epochs", str(epochs), *OPTIONS, *MODEL]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def wait_for_a_save(process, state, last):
    while (state.stat().st_mtime_ns if state.exists() else None) == last:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.001)


@pytest.mark.parametrize(
    ("kills", "epochs", "seed"), [(5, 16, 0), pytest.param(20, 50, 1, marks=pytest.mark.slow)]
)
def test_killed_runs_end_with_the_same_bytes(tmp_path, kills, epochs, seed):
    options = {"samples": 20, "resolution": 12, "t_end": 4, "records": 4, "processes": 1}
    data = pde_data.generate("navier_stokes", tmp_path / "ns.h5", **options)
    calm, torn = tmp_path / "calm", tmp_path / "torn"
    finish(start(data, calm, epochs))

    moments, state, steps = random.Random(seed), torn / "last" / "state.safetensors", [0]
    for kill in range(kills):
        last = state.stat().st_mtime_ns if state.exists() else None
        process = start(data, torn, epochs)
        if kill % 5 == 0:  # anywhere, imports included
            time.sleep(moments.uniform(0.0, 1.5))
        else:  # in training
            wait_for_a_save(process, state, last)
            time.sleep(moments.uniform(0.0, 0.1))
        process.kill()
        process.communicate()
        if state.exists():
            progress = read_tensors(state)[1]["progress"]
            steps.append(progress["step"])
    interrupted = sum(before < after for before, after in zip(steps, steps[1:]))
    total = read_tensors(calm / "last" / "state.safetensors")[1]["progress"]["step"]
    assert interrupted >= 0.6 * kills and steps[-1] < total, (steps, total)  # most fell into training

    finish(start(data, torn, epochs))
    for name in ("model.safetensors", "config.json", "run.json", "evaluation.json"):
        assert (torn / name).read_bytes() == (calm / name).read_bytes(), name
    first, second = (read_tensors(folder / "last" / "state.safetensors")[0] for folder in (calm, torn))
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    logs = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (calm, torn)]
    rows = [[json.loads(line) for line in log] for log in logs]
    for row in rows[0] + rows[1]:
        del row["seconds"]
    assert rows[0] == rows[1]
    assert sorted(path.name for path in torn.rglob("*")) == sorted(path.name for path in calm.rglob("*"))
