"""A first look at an HDF5 file by another process.

Damaged bytes can make the HDF5 library crash, or search for ever. A helper process that is kept for the next
file walks through the headers, attributes and small variables of each file before this process does the same.
"""

from __future__ import annotations

import atexit
import math
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pde_data.storage import DatasetError

_SECONDS = 10.0  # for any file, and more in proportion to its size, as for one on a slow network
_BYTES_PER_SECOND = 10e6
_SMALL = 2**20
_START = "import sys; sys.path[:] = sys.argv[1:]; from pde_data.vetting import main; main()"

_guard = threading.Lock()
_helpers: dict[int, subprocess.Popen] = {}  # by process: a forked child has its own


def vet(path: Path) -> None:
    """Let another process walk through a file; `DatasetError` when it crashes or does not come back.

    What else it meets is left to the reader to say.
    """
    with _guard:
        helper = _helper()
        if helper is None:
            return
        assert helper.stdin is not None and helper.stdout is not None
        limit = _SECONDS + path.stat().st_size / _BYTES_PER_SECOND
        with suppress(BrokenPipeError):
            helper.stdin.write(f"{math.ceil(limit)} {os.fsencode(path.resolve()).hex()}\n".encode())
            helper.stdin.flush()
        with selectors.DefaultSelector() as selector:
            selector.register(helper.stdout, selectors.EVENT_READ)
            in_time = bool(selector.select(limit))
        if in_time and helper.stdout.readline():
            return
        code = helper.wait() if in_time else None
        _end()
    how = "does not come back from it" if code is None else f"crashes on it ({_ending(code)})"
    raise DatasetError(f"{path} is damaged: the HDF5 library {how}; download or write it again")


def _ending(code: int) -> str:
    return signal.strsignal(-code) or str(code) if code < 0 else f"status {code}"


def _helper() -> subprocess.Popen | None:
    """The helper of this process, or `None` where none can be started."""
    helper = _helpers.get(os.getpid())
    if helper is None and sys.executable:
        with suppress(OSError):
            helper = subprocess.Popen(
                [sys.executable, "-c", _START, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt at the terminal is not for it
            )
            _helpers[os.getpid()] = helper
    return helper


@atexit.register
def _end() -> None:
    helper = _helpers.pop(os.getpid(), None)
    if helper is not None:
        helper.kill()
        helper.communicate()


def main() -> None:
    """Walk through each file on standard input, `seconds path` in hexadecimal, and answer with a line."""
    with suppress(ImportError):
        import hdf5plugin  # noqa: F401
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    alarm = getattr(signal, "alarm", lambda seconds: None)  # not on Windows
    for line in sys.stdin:
        seconds, path = line.split()
        alarm(int(seconds) + 5)  # ends this process, lost in HDF5, also when nobody is left to do it
        with suppress(Exception):
            _walk(os.fsdecode(bytes.fromhex(path)))
        alarm(0)
        answers.write(b"walked\n")
        answers.flush()


def _walk(path: str) -> None:
    import h5py

    with h5py.File(path, "r") as file:
        names: list[str] = []
        file.visititems_links(lambda name, link: names.append(name))
        _attributes(file)
        for name in names:
            with suppress(Exception):
                if isinstance(file.get(name, getlink=True), h5py.HardLink):
                    item = file[name]
                    _attributes(item)
                    if isinstance(item, h5py.Dataset) and not item.external and not item.is_virtual:
                        _dataset(item)


def _attributes(item: Any) -> None:
    for key in item.attrs:
        with suppress(Exception):
            item.attrs[key]


def _dataset(item: Any) -> None:
    steps: Iterable[Any] = (
        lambda: item.is_scale,
        lambda: item.id.get_num_chunks() if item.chunks else item.id.get_offset(),
        lambda: item[()] if 0 < item.nbytes <= _SMALL * bool(item.id.get_storage_size()) else None,
    )
    for step in steps:
        with suppress(Exception):
            step()
