"""What was asked for and what of it is finished: the record that lets a killed run go on."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, final

import numpy as np

from pde_data.equations.base import Equation
from pde_data.formats import native
from pde_data.formats.shards import MANIFEST, read_manifest
from pde_data.storage import SCHEMA, DatasetError, as_attribute, sha256, write_json

_LOCK = ".lock"


@final
@dataclass(frozen=True)
class Request:
    """Everything that decides the bytes of a data set."""

    equation: Equation
    samples: int
    seed: int
    shard_size: int

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.samples // self.shard_size)

    def indices(self, shard: int) -> range:
        """Sample numbers of one shard."""
        return range(shard * self.shard_size, min((shard + 1) * self.shard_size, self.samples))

    def count(self, shard: int) -> int:
        """Number of samples in one shard."""
        return len(self.indices(shard))

    def attributes(self) -> dict[str, Any]:
        """Global attributes of the files."""
        return {
            "title": f"{self.equation.name}, {self.samples} samples",
            "equation_name": self.equation.name,
            **self.equation.attributes(),
            "samples": self.samples,
            "seed": self.seed,
            "shard_size": self.shard_size,
            **software(self.equation.libraries),
        }

    def differences(self, other: Mapping[str, Any], software: bool) -> list[str]:
        """Where the attributes of existing data differ from those of this request, in words."""
        return [
            f"{key}: {other.get(key)!r} there, {value!r} asked"
            for key, value in self.attributes().items()
            if (software or not key.startswith("version_"))
            and not np.array_equal(as_attribute(value), as_attribute(other.get(key)))
        ]


def software(libraries: Sequence[str]) -> dict[str, str]:
    """Versions of what decides the bytes of a data set, as attributes: our own and those of `libraries`."""
    return {f"version_{name.replace('-', '_')}": _version(name) for name in ("opflow-sciml", *libraries)}


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "missing"


def _hardware() -> dict[str, Any]:
    return {"machine": platform.machine(), "system": platform.platform(), "cores": os.cpu_count()}


@final
class Manifest:
    """The state of a target: its finished shards, in the target folder or in a hidden one beside a file."""

    def __init__(self, target: Path, request: Request, single: bool):
        self.target = target
        self.request = request
        self.single = single
        self.folder = target.with_name(f".{target.name}.parts") if single else target
        self.record = target.with_name(f"{target.name}.manifest.json")
        self.entries: dict[int, dict[str, Any]] = {}
        self.complete = False
        self._recorded: set[int] = set()
        self._guard = threading.Lock()

    @classmethod
    @contextmanager
    def locked(cls, target: Path, request: Request, single: bool) -> Iterator[Manifest]:
        """Hold the target against other processes, once what is there agrees with the request."""
        manifest = cls(target, request, single)
        manifest._compare()
        if manifest.complete:
            yield manifest
            return
        if not target.parent.is_dir():
            raise DatasetError(f"cannot write {target}: there is no folder {target.parent}; create it first")
        manifest.folder.mkdir(exist_ok=True)
        with (manifest.folder / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go when this process dies
            except BlockingIOError as error:
                raise DatasetError(f"another process is generating {target} now; wait for it") from error
            manifest._compare()
            yield manifest
            if manifest.complete and single:
                shutil.rmtree(manifest.folder)
            elif manifest.complete:
                (manifest.folder / _LOCK).unlink()

    def shard(self, shard: int) -> Path:
        """File of one shard."""
        return self.folder / f"shard-{shard:05d}.h5"

    @property
    def missing(self) -> list[int]:
        """Shards that are not finished."""
        return [shard for shard in range(self.request.shards) if shard not in self.entries]

    def _compare(self) -> None:
        """Find out whether all is done; `DatasetError` when the target holds something else."""
        working = self.folder / MANIFEST
        if self.single and self.target.exists() and not working.exists():
            content = read_manifest(self.record) if self.record.exists() else {}
            held = content["request"] if content else native.read(self.target).attributes
            self._agree(held, software=False)
            if content and content.get("sha256") != sha256(self.target):
                raise DatasetError(
                    f"{self.target} is not what {self.record.name} recorded (SHA-256 differs): it was "
                    "damaged or changed; delete both to generate it again"
                )
            self.complete = True
            return
        if not self.single and self.target.exists() and not self.target.is_dir():
            raise DatasetError(f"{self.target} is a file; name a folder, or a file that ends in .h5")
        if working.exists():
            content = read_manifest(working)
            whole = not self.single and bool(content.get("complete"))
            self._agree(content["request"], software=not whole)
            self.entries = {entry["first"] // self.request.shard_size: entry for entry in content["shards"]}
            self._recorded = set(self.entries)
            self.complete = whole and self._verified()
        elif (
            not self.single
            and self.target.is_dir()
            and any(not p.name.startswith(".") for p in self.target.iterdir())
        ):
            raise DatasetError(f"{self.target} is a folder with other things in it; name a new or empty one")

    def _agree(self, held: Mapping[str, Any], software: bool) -> None:
        differences = self.request.differences(held, software)
        if differences:
            raise DatasetError(
                f"{self.target} was begun by another request ({'; '.join(differences)}); choose another "
                f"name, or delete {self.folder if self.folder.exists() else self.target} to start again"
            )

    def _verified(self) -> bool:
        """Drop entries whose file is missing or changed; whether all remain."""
        for shard, entry in list(self.entries.items()):
            file = self.shard(shard)
            if not file.exists() or sha256(file) != entry["sha256"]:
                del self.entries[shard]
        return not self.missing

    def recover(self) -> None:
        """Tidy up after a killed run: remove temporaries, keep finished shards and adopt unrecorded ones."""
        leftovers = [*self.folder.glob(".*.tmp"), *self.target.parent.glob(f".{self.target.name}.*.tmp")]
        for leftover in leftovers:
            leftover.unlink(missing_ok=True)
        self._verified()
        for shard in set(self.missing) - self._recorded:
            # A shard has its name only when it is whole; the run died before it could be recorded.
            file = self.shard(shard)
            if file.exists() and self._belongs(file):
                first, count = self.request.indices(shard)[0], self.request.count(shard)
                self.entries[shard] = {
                    "file": file.name,
                    "first": first,
                    "samples": count,
                    "sha256": sha256(file),
                }
        self._save(self.folder / MANIFEST)

    def _belongs(self, file: Path) -> bool:
        try:
            return not self.request.differences(native.read(file).attributes, software=True)
        except DatasetError:
            return False

    def add(self, shard: int, entry: dict[str, Any]) -> None:
        """Record a finished shard."""
        with self._guard:
            self.entries[shard] = entry
            self._save(self.folder / MANIFEST)

    def finish(self) -> None:
        """Record that everything is there."""
        self.complete = True
        if self.single:
            self._save(self.record, sha256=sha256(self.target))
        else:
            self._save(self.folder / MANIFEST)

    def _save(self, path: Path, **more: Any) -> None:
        content = {
            "schema": SCHEMA,
            "request": self.request.attributes(),
            "complete": self.complete,
            "shard_count": self.request.shards,
            "shards": [self.entries[shard] for shard in sorted(self.entries)],
            "hardware": _hardware(),
            **more,
        }
        write_json(path, content)
