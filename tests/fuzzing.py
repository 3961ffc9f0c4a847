"""Damaged files: originals of several formats, ways to damage them, and a process to open them in."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

import pde_data
from pde_data.formats import convert
from pde_data.sources import coordinate_variables
from pde_data.storage import Schema, Variable, write
from tests.writers import every_case

ROOT = Path(__file__).parents[1]
MEMORY = 2**29  # bytes that a file of some kilobytes may take
SECONDS = 40.0  # for a file, many times what it takes, the ten of pde_data.vetting among them
FOREIGN = (
    "FNO vorticity, v5",
    "FNO vorticity, v7.3",
    "MATLAB v5, complex",
    "APEBench 2-D, two channels",
    "PINO Kolmogorov",
    "NumPy .npz, compressed",
    "netCDF-4, CF ensemble",
)
SOLVED = {
    "advection": {"resolution": 16, "records": 4},
    "burgers": {"resolution": 16, "records": 4},
    "navier_stokes": {"resolution": 8, "t_end": 0.2, "records": 2},
    "darcy": {"resolution": 6},
    "polygon_darcy": {"size": 0.05},
}


@dataclass(frozen=True)
class Original:
    """A sound file or folder, and the file in it to be damaged.

    `checked` says that every value in it stands under a checksum: then a copy with wrong bytes is refused, or
    read as the original.
    """

    name: str
    path: Path
    target: Path
    checked: bool = False


def originals(folder: Path) -> list[Original]:
    """Write one of each kind; the foreign ones come from the writers of the formats' tests."""
    rng = np.random.default_rng(0)
    plain = folder / "ours"
    values = rng.standard_normal((3, 4, 6, 5)).astype(np.float32)
    grid = pde_data.Grid((6, 5))
    described = {
        "sample": Variable(("sample",), np.arange(3)),
        "time": Variable(("time",), np.arange(4.0), {"units": "1"}),
        **coordinate_variables(grid),
        "viscosity": Variable(("sample",), rng.random(3), {"units": "1"}),
        "u": Variable(("sample", "time", "x", "y"), None, {"units": "m s-1", "long_name": "speed"}),
    }
    write(plain, Schema(described, {"title": "a set", "numbers": [1.0, 2.0]}), [(0, {"u": values})])
    made = [Original("ours", plain, plain)]

    checked = folder / "compressed"
    convert(plain, checked, compress="lz4")
    made.append(Original("ours, compressed", checked, checked, checked=True))

    shards = folder / "shards"
    request = {"samples": 2, "shard_size": 1, "resolution": 6, "t_end": 0.2, "records": 2, "processes": 1}
    pde_data.generate("navier_stokes", shards, viscosity=2e-3, **request)
    made.append(Original("shard", shards, shards / "shard-00001.h5", checked=True))
    made.append(Original("manifest", shards, shards / "manifest.json", checked=True))

    # Files whose equation `validate` solves again, with what the damage makes of parameters and times.
    for name, options in SOLVED.items():
        solved = folder / f"{name}.h5"
        pde_data.generate(name, solved, samples=2, processes=1, **options)
        made.append(Original(name, solved, solved))

    tensors = folder / "tensors"
    torch.save({"x": torch.randn(3, 6, 5) > 0, "y": torch.randn(3, 6, 5)}, tensors)
    made.append(Original("neuraloperator .pt", tensors, tensors, checked=True))

    cases = {case.name: case for case in every_case()}
    names = [
        *FOREIGN,
        *(name for name in cases if name.startswith(("PDEBench", "The Well, one", "PDEArena K"))),
    ]
    for number, name in enumerate(names):
        own = folder / str(number)
        own.mkdir()
        path = own / cases[name].file
        cases[name].write(path, rng)
        made.append(Original(name, path, path, checked=name == "NumPy .npz, compressed"))
    return made


def damage(path: Path, rng: np.random.Generator) -> str:
    """Damage a file in one of several ways, and say how."""
    content = bytearray(path.read_bytes())
    size = len(content)
    way = str(rng.choice(["bits", "bits", "header bits", "truncate", "zeros", "noise", "insert", "types"]))
    if way == "types" and (h5py.is_hdf5(path) or path.suffix == ".json"):
        return _other_type(path, rng)
    if way in ("bits", "header bits", "types"):
        reach = min(size, 1024) if way == "header bits" else size
        for place in rng.integers(0, reach, int(rng.integers(1, 9))):
            content[place] ^= 1 << int(rng.integers(8))
    elif way == "truncate":
        del content[int(rng.integers(0, size)) :]
    else:
        start = int(rng.integers(0, size))
        length = int(rng.integers(1, 65))
        filling = bytes(length) if way == "zeros" else rng.bytes(length)
        content[start : start + (0 if way == "insert" else length)] = filling
    path.write_bytes(bytes(content))
    return way


