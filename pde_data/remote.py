"""Data sets at addresses that fsspec knows (`https://`, `s3://`, ...): fetched once, then read locally.

A copy, and no reading over the network: every format is read, through the same checks, and training reads a
mapped file. (HDF5 reading through a file object is twenty times slower, and gives wrong values, unnoticed,
when a `DataLoader` forks.) fsspec moves the bytes; its own file cache is not used because it writes in place,
where another process may have the file mapped, and begins anew after an interruption.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from pde_data.formats.shards import MANIFEST, read_manifest
from pde_data.storage import DatasetError, replacing, sha256

_BLOCK = 2**24
_STATE = ("ETag", "etag", "Last-Modified", "LastModified", "updated", "mtime")


def is_address(path: Any) -> TypeGuard[str]:
    """Whether this is text like `https://...`."""
    return isinstance(path, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


def cache_folder() -> Path:
    """Where copies are: `$PDE_DATA_CACHE`, or `pde_data` in the user's folder of caches."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("PDE_DATA_CACHE") or Path(caches) / "pde_data")


def fetch(address: str) -> Path:
    """Copy a file, or a folder of shards, from an address to `cache_folder`, and return the copy.

    What is there already is used as long as size, time and ETag at the address are the same; what was
    interrupted goes on where it stopped. Of a folder, given by an address without a suffix, the manifest is
    read first and every shard is held against its SHA-256. Copies stay until the user deletes them.

    Raises `DatasetError` when nothing is there, the connection breaks, a library for the address is
    missing, the disk is too full, or a shard is not what the manifest says.
    """
    if Path(urlsplit(address).path).suffix:
        return _copy(address)
    address = address.rstrip("/")
    manifest = _copy(f"{address}/{MANIFEST}")
    with _alone(manifest.parent):
        for shard in read_manifest(manifest)["shards"]:
            target = manifest.with_name(Path(shard["file"]).name or MANIFEST)
            if not target.exists():
                copy = _copy(f"{address}/{target.name}")
                if sha256(copy) == shard["sha256"]:
                    os.replace(copy, target)
                shutil.rmtree(copy.parent)
                if not target.exists():
                    raise DatasetError(
                        f"{address}/{target.name} is not what the manifest says (SHA-256 differs); it was "
                        "changed, or damaged on the way: try again"
                    )
    return manifest.parent


def _filesystem(address: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError as error:
        raise DatasetError(
            f"{address} needs the package fsspec; pip install 'opflow-sciml[remote]'"
        ) from error
    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:  # fsspec says which library it wants
        raise DatasetError(f"{address}: {error}") from error
    except ValueError as error:
        raise DatasetError(f"{address} is of no kind that fsspec knows: {error}") from error


def _copy(address: str) -> Path:
    files, path = _filesystem(address)
    try:
        info = files.info(path)
    except Exception as error:  # each kind of store has errors of its own
        raise DatasetError(
            f"there is nothing to read at {address}: {type(error).__name__}: {error}"
        ) from error
    size = info.get("size")
    state = [address, size, *(str(info.get(key)) for key in _STATE)]
    folder = cache_folder() / hashlib.sha256(repr(state).encode()).hexdigest()[:20]
    target = folder / Path(urlsplit(address).path).name
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        if not target.exists():
            part = folder / ".part"
            try:
                _download(files, path, part, size, address)
                if size is not None and part.stat().st_size != size:
                    part.unlink()
                    raise OSError("the sizes differ in the end")
                with replacing(target) as temporary:
                    os.replace(part, temporary)
            except DatasetError:
                raise
            except Exception as error:
                kept = part.stat().st_size if part.exists() else 0
                raise DatasetError(
                    f"{address} broke off after {kept:,} of {size or 'unknown'} bytes: "
                    f"{type(error).__name__}: {error}; try again, what is there is kept"
                ) from error
    return target


def _download(files: Any, path: str, part: Path, size: int | None, address: str) -> None:
    """Append what is missing of a file to `part`, block by block; or all of it, where there are no blocks."""
    from tqdm import tqdm

    if size is None:
        files.get_file(path, str(part))
        return
    begin = part.stat().st_size if part.exists() else 0
    if size - begin > shutil.disk_usage(part.parent).free:
        raise DatasetError(
            f"{address} has {size:,} bytes, more than are free in {part.parent}; make room, or set "
            "PDE_DATA_CACHE to a folder on another disk"
        )
    name = Path(urlsplit(address).path).name
    bar = tqdm(total=size, initial=begin, desc=name, unit="B", unit_scale=True, disable=None)
    with bar, files.open(path, "rb", block_size=_BLOCK, cache_type="none") as source, part.open("ab") as file:
        for start in range(begin, size, _BLOCK):
            expected = min(_BLOCK, size - start)
            source.seek(start)
            try:
                block = source.read(expected)
            except ValueError:  # a web server that sends whole files only
                files.get_file(path, str(part))
                return
            if len(block) != expected:
                raise OSError(f"asked for {expected} bytes from {start} on, got {len(block)}")
            file.write(block)
            file.flush()
            bar.update(expected)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time fetch a file; the others wait for it."""
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
