"""neuraloperator's `.pt` sets: a pickled dict of tensors `x` (input) and `y` (solution).

Darcy flow, Navier-Stokes and Burgers sets come so (zenodo.org/records/12784353, 12825163). They carry no
coordinates. In the Darcy files entry `[i, j]` sits at `(i/n, j/n)`: `darcy_test_16` is every second node of
`darcy_test_32` from the first on, and the pressure, zero on the whole boundary, nearly vanishes at index 0
and is that of a point 1/n inside at the last index. So nodes are at i/n, with the far end of [0, 1] left
out, and the box is not periodic.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pde_data.formats.recognition import Verdict
from pde_data.storage import DatasetError, Schema, Variable

if TYPE_CHECKING:
    import torch

_LONG_NAMES = {"x": "input field", "y": "solution field"}


def recognises(path: Path) -> Verdict:
    """Whether the file is a zip archive as `torch.save` writes it."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return Verdict(False, "no zip archive")
    try:
        with zipfile.ZipFile(path) as archive:
            found = any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        return Verdict(False, f"a damaged zip archive ({error})")
    return Verdict(found, f"zip archive {'with' if found else 'without'} a data.pkl")


def read(path: Path) -> Schema:
    """Describe the file as `x(sample, x1[, x2[, x3]])` and `y`, with a `time` axis where it has one more.

    Singleton channel axes are dropped, booleans become 0 and 1 in float32. Where `x` and `y` differ in their
    number of channels, those of several become `x_0`, `x_1`, ... Raises `DatasetError` for files that are
    damaged or hold anything but such tensors of real numbers.
    """
    content = _tensors(path)
    x, y = content["x"], content["y"]
    channels = {"x": False, "y": False}
    if x.ndim == y.ndim > 2 and x.shape[1] != y.shape[1]:
        channels = {"x": True, "y": True}
    else:
        x, y = _squeeze(x), _squeeze(y)
        channels["x"] = x.ndim == y.ndim + 1
    space = x.shape[1 + channels["x"] :]
    times = y.ndim - 1 - channels["y"] - len(space)
    same = len(x) == len(y) and y.shape[y.ndim - len(space) :] == space and times in (0, 1)
    if not same or 0 in y.shape:
        raise DatasetError(
            f"{path}: x has shape {tuple(content['x'].shape)}, y {tuple(content['y'].shape)}; no match"
        )
    axes = tuple(f"x{axis + 1}" for axis in range(len(space)))
    variables = {"sample": Variable(("sample",), np.arange(len(x)), {"long_name": "sample number"})}
    if times:
        attributes = {"units": "1", "long_name": "record number"}
        variables["time"] = Variable(("time",), np.arange(y.shape[1], dtype=float), attributes)
    for dim, size in zip(axes, space):
        attributes = {"units": "1", "long_name": f"position along {dim}", "boundary": "bounded"}
        variables[dim] = Variable((dim,), np.arange(size) / size, attributes)
    roles = {}
    for role, name, values in (("inputs", "x", x), ("targets", "y", y)):
        dims = ("sample", *(("time",) if times and name == "y" else ()), *axes)
        parts = _split(name, values) if channels[name] else {name: values}
        for part, tensor in parts.items():
            attributes = {"units": "1", "long_name": part.replace(name, _LONG_NAMES[name]).replace("_", " ")}
            variables[part] = Variable(dims, tensor.float().numpy(), attributes)
        roles[role] = " ".join(parts)
    return Schema(variables, {"source": "neuraloperator .pt", "title": path.stem, **roles})


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    import torch

    _check_sums(path)
    try:
        # Never anything but tensors: a full unpickling runs whatever code the file names.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # what a damaged pickle ends in depends on the byte that is wrong
        # The cause is left out: torch's advice there is to allow everything.
        raise DatasetError(
            f"cannot read {path} as tensors alone: it is damaged, or holds other objects, which are not read "
            "because that can run code hidden in the file; download it again, or save a dict of tensors"
        ) from None
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), torch.Tensor) for key in ("x", "y")
    ):
        held = list(content) if isinstance(content, dict) else type(content).__name__
        raise DatasetError(f"{path} should hold a dict with tensors 'x' and 'y', it holds {held}")
    for key in ("x", "y"):
        tensor = content[key]
        if tensor.is_complex() or tensor.is_quantized or tensor.is_meta or tensor.layout != torch.strided:
            kind = f"{tensor.dtype}, {tensor.layout}"
            raise DatasetError(
                f"{path}: {key!r} is a tensor of {kind}, expected dense real numbers; save real and "
                "imaginary parts as two channels"
            )
        if tensor.ndim < 2:
            raise DatasetError(
                f"{path}: {key!r} has shape {tuple(tensor.shape)}, expected (sample, [channel,] *space)"
            )
    return {key: content[key].detach() for key in ("x", "y")}


def _check_sums(path: Path) -> None:
    """Compare each part of the archive with its CRC-32, which torch does not."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # zipfile and zlib have exceptions of their own
        raise DatasetError(f"{path} is damaged ({error}); download it again") from error
    if damaged is not None:
        raise DatasetError(
            f"{path} is damaged: the checksum of {damaged!r} differs; download it again, or write it again "
            "with torch.save, where it was written without checksums"
        )


def _squeeze(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.squeeze(1) if tensor.ndim > 2 and tensor.shape[1] == 1 else tensor


def _split(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    if tensor.shape[1] == 1:
        return {name: tensor[:, 0]}
    return {f"{name}_{channel}": part for channel, part in enumerate(tensor.unbind(1))}
