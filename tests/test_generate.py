"""Generation: the same bytes however it is done, resumed, or refused."""

import errno
import fcntl
import json
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import xarray as xr

import pde_data
from pde_data import DatasetError, generation, storage
from pde_data.equations import NavierStokes
from pde_data.storage import sha256

SMALL = {"samples": 5, "resolution": 8, "t_end": 0.5, "records": 2, "shard_size": 2}


def make(path, **changes):
    return pde_data.generate("navier_stokes", path, **{**SMALL, "processes": 1, **changes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make(tmp_path_factory.mktemp("whole") / "ns.h5")


def test_the_same_request_gives_the_same_bytes_on_any_number_of_processes(whole, tmp_path):
    again = make(tmp_path / "again.h5", processes=2)
    assert sha256(again) == sha256(whole)
    assert sorted(os.listdir(tmp_path)) == ["again.h5", "again.h5.manifest.json"]


def test_the_file_holds_the_solutions_and_where_they_come_from(whole):
    equation = NavierStokes(resolution=8, t_end=0.5, records=2)
    with xr.open_dataset(whole, engine="h5netcdf") as dataset:
        assert dict(dataset.sizes) == {"sample": 5, "time": 3, "x": 8, "y": 8}
        np.testing.assert_array_equal(dataset.time, equation.times)
        np.testing.assert_array_equal(dataset.x, equation.grid.coordinates[0])
        expected = equation.generate(0, [2, 3])
        np.testing.assert_array_equal(dataset.vorticity.values[2:4], expected["vorticity"])
        np.testing.assert_array_equal(dataset.steps.values[2:4], expected["diagnostics"]["steps"])
        assert dataset.attrs["seed"] == 0 and dataset.attrs["viscosity"] == 1e-3
        assert dataset.vorticity.attrs == equation.variables["vorticity"]
        assert dataset.vorticity.dtype == np.float32
    with h5py.File(whole) as file:
        assert file["vorticity"].chunks is None


def test_what_differs_from_run_to_run_is_in_the_manifest(whole):
    manifest = json.loads(whole.with_name("ns.h5.manifest.json").read_text())
    assert manifest["sha256"] == sha256(whole)
    assert [shard["samples"] for shard in manifest["shards"]] == [2, 2, 1]
    assert all(shard["wall_time_s"] > 0 for shard in manifest["shards"])
    assert manifest["hardware"]["cores"] == os.cpu_count()


def test_a_folder_holds_shards_that_read_as_one(whole, tmp_path):
    folder = make(tmp_path / "set")
    assert sorted(os.listdir(folder)) == [*("manifest.json",), *(f"shard-0000{i}.h5" for i in range(3))]
    xr.testing.assert_identical(pde_data.open(folder).load(), pde_data.open(whole).load())
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["complete"]
    for shard in manifest["shards"]:
        assert shard["sha256"] == sha256(folder / shard["file"])
    one, many = pde_data.FieldDataset(whole), pde_data.FieldDataset(folder)
    for a, b in zip(one.gather([0, 3, 5, 9]), many.gather([0, 3, 5, 9])):
        assert a.equal(b)


def test_finished_work_is_not_done_again(whole, tmp_path, monkeypatch):
    folder = make(tmp_path / "set")
    times = {file: os.stat(folder / file).st_mtime_ns for file in os.listdir(folder)}
    monkeypatch.setattr(generation, "make_shard", None)
    make(folder)
    make(whole)
    assert times == {file: os.stat(folder / file).st_mtime_ns for file in os.listdir(folder)}


def test_resume_makes_what_is_missing_damaged_or_unrecorded(tmp_path, monkeypatch):
    folder = make(tmp_path / "set")
    whole = {file: sha256(folder / file) for file in os.listdir(folder) if file.startswith("shard")}
    (folder / ".shard-00001.h5.123.tmp").write_text("half")
    (folder / "shard-00002.h5").unlink()
    damaged = bytearray((folder / "shard-00001.h5").read_bytes())
    damaged[-1] ^= 1
    (folder / "shard-00001.h5").write_bytes(damaged)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["shards"] = [shard for shard in manifest["shards"] if shard["first"] != 0]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DatasetError, match="has 1 of 3 shards; run the same generate command again"):
        pde_data.open(folder)
    made = []
    original = generation.make_shard
    monkeypatch.setattr(generation, "make_shard", lambda *job: made.append(job[2]) or original(*job))
    make(folder)
    assert sorted(made) == [1, 2]
    assert {file: sha256(folder / file) for file in os.listdir(folder) if file.startswith("shard")} == whole
    assert not list(folder.glob(".*"))


def test_another_request_for_the_same_name_is_refused(whole, tmp_path):
    with pytest.raises(
        DatasetError, match=r"another request \(viscosity: 0.001 there, 0.002 asked\); choose another name"
    ):
        make(whole, viscosity=0.002)
    folder = make(tmp_path / "set")
    with pytest.raises(DatasetError, match="title.*samples: 5 there, 6 asked.*delete .*set to start again"):
        make(folder, samples=6)
    whole_alone = tmp_path / "moved.h5"
    whole_alone.write_bytes(whole.read_bytes())
    make(whole_alone)
    with pytest.raises(DatasetError, match="seed: 0 there, 1 asked"):
        make(whole_alone, seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(DatasetError, match="folder with other things in it"):
        make(tmp_path / "mine")
    with pytest.raises(DatasetError, match="is a file; name a folder"):
        make(tmp_path / "mine" / "thesis.tex")


def test_a_damaged_file_is_noticed(whole, tmp_path):
    for name in (whole.name, f"{whole.name}.manifest.json"):
        (tmp_path / name).write_bytes(whole.with_name(name).read_bytes())
    content = bytearray((tmp_path / whole.name).read_bytes())
    content[-1] ^= 1
    (tmp_path / whole.name).write_bytes(content)
    with pytest.raises(DatasetError, match="SHA-256 differs"):
        make(tmp_path / whole.name)


def test_disk_full_says_what_is_kept_and_resuming_goes_on(whole, tmp_path, monkeypatch):
    original, count = storage._fill, []

    def fill(*arguments):
        count.append(1)
        if len(count) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments)

    monkeypatch.setattr(storage, "_fill", fill)
    with pytest.raises(
        DatasetError,
        match=r"No space left on device(.|\n)*1 of 3 shards are finished and kept in .*parts; make room",
    ):
        make(tmp_path / "ns.h5")
    monkeypatch.undo()
    assert sha256(make(tmp_path / "ns.h5")) == sha256(whole)


def test_disk_full_while_joining(whole, tmp_path, monkeypatch):
    original, count = storage._fill, []

    def fill(*arguments):
        count.append(1)
        if len(count) == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(*arguments)

    monkeypatch.setattr(storage, "_fill", fill)
    with pytest.raises(DatasetError, match=r"all 3 shards are finished and kept .*(.|\n)*which joins them"):
        make(tmp_path / "ns.h5")
    monkeypatch.undo()
    assert sha256(make(tmp_path / "ns.h5")) == sha256(whole)


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
from pde_data.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_file_that_the_system_will_not_let_grow(tmp_path):
    arguments = ["generate", "navier-stokes", str(tmp_path / "ns.h5"), "--samples", "4", "--resolution", "64"]
    arguments += ["--t-end", "0.2", "--records", "2", "--processes", "1"]
    done = subprocess.run([sys.executable, "-c", LIMITED, *arguments], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "File too large" in done.stderr and "0 of 4 shards are finished and kept" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.tmp"))


def test_two_at_once_are_refused(tmp_path):
    (tmp_path / "set").mkdir()
    with (tmp_path / "set" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DatasetError, match="another process is generating .*set now"):
            make(tmp_path / "set")


def test_wrong_requests(tmp_path):
    with pytest.raises(ValueError, match="equation='navier' is unknown: choose one of .*navier_stokes"):
        pde_data.generate("navier", tmp_path / "a.h5", samples=1)
    with pytest.raises(ValueError, match="'viscocity'.*its parameters are .*viscosity, forcing"):
        make(tmp_path / "a.h5", viscocity=1.0)
    with pytest.raises(ValueError, match="samples=0, expected at least 1"):
        make(tmp_path / "a.h5", samples=0)
    with pytest.raises(ValueError, match="seed=-1, expected at least 0"):
        make(tmp_path / "a.h5", seed=-1)
    with pytest.raises(ValueError, match="forcing='kolmogorov' acts on mode 4, but 8 points resolve"):
        make(tmp_path / "a.h5", forcing="kolmogorov")
    with pytest.raises(ValueError, match="belong into the NavierStokes"):
        pde_data.generate(NavierStokes(), tmp_path / "a.h5", samples=1, viscosity=1.0)
    with pytest.raises(DatasetError, match="there is no folder"):
        make(tmp_path / "nowhere" / "a.h5")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "request is None, expected dict"),
        ({"request": {}, "shard_count": "three", "shards": []}, "shard_count is 'three', expected int"),
        ({"request": {}, "shard_count": 1, "shards": [7]}, r"shards\[0\].file is None, expected str"),
        (
            {"request": {}, "shard_count": 1, "shards": [{"file": "a.h5", "first": "b", "sha256": ""}]},
            r"shards\[0\].first is 'b', expected int",
        ),
    ],
)
def test_a_manifest_of_something_else(tmp_path, content, words):
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    (tmp_path / "ns.h5").write_text("x")
    (tmp_path / "ns.h5.manifest.json").write_text(json.dumps(content))
    for act, path in ((make, tmp_path), (make, tmp_path / "ns.h5"), (pde_data.open, tmp_path)):
        with pytest.raises(DatasetError, match=f"manifest.json is not a manifest of .*generate: {words}"):
            act(path)


SCRIPT = """
import pde_data
small = dict(samples=4, resolution=8, t_end=0.5, records=2)
pde_data.generate("navier_stokes", {path!r}, shard_size=1, processes=2, **small)
"""


def test_a_script_without_a_main_guard_may_generate_on_several_processes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(path=str(tmp_path / "ns.h5")))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    assert pde_data.open(tmp_path / "ns.h5").sizes["sample"] == 4
