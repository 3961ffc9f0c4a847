"""Solving from a user's own initial condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from pde_data.equations.navier_stokes import NavierStokes, NavierStokesSolver
from pde_data.grids import Grid

Values = TypeVar("Values", np.ndarray, torch.Tensor)

# What the initial values and the times decide.
_DECIDED = ("resolution", "solve_resolution", "t_end", "records", "dtype")


def simulate(equation: str, initial: Values, times: Sequence[float], **parameters: Any) -> Values:
    """Solution of an equation at exactly ``times``, from the given initial values at time 0.

    ``initial`` is ``(sample, x, y)``, float32 or float64, a NumPy array or a tensor on any device; the result
    is of the same kind and dtype, ``(sample, time, x, y)``. The grid is that of ``initial`` on a periodic
    box of side ``length``; other ``parameters`` are the fields of the equation. The 2/3 rule truncates the
    initial values, also in a frame at time 0.

    >>> w0 = np.zeros((1, 16, 16))
    >>> simulate("navier_stokes", w0, times=[0.5, 1.0], viscosity=1e-3, forcing="fno").shape
    (1, 2, 16, 16)

    Raises ``ValueError`` for unknown equations and parameters, times that do not increase or are negative,
    shapes that do not fit, a forcing that the grid does not resolve, values that are not finite or a mean
    that is not zero, and ``TypeError`` for other dtypes and things that are no arrays.
    """
    if equation != NavierStokes.name:
        raise ValueError(f"equation={equation!r} cannot be simulated: choose {NavierStokes.name!r}")
    for name in _DECIDED:
        if name in parameters:
            raise ValueError(
                f"{name}={parameters[name]!r}: simulate takes the grid and the dtype from the initial values "
                "and the frames from times; leave it out"
            )
    w0 = _tensor(initial)
    if w0.ndim != 3 or min(w0.shape[1:]) < 4:
        raise ValueError(
            f"initial values of shape {tuple(w0.shape)}: expected (sample, x, y), at least 4x4 points"
        )
    if not bool(torch.isfinite(w0).all()):
        raise ValueError("initial values contain NaN or infinity")
    mean, size = w0.mean(dim=(1, 2)).abs(), w0.abs().amax(dim=(1, 2))
    if bool((mean > 1e-4 * size).any()):
        raise ValueError(
            f"vorticity on a periodic box must have mean zero, got a mean of {float(mean.max()):.3g}: "
            "subtract the mean of each sample"
        )
    steps = np.asarray(times, dtype=np.float64)
    if steps.ndim != 1 or steps.size == 0 or steps[0] < 0 or np.any(np.diff(steps) <= 0):
        raise ValueError(f"times={times!r} must increase strictly and not be negative")
    end = float(steps[-1]) or 1.0
    settings = NavierStokes.from_parameters(resolution=max(w0.shape[1:]), t_end=end, **parameters)
    grid = Grid(tuple(w0.shape[1:]), lengths=settings.length)
    solver = NavierStokesSolver(settings, grid, w0.dtype, w0.device)
    result = torch.stack([w for w, _ in solver(w0, steps.tolist())], dim=1)
    return result.numpy() if isinstance(initial, np.ndarray) else result  # pyright: ignore[reportReturnType]


def _tensor(initial: Any) -> torch.Tensor:
    dtype = getattr(initial, "dtype", None)
    if isinstance(initial, torch.Tensor) and dtype in (torch.float32, torch.float64):
        return initial.detach()
    if isinstance(initial, np.ndarray) and initial.dtype.kind == "f" and initial.dtype.itemsize in (4, 8):
        # A copy: torch takes no negative strides, no foreign byte order, and warns of read-only memory.
        return torch.from_numpy(np.array(initial, initial.dtype.newbyteorder("="), order="C"))
    raise TypeError(
        "initial values must be a NumPy array or tensor of float32 or float64, got "
        f"{type(initial).__name__}{'' if dtype is None else f' of {dtype}'}"
    )
