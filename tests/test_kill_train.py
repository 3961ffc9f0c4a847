"""A run that is killed at random moments ends with the bytes of an undisturbed one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("fit_tiny.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parents[1])}
# Noise and EMA, because both carry state from step to step; batches of 8, 8 and 6 samples.
CONFIG = {"epochs": 10, "batch_size": 8, "ema": 0.9, "noise": 0.1, "save_seconds": 0.0}


def start(folder, pause):
    command = [sys.executable, str(PROGRAM), str(folder), json.dumps(CONFIG), str(pause)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("kills", "seed"), [(5, 0), pytest.param(20, 1, marks=pytest.mark.slow)], ids=["five", "twenty"]
)
def test_killed_runs_end_with_the_same_bytes(tmp_path, kills, seed):
    calm, torn = tmp_path / "calm", tmp_path / "torn"
    undisturbed = start(calm, 0.0)
    moments = random.Random(seed)
    for _ in range(kills):
        process = start(torn, 0.02)
        assert process.stdout.readline() == "ready\n"  # imports are over
        time.sleep(moments.uniform(0.0, 2.5 if kills < 20 else 1.0))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    last = start(torn, 0.0)
    for process in (last, undisturbed):
        process.communicate(timeout=120)
        assert process.returncode == 0
    for name in ("model.safetensors", "config.json"):
        assert (torn / name).read_bytes() == (calm / name).read_bytes()
    logs = [(folder / "metrics.jsonl").read_text().splitlines() for folder in (calm, torn)]
    rows = [[json.loads(line) for line in log] for log in logs]
    for row in rows[0] + rows[1]:
        del row["seconds"]
    assert rows[0] == rows[1]
