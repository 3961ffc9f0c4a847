"""neuraloperator's pickled dicts of tensors."""

import numpy as np
import torch
import xarray as xr

from tests.writers import Case

N = 3
ONE = {"units": "1"}


def darcy(path, rng):
    """A boolean coefficient and the pressure; nodes at i/n of a box that is not periodic."""
    x, y = rng.random((N, 8, 6)) > 0.5, rng.standard_normal((N, 8, 6)).astype(np.float32)
    torch.save({"x": torch.from_numpy(x), "y": torch.from_numpy(y)}, path)
    axis = {**ONE, "boundary": "bounded"}
    dims = ("sample", "x1", "x2")
    return xr.Dataset(
        {"x": (dims, x.astype(np.float32), ONE), "y": (dims, y, ONE)},
        {"sample": np.arange(N), "x1": ("x1", np.arange(8) / 8, axis), "x2": ("x2", np.arange(6) / 6, axis)},
        {"inputs": "x", "targets": "y"},
    )


def burgers(path, rng):
    x, y = (rng.standard_normal(shape).astype(np.float32) for shape in ((N, 7), (N, 5, 7)))
    torch.save({"x": torch.from_numpy(x), "y": torch.from_numpy(y)}, path)
    return xr.Dataset(
        {"x": (("sample", "x1"), x, ONE), "y": (("sample", "time", "x1"), y, ONE)},
        {"sample": np.arange(N), "time": ("time", np.arange(5.0), ONE), "x1": ("x1", np.arange(7) / 7, ONE)},
        {"inputs": "x", "targets": "y"},
    )


CASES = (
    Case("neuraloperator Darcy", darcy, "darcy_test_16.pt"),
    Case("neuraloperator Burgers", burgers, "burgers_train_16.pt"),
)
