"""Sets of images for flows: scikit-learn's digits, and IDX files such as those of MNIST."""

import gzip
import math
import struct
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

DIGITS = "digits"
"""The name of scikit-learn's 1797 digits of 8 x 8 pixels in 17 shades, in the place of a file."""

_LARGEST = 2**31  # bytes that an IDX file may announce


class ImageSet(TensorDataset):
    """Pairs of label `(1,)` and image `(channels, rows, columns)`, integers as floating-point numbers.

    Args:
        name: where they come from.
        labels: `(sample,)`.
        images: `(sample, channels, rows, columns)`, uint8.
        bins: number of values of a pixel.
    """

    input_names, target_names = ("label",), ("image",)

    def __init__(self, name: str, labels: Tensor, images: Tensor, bins: int):
        super().__init__(labels[:, None].float(), images.float())
        self.name, self.bins = name, bins


def is_images(source: str | Path) -> bool:
    """Say whether a source of data is one of images, by its name."""
    name = Path(source).name.removesuffix(".gz")
    return str(source) == DIGITS or name.endswith(("-idx3-ubyte", ".idx3-ubyte"))


def open_images(source: str | Path, part: str | None = None) -> ImageSet:
    """Open a set of images, or its "train", "valid" or "test" part.

    The last 297 of the digits, or the last fifth of the images of a file, are for testing; the last tenth of
    the rest is for validation.

    Args:
        source: "digits", or an IDX file of images, plain or compressed, with the labels beside it
            (`...-labels-idx1-ubyte` for `...-images-idx3-ubyte`); without them all labels are zero.
        part: all when None.

    Raises:
        ValueError: the file is damaged, or images and labels do not belong together.
        FileNotFoundError: there is no such file.
    """
    labels, images, bins = _digits() if str(source) == DIGITS else _mnist(Path(source))
    test = 297 if str(source) == DIGITS else len(images) // 5
    train = (len(images) - test) * 9 // 10
    stop = {
        None: slice(None),
        "train": slice(train),
        "valid": slice(train, -test),
        "test": slice(-test, None),
    }
    return ImageSet(str(source), labels[stop[part]], images[stop[part]], bins)


def _digits() -> tuple[Tensor, Tensor, int]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ValueError(
            "the digits come with scikit-learn: pip install scikit-learn, or give --data FILE"
        ) from error
    found: Any = load_digits()
    images = torch.from_numpy(found.images).to(torch.uint8)[:, None]
    return torch.from_numpy(found.target), images, 17


def _mnist(path: Path) -> tuple[Tensor, Tensor, int]:
    images = read_idx(path)
    beside = path.with_name(path.name.replace("images", "labels").replace("idx3", "idx1"))
    labels = read_idx(beside) if beside != path and beside.is_file() else torch.zeros(len(images))
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{path} holds an array of shape {tuple(images.shape)} and its labels one of "
            f"{tuple(labels.shape)}; expected (sample, rows, columns) and (sample,)"
        )
    return labels.long(), images[:, None], 256


def read_idx(path: Path) -> Tensor:
    """Read an array of bytes in the IDX format, gzipped where the name ends in .gz.

    Raises:
        ValueError: the file does not hold what its header says.

    Source: LeCun, Cortes and Burges, the MNIST database, 1998.
    """
    opened: Any = gzip.open(path) if path.suffix == ".gz" else open(path, "rb")
    with opened as file:
        try:
            return _read_idx(file, path)
        except (EOFError, gzip.BadGzipFile, struct.error, OSError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error


def _read_idx(file: BinaryIO, path: Path) -> Tensor:
    zero, kind, axes = struct.unpack(">HBB", file.read(4))
    if zero != 0 or kind != 8 or not 1 <= axes <= 4:
        raise ValueError(f"{path} is no IDX file of unsigned bytes")
    shape = struct.unpack(f">{axes}I", file.read(4 * axes))
    size = math.prod(shape)
    if size > _LARGEST:
        raise ValueError(f"{path} announces {size} bytes, more than the {_LARGEST} that are read")
    data = bytearray()
    while len(data) <= size and (block := file.read(min(2**20, size + 1 - len(data)))):
        data += block  # grows with what is there, whatever the header promises
    if len(data) != size:
        more = "more" if len(data) > size else f"{len(data)}"
        raise ValueError(f"{path} announces {size} bytes and holds {more}")
    return torch.frombuffer(data, dtype=torch.uint8).view(shape) if size else torch.zeros(shape)
