"""Open an HDF5 file that may be broken or hostile: nothing outside it is read, nothing absurd is promised."""

from __future__ import annotations

import math
import os
import time
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

from pde_data.storage import NO_COORDINATE, DatasetError
from pde_data.vetting import vet

# A file of 266 kB can declare 4 GiB, and one of a few kB 40 PB; reading such a variable ends in MemoryError.
MAX_RATIO = 2000  # declared bytes for each stored byte: beyond what compression does to real fields
MAX_CHUNK = 2**30
SMALL = 2**20  # below this a variable may be all fill value

# Files whose every link was looked at, by what the system says of them: in one with ten thousand groups that
# takes seconds, and readers open a file several times.
_CHECKED: OrderedDict[tuple, None] = OrderedDict()
_REMEMBERED = 64
# Files on which the HDF5 library got lost, when and how. Not for ever: the machine may have been too busy.
_LOST: dict[tuple, tuple[float, str]] = {}
_FORGET = 60.0  # seconds


def safe_open(path: str | os.PathLike, chunk_cache: int = 2**20) -> Any:
    """Open an HDF5 file for reading after looking at every link and every dataset in it.

    HDF5 keeps up to `chunk_cache` bytes of chunks in memory for each variable.

    Raises `DatasetError` for a missing, empty, truncated or foreign file, external links, external raw
    storage, virtual datasets whose sources are missing or outside the file's folder, dangling or looping
    links, sizes that the stored bytes cannot back, and filters that this HDF5 library lacks.
    """
    import h5py

    path = Path(path)
    if not path.exists():
        raise DatasetError(f"there is no file {path}")
    if path.is_dir():
        raise DatasetError(f"{path} is a folder, expected an HDF5 file")
    if path.stat().st_size == 0:
        raise DatasetError(f"{path} is empty (0 bytes); write or download it again")
    _vet_once(path)
    try:
        file = h5py.File(path, "r", rdcc_nbytes=chunk_cache)
    except OSError as error:
        raise DatasetError(_unreadable(path, str(error))) from error
    try:
        identity = _identity(os.fstat(file.id.get_vfd_handle()))
        if identity not in _CHECKED and _check_links(file, path):
            _CHECKED[identity] = None
            while len(_CHECKED) > _REMEMBERED:
                _CHECKED.popitem(last=False)
    except BaseException as error:
        file.close()
        if isinstance(error, DatasetError) or not isinstance(error, Exception):
            raise
        raise DatasetError(f"{path} is damaged ({error}); download or write it again") from error
    return file


def _vet_once(path: Path) -> None:
    identity = _identity(path.stat())
    if identity in _CHECKED:
        return
    since, reason = _LOST.pop(identity, (-math.inf, ""))
    try:
        if time.monotonic() - since < _FORGET:
            raise DatasetError(reason)
        since = time.monotonic()
        vet(path)
    except DatasetError as error:
        _LOST[identity] = since, str(error)
        raise


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _check_links(file: Any, path: Path) -> bool:
    """Check everything in the file; whether nothing of it can change while the file stays as it is."""
    import h5py

    links: list[tuple[str, Any]] = []
    # Collected first: an exception inside HDF5's own loop would be lost.
    file.visititems_links(lambda name, link: links.append((name, link)))
    settled = True
    for name, link in links:
        item = _check_link(file, path, name, link)
        settled = settled and not (isinstance(item, h5py.Dataset) and item.is_virtual)
    return settled


def _unreadable(path: Path, reason: str) -> str:
    if "truncated" in reason:
        return f"{path} is truncated: its end is missing; download or generate it again ({reason})"
    if "signature" in reason:
        return f"{path} is not an HDF5 file ({reason})"
    return f"cannot open {path}: {reason}"


def _check_link(file: Any, path: Path, name: str, link: Any) -> Any:
    import h5py

    if isinstance(link, h5py.ExternalLink):
        raise DatasetError(
            f"{path}: {name!r} is an external link to {link.filename!r}; links out of a file are not "
            "followed, copy the data into it (h5repack or h5copy)"
        )
    try:
        item = file[name]
    except (KeyError, RuntimeError, OSError) as error:
        raise DatasetError(f"{path}: {name!r} is a link that leads nowhere or in a circle") from error
    if isinstance(item, h5py.Dataset):
        _check_dataset(item, path)
    return item


def _check_dataset(dataset: Any, path: Path) -> None:

    where = f"{path}: {dataset.name!r}"
    if dataset.external:
        raise DatasetError(
            f"{where} keeps its bytes in another file ({dataset.external[0][0]!r}); such storage is not read"
        )
    if dataset.is_virtual:
        _check_sources(dataset, path)
        return
    if dataset.shape is None or dataset.dtype.hasobject:
        return
    stored = dataset.id.get_storage_size() or _behind_dimension(dataset, path)
    if dataset.nbytes > SMALL and dataset.nbytes > MAX_RATIO * stored:
        raise DatasetError(
            f"{where} declares {dataset.nbytes:,} bytes but only {stored:,} are stored; "
            "the file is unfinished or forged"
        )
    if dataset.chunks is not None:
        chunk = dataset.dtype.itemsize
        for size in dataset.chunks:
            chunk *= size
        if chunk > MAX_CHUNK:
            raise DatasetError(
                f"{where} has chunks of {chunk:,} bytes, more than {MAX_CHUNK:,}; rechunk the file"
            )
        plist = dataset.id.get_create_plist()
        for index in range(plist.get_nfilters()):
            code, _, _, label = plist.get_filter(index)
            if not _filter_available(code):
                raise DatasetError(
                    f"{where} is compressed with filter {code} ({label.decode()!r}), which this HDF5 library "
                    "lacks; pip install hdf5plugin"
                )


def _behind_dimension(dataset: Any, path: Path) -> int:
    """Bytes that a netCDF dimension without coordinates can count: it has none, the variables along it do."""
    import h5py

    if dataset.is_scale and h5py.h5ds.get_scale_name(dataset.id).startswith(NO_COORDINATE.encode()):
        return path.stat().st_size
    return 0


def _filter_available(code: int) -> bool:
    import h5py

    if not h5py.h5z.filter_avail(code):
        with suppress(ImportError):
            import hdf5plugin  # noqa: F401 (registers its filters)
    return h5py.h5z.filter_avail(code)


def _check_sources(dataset: Any, path: Path) -> None:
    # HDF5 fills the part of a missing source with zeros and says nothing.
    root = path.resolve().parent
    stored = {}
    for source in dataset.virtual_sources():
        target = (root / source.file_name).resolve() if source.file_name != "." else path.resolve()
        where = f"{path}: virtual variable {dataset.name!r} takes its values from {source.file_name!r}"
        if not target.is_relative_to(root):
            raise DatasetError(f"{where}, outside of {root}; such files are not read")
        if not target.is_file():
            raise DatasetError(f"{where}, which is missing; put it beside the file")
        stored[target] = target.stat().st_size
    if dataset.nbytes > SMALL and dataset.nbytes > MAX_RATIO * sum(stored.values()):
        raise DatasetError(
            f"{path}: virtual variable {dataset.name!r} declares {dataset.nbytes:,} bytes but its sources "
            f"have only {sum(stored.values()):,}; the file is unfinished or forged"
        )
