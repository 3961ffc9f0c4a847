"""`kill -9` at random moments of `pde-data generate`; running it again ends with the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from pde_data.storage import sha256

# Shards of some 30 ms: most moments fall into work, between shards, or into the joining.
ARGUMENTS = "--samples 12 --resolution 32 --t-end 6 --records 6 --shard-size 1"


def start(path: Path, processes: int) -> subprocess.Popen:
    words = f"generate navier-stokes {path} {ARGUMENTS} --processes {processes}"
    return subprocess.Popen(
        [sys.executable, "-m", "pde_data.cli", *words.split()],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(path: Path, processes: int) -> None:
    process = start(path, processes)
    _, error = process.communicate()
    assert process.returncode == 0 and error == b"", error.decode()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "ns.h5"
    finish(path, processes=1)
    return sha256(path)


def files(folder: Path) -> dict[Path, int]:
    """Every file and when it was last changed; files come and go meanwhile."""
    times = {}
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            with suppress(FileNotFoundError):
                times[path] = path.stat().st_mtime_ns
    return times


def check(tmp_path: Path, digest: str, moments: int, seed: int, processes: int) -> None:
    draw = random.Random(seed)
    path = tmp_path / "ns.h5"
    killed, shards = 0, {}
    for _ in range(moments):
        process = start(path, processes)
        # From the first change on: the imports before it take a second or more and write nothing.
        before = files(tmp_path)
        while process.poll() is None and files(tmp_path) == before:
            time.sleep(0.002)
        time.sleep(draw.expovariate(1 / 0.15))
        killed += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for shard, content in shards.items():
            # A finished shard stays, whole, until the file that holds it is there.
            assert path.exists() or sha256(shard) == content
        shards = {file: sha256(file) for file in files(tmp_path) if file.name.startswith("shard")}
        if path.exists():
            assert sha256(path) == digest
            for file in files(tmp_path):
                file.unlink()
            shards = {}
    assert killed
    finish(path, processes)
    assert sha256(path) == digest
    assert sorted(os.listdir(tmp_path)) == ["ns.h5", "ns.h5.manifest.json"]


def test_killed_at_5_random_moments(tmp_path, undisturbed):
    check(tmp_path, undisturbed, 5, seed=0, processes=1)


@pytest.mark.slow
def test_killed_at_20_random_moments_with_workers(tmp_path, undisturbed):
    check(tmp_path, undisturbed, 20, seed=1, processes=2)


def test_workers_end_with_the_process_that_started_them(tmp_path):
    process = start(tmp_path / "ns.h5", processes=2)
    while len(children := psutil.Process(process.pid).children()) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
