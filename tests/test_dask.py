"""Generation on a Dask cluster: the bytes of a local run, whatever happens to the workers."""

import os
import signal
import sys
import threading
import time

import pytest

import pde_data
from pde_data import DatasetError, cluster
from pde_data.cli import main
from pde_data.storage import sha256
from pde_data.worker import WorkerError

distributed = pytest.importorskip("distributed")

SMALL = {"samples": 10, "resolution": 16, "t_end": 2.0, "records": 2, "shard_size": 1}


@pytest.fixture(scope="module")
def workers():
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": 50}
    with distributed.LocalCluster(**options) as local:
        yield local


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone") / "set"
    return digests(pde_data.generate("navier_stokes", folder, processes=1, **SMALL))


def digests(folder):
    return {path.name: sha256(path) for path in sorted(folder.glob("*.h5"))}


def test_the_bytes_of_a_local_run_though_a_worker_is_killed(workers, alone, tmp_path):
    with distributed.Client(workers, set_as_default=False) as client:
        pids = list(client.run(os.getpid).values())
    folder, failures = tmp_path / "set", []

    def generate():
        try:
            pde_data.generate("navier_stokes", folder, dask=workers.scheduler_address, **SMALL)
        except Exception as error:
            failures.append(error)

    thread = threading.Thread(target=generate)
    thread.start()
    while thread.is_alive() and not list(folder.glob("*.h5")):
        time.sleep(0.005)
    os.kill(pids[0], signal.SIGKILL)
    left = 10 - len(list(folder.glob("*.h5")))
    thread.join()
    assert not failures and left > 0
    assert digests(folder) == alone
    assert sorted(p.name for p in folder.iterdir()) == sorted(["manifest.json", *alone])


def test_what_is_there_is_kept_by_the_command_and_joined(workers, alone, tmp_path):
    folder = pde_data.generate("navier_stokes", tmp_path / "set", processes=1, **SMALL)
    (folder / "shard-00003.h5").unlink()
    times = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.h5")}
    pde_data.generate("navier_stokes", folder, dask=workers.scheduler_address, **SMALL)
    assert digests(folder) == alone
    assert times.items() <= {path.name: path.stat().st_mtime_ns for path in folder.glob("*.h5")}.items()
    words = "--samples 2 --resolution 8 --t-end 1 --records 1 --shard-size 1"
    for name, where in (("a.h5", f"--dask {workers.scheduler_address}"), ("b.h5", "--processes 1")):
        assert main(f"generate navier-stokes {tmp_path / name} {words} {where}".split()) == 0
    assert sha256(tmp_path / "a.h5") == sha256(tmp_path / "b.h5")


def test_errors_of_a_shard_come_back_in_its_words(workers, tmp_path):
    wild = {"forcing": "kolmogorov", "amplitude": 1e25, **SMALL}
    with pytest.raises(RuntimeError, match="blows up near t=0"):
        pde_data.generate("navier_stokes", tmp_path / "set", dask=workers.scheduler_address, **wild)


def test_a_job_that_kills_every_worker_is_given_up(workers):
    with distributed.Client(workers, set_as_default=False) as client:
        client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
    with pytest.raises(WorkerError, match="job 7 brought down several workers of tcp://.*again to resume"):
        list(cluster.results(workers.scheduler_address, os._exit, {7: (3,)}, ()))


def test_other_versions_on_the_cluster_are_refused(workers, monkeypatch):
    workers.wait_for_workers(1)
    monkeypatch.setattr(cluster, "software", lambda libraries: {"version_torch": "1.0"})
    with pytest.raises(DatasetError, match="a worker of the Dask cluster has .*install the same versions"):
        list(cluster.results(workers.scheduler_address, len, {0: ("abc",)}, ("torch",)))


def test_no_cluster_and_no_package(tmp_path, monkeypatch):
    options = {"dask": "tcp://127.0.0.1:9", **SMALL}
    monkeypatch.setattr(distributed, "Client", _refused)
    with pytest.raises(WorkerError, match="no Dask scheduler answers at 'tcp://127.0.0.1:9': timed out"):
        pde_data.generate("navier_stokes", tmp_path / "set", **options)
    with pytest.raises(ValueError, match="processes=2 and dask='tcp.*: the cluster decides"):
        pde_data.generate("navier_stokes", tmp_path / "set", processes=2, **options)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(DatasetError, match=r"pip install 'opflow-sciml\[dask\]'"):
        pde_data.generate("navier_stokes", tmp_path / "set", **options)


def _refused(address, **options):
    raise OSError("timed out")