def _other_type(path: Path, rng: np.random.Generator) -> str:
    """Put something of another type or shape in the place of a value, in a file that is sound otherwise."""
    if path.suffix == ".json":
        content = json.loads(path.read_text())
        place = content if rng.random() < 0.5 else content["shards"][-1]
        key = str(rng.choice(sorted(place)))
        place[key] = [None, -1, "../../etc/passwd", [], {}, 2**70, 1e308][rng.integers(7)]
        path.write_text(json.dumps(content))
        return f"types: {key}"
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name = str(rng.choice(names))
        shape = file[name].shape or (1,)
        values = np.zeros(shape)
        others: list[Any] = [
            values.astype("S4"),
            values.astype(complex),
            values.astype(">i2"),
            values.astype(bool),
            values[..., None],
            values[..., :-1],
            values[None],
            np.full(shape, np.nan),
            h5py.Empty("f8"),
            np.zeros(0),
            np.array(["a"] * max(1, shape[0]), dtype=h5py.string_dtype()),
        ]
        attributes = dict(file[name].attrs)
        if rng.random() < 0.3 and attributes:
            key = str(rng.choice(sorted(attributes)))
            del file[name].attrs[key]
            file[name].attrs[key] = [3, "word", [1.0, 2.0], h5py.Empty("f8")][rng.integers(4)]
            return f"types: attribute {key} of {name}"
        del file[name]
        file[name] = others[rng.integers(len(others))]
        return f"types: {name}"


class Worker:
    """A process that opens files under a limit of memory, started anew when one of them kills it."""

    def __init__(self, warm: list[Path]):
        self.warm = warm
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *error: object) -> None:
        self._stop()

    def open(self, path: Path) -> dict[str, Any]:
        """What the opening of a file came to: kind `read`, `refused`, `wrong`, `died` or `hangs`."""
        if self.process is None:
            self._start()
        assert self.process is not None and self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(SECONDS if self.used else 10 * SECONDS):
                where = self._stack()
                self._stop()
                return {"kind": "hangs", "words": f"no answer in {SECONDS} s\n{where}"}
        line = self.process.stdout.readline()
        self.used = True
        if not line:
            code = self.process.wait()
            self._stop()
            return {"kind": "died", "words": f"the process ended with {code}"}
        return json.loads(line)

    def _start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).with_name("fuzz_worker.py")), str(MEMORY)]
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [*command, *map(str, self.warm)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=environment,
        )
        self.used = False

    def _stack(self) -> str:
        """Where the process is."""
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR1)
        time.sleep(1.0)
        return os.pread(self.errors.fileno(), 10_000, 0).decode(errors="replace")

    def _stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None
            self.errors.close()


@dataclass
class Report:
    """What became of the damaged files."""

    kinds: Counter = field(default_factory=Counter)
    by_original: dict[str, Counter] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    peak: int = 0


def run(folder: Path, count: int, seed: int = 0, keep: Path | None = None) -> Iterator[Report]:
    """Damage and open `count` files, yielding the same report after each; failures are kept in `keep`."""
    sources = folder / "originals"
    sources.mkdir()
    sound = originals(sources)
    report = Report(by_original={original.name: Counter() for original in sound})
    with Worker(list(dict.fromkeys(original.path for original in sound))) as worker:
        expected = {original.name: worker.open(original.path) for original in sound}
        for name, answer in expected.items():
            if answer["kind"] != "read" or not answer["digests"]:
                raise AssertionError(f"the original of {name} is not read: {answer}")
        for number in range(count):
            rng = np.random.default_rng([seed, number])
            original = sound[number % len(sound)]
            place = folder / f"{number}"
            place.mkdir()
            for entry in (
                original.path.parent.iterdir() if original.path.parent != sources else [original.path]
            ):
                copy = shutil.copytree if entry.is_dir() else shutil.copy
                copy(entry, place / entry.name)
            path = place / original.path.name
            way = damage(place / original.target.relative_to(original.path.parent), rng)
            answer = worker.open(path)
            kind = answer["kind"]
            # What puts other values into a sound HDF5 file writes other checksums as well.
            checked = original.checked and not (way.startswith("types") and original.path.is_file())
            if kind == "read" and checked and answer["digests"] != expected[original.name]["digests"]:
                kind, answer["words"] = "silent", "other values than those under the checksum"
            report.kinds[kind] += 1
            report.by_original[original.name][kind] += 1
            report.peak = max(report.peak, answer.get("peak", 0))
            if kind not in ("read", "refused"):
                report.failures.append(f"{number}: {original.name}, {way}: {kind}: {answer['words']}")
                if keep is not None:
                    shutil.copytree(place, keep / str(number))
            shutil.rmtree(place)
            yield report
