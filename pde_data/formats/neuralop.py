"""neuraloperator's `.pt` sets: a pickled dict of tensors `x` (input) and `y` (solution).

Darcy flow, Navier-Stokes and Burgers sets come so (zenodo.org/records/12784353, 12825163). They carry no
coordinates. In the Darcy files entry `[i, j]` sits at `(i/n, j/n)`: `darcy_test_16` is every second node of
`darcy_test_32` from the first on, and the pressure, zero on the whole boundary, nearly vanishes at index 0
and is that of a point 1/n inside at the last index. So nodes are at i/n, with the far end of [0, 1] left
out, and the box is not periodic.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np

from pde_data.storage import DatasetError, Schema, Variable

_LONG_NAMES = {"x": "input field", "y": "solution field"}


def recognises(path: Path) -> bool:
    """Whether the file is a zip archive as `torch.save` writes it."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("data.pkl") for name in archive.namelist())


def read(path: Path) -> Schema:
    """Describe the file as `x(sample, x1[, x2[, x3]])` and `y`, with a `time` axis where the file has one.

    Singleton channel axes are dropped; booleans become 0 and 1 in float32.
    """
    import torch

    try:
        # Never anything but tensors: a full unpickling runs whatever code the file names.
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        raise DatasetError(f"cannot read {path} as tensors alone: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), torch.Tensor) for key in ("x", "y")
    ):
        held = list(content) if isinstance(content, dict) else type(content).__name__
        raise DatasetError(f"{path} should hold a dict with tensors 'x' and 'y', it holds {held}")
    x, y = _squeeze(content["x"]), _squeeze(content["y"])
    space = tuple(f"x{axis + 1}" for axis in range(x.ndim - 1))
    if len(x) != len(y) or y.shape[y.ndim - len(space) :] != x.shape[1:] or y.ndim - x.ndim not in (0, 1):
        raise DatasetError(
            f"{path}: x has shape {tuple(content['x'].shape)}, y {tuple(content['y'].shape)}; no match"
        )
    time = ("time",) if y.ndim > x.ndim else ()
    variables = {"sample": Variable(("sample",), np.arange(len(x)), {"long_name": "sample number"})}
    if time:
        variables["time"] = Variable(time, np.arange(y.shape[1], dtype=float), {"long_name": "record number"})
    for dim, size in zip(space, x.shape[1:]):
        attributes = {"units": "1", "long_name": f"position along {dim}", "boundary": "bounded"}
        variables[dim] = Variable((dim,), np.arange(size) / size, attributes)
    for name, values, dims in (("x", x, ("sample", *space)), ("y", y, ("sample", *time, *space))):
        attributes = {"units": "1", "long_name": _LONG_NAMES[name]}
        variables[name] = Variable(dims, values.to(torch.float32).numpy(), attributes)
    roles = {"inputs": "x", "targets": "y"}
    return Schema(variables, {"source": "neuraloperator .pt", "title": path.stem, **roles})


def _squeeze(tensor):
    return tensor.squeeze(1) if tensor.ndim > 2 and tensor.shape[1] == 1 else tensor
