"""`kill -9` at random moments of `pde-data generate`; running it again ends with the same bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pde_data.storage import sha256

ARGUMENTS = "--samples 12 --resolution 48 --t-end 12 --records 12 --shard-size 1 --processes 2"
# Samples of 0.05 s in shards of their own: most moments fall into work, between shards or into the joining.


def start(path: Path) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "pde_data.cli",
        "generate",
        "navier-stokes",
        str(path),
        *ARGUMENTS.split(),
    ]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


def finish(path: Path) -> None:
    process = start(path)
    _, error = process.communicate()
    assert process.returncode == 0 and error == b"", error.decode()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "ns.h5"
    begin = time.monotonic()
    finish(path)
    return sha256(path), time.monotonic() - begin


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def check(tmp_path: Path, undisturbed: tuple[str, float], moments: int, seed: int) -> None:
    digest, duration = undisturbed
    draw = random.Random(seed)
    path = tmp_path / "ns.h5"
    killed, finished = 0, {}
    for _ in range(moments):
        process = start(path)
        # From the first shard on: the import before it takes a second or more, and no file is written then.
        deadline, delay = time.monotonic() + 60, draw.uniform(0, 0.6 * duration)
        known = set(finished)
        while process.poll() is None and set(files(tmp_path)) <= known and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(min(delay, draw.expovariate(1 / 0.15)))
        if process.poll() is None:
            killed += 1
        process.send_signal(signal.SIGKILL)
        process.communicate()
        for shard, digest_then in finished.items():
            # A finished shard stays, whole, until the file that holds it is there.
            assert path.exists() or sha256(shard) == digest_then
        finished = {shard: sha256(shard) for shard in files(tmp_path) if shard.name.startswith("shard")}
        if path.exists():
            assert sha256(path) == digest
            for leftover in (path, path.with_name("ns.h5.manifest.json"), *files(tmp_path)):
                leftover.unlink(missing_ok=True)
            finished = {}
    assert killed
    finish(path)
    assert sha256(path) == digest
    assert sorted(os.listdir(tmp_path)) == ["ns.h5", "ns.h5.manifest.json"]


def test_killed_at_5_random_moments(tmp_path, undisturbed):
    check(tmp_path, undisturbed, 5, seed=0)


@pytest.mark.slow
def test_killed_at_20_random_moments(tmp_path, undisturbed):
    check(tmp_path, undisturbed, 20, seed=1)


def test_workers_end_with_the_process_that_started_them(tmp_path):
    import psutil

    process = start(tmp_path / "ns.h5")
    while len(children := psutil.Process(process.pid).children()) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert len(gone) == 2 and not alive
