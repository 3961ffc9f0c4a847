"""A look at the elements of a MATLAB v5 file, before SciPy reads them: a wrong type or size makes it crash.

The format: "MAT-File Format", The MathWorks, chapter 1.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import IO, Literal, final

from pde_data.safety import MAX_RATIO
from pde_data.storage import DatasetError

_COMPRESSED, _MATRIX, _UINT32, _INT32, _INT8 = 15, 14, 6, 5, 1
_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}  # bytes of the types of numbers
_NUMBERS = range(6, 16)  # classes of matrices of numbers
_COMPLEX = 1 << 11
_MOST_AXES = 32
_BLOCK = 2**16

_Order = Literal["little", "big"]


@final
class _Bytes:
    """The bytes of an element, inflated on the way where it is compressed."""

    def __init__(self, file: IO[bytes], size: int, compressed: bool):
        self._file = file
        self._left = size
        self._inflate = zlib.decompressobj() if compressed else None
        self._ready = b""

    def read(self, count: int) -> bytes:
        """So many bytes; `ValueError` when there are fewer."""
        while len(self._ready) < count:
            self._ready += self._more()
        taken, self._ready = self._ready[:count], self._ready[count:]
        return taken

    def skip(self, count: int) -> None:
        """Leave bytes out."""
        if self._inflate is None:
            beyond = count - len(self._ready)
            self._ready = self._ready[count:]
            if beyond > self._left:
                raise ValueError("an element is longer than the variable that holds it")
            if beyond > 0:
                self._file.seek(beyond, 1)
                self._left -= beyond
            return
        while count:
            count -= len(self.read(min(count, _BLOCK)))

    def _more(self) -> bytes:
        pending = self._inflate.unconsumed_tail if self._inflate else b""
        if not pending:
            if not self._left:
                raise ValueError("a variable ends too early")
            pending = self._file.read(min(_BLOCK, self._left))
            self._left -= len(pending)
        return self._inflate.decompress(pending, _BLOCK) if self._inflate else pending


def check(path: Path, order: _Order) -> None:
    """Raise `DatasetError` for elements whose types or sizes are wrong, or more than the file can back.

    `order` is the order of bytes, "little" or "big".
    """
    end = path.stat().st_size
    with path.open("rb") as file:
        place = 128
        while place + 8 <= end:
            file.seek(place)
            tag = file.read(8)
            kind, size = (int.from_bytes(tag[at : at + 4], order) for at in (0, 4))
            if kind not in (_COMPRESSED, _MATRIX):
                raise DatasetError(
                    f"{path}: the element at byte {place} is of unknown kind {kind}; it is damaged"
                )
            if place + 8 + size > end:
                raise DatasetError(
                    f"{path} is truncated: the variable at byte {place} has {size:,} bytes, of which "
                    f"{end - place - 8:,} are there; download or write it again"
                )
            try:
                _check_variable(file, size, kind == _COMPRESSED, order)
            except (ValueError, zlib.error) as error:
                raise DatasetError(
                    f"{path}: the variable at byte {place} is damaged ({error}); download or write it again"
                ) from error
            place += 8 + size


def _check_variable(file: IO[bytes], size: int, compressed: bool, order: _Order) -> None:
    stream = _Bytes(file, size, compressed)
    if compressed:
        kind, inflated, _ = _tag(stream, order)
        if kind != _MATRIX:
            raise ValueError(f"it holds an element of kind {kind}")
        if inflated > MAX_RATIO * (size + 8):
            raise ValueError(f"it declares {inflated:,} bytes but only {size:,} are stored")
        size = inflated
    flags = int.from_bytes(_data(stream, order, _UINT32, 8, 8)[:4], order)
    dims = _data(stream, order, _INT32, 8, 4 * _MOST_AXES)
    shape = [int.from_bytes(dims[at : at + 4], order, signed=True) for at in range(0, len(dims), 4)]
    _data(stream, order, _INT8, 0, 4096)
    if flags & 0xFF in _NUMBERS:
        for part in range(2 if flags & _COMPLEX else 1):
            kind, length, small = _tag(stream, order)
            if length != math.prod(shape) * _SIZES.get(kind, -1) or length > size:
                raise ValueError(f"{length:,} bytes of kind {kind} for numbers of shape {tuple(shape)}")
            if small is None and flags & _COMPLEX and part == 0:
                stream.skip(length + -length % 8)


def _tag(stream: _Bytes, order: _Order) -> tuple[int, int, bytes | None]:
    """Kind and size of an element, and its data when they are so few that they stand in the tag."""
    tag = stream.read(8)
    first = int.from_bytes(tag[:4], order)
    if first >> 16:
        return first & 0xFFFF, min(first >> 16, 4), tag[4:]
    return first, int.from_bytes(tag[4:], order), None


def _data(stream: _Bytes, order: _Order, kind: int, least: int, most: int) -> bytes:
    """Data of a short element of a known kind."""
    found, size, small = _tag(stream, order)
    if found != kind or not least <= size <= most:
        raise ValueError(f"an element of kind {found} and {size:,} bytes, where kind {kind} belongs")
    if small is not None:
        return small[:size]
    data = stream.read(size)
    stream.skip(-size % 8)
    return data
