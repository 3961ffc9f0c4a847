"""Solving from a user's own initial condition."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch

from pde_data.equations.base import Evolution

Values = TypeVar("Values", np.ndarray, torch.Tensor, Mapping[str, np.ndarray], Mapping[str, torch.Tensor])

# What the initial values and the times decide.
_DECIDED = ("resolution", "solve_resolution", "dimensions", "t_end", "records", "burn_in", "dtype")


def simulate(equation: str, initial: Values, times: Sequence[float], **parameters: Any) -> Values:
    """Solution of an equation at exactly ``times``, from the given initial values at time 0.

    ``initial`` is ``(sample, *space)``, float32 or float64, a NumPy array or a tensor on any device; the
    result is of the same kind and dtype, ``(sample, time, *space)``. An equation of several variables takes
    and returns a dict of them by name. The grid is that of ``initial`` on the domain of the equation; other
    ``parameters`` are its fields. Spectral methods cut the initial values to the modes that they keep, also
    in a frame at time 0.

    >>> w0 = np.zeros((1, 16, 16))
    >>> simulate("navier_stokes", w0, times=[0.5, 1.0], viscosity=1e-3, forcing="fno").shape
    (1, 2, 16, 16)

    Raises ``ValueError`` for unknown equations and parameters, times that do not increase or are negative,
    shapes that do not fit, a forcing that the grid does not resolve, values that are not finite or for which
    there is no solution, and ``TypeError`` for other dtypes and things that are no arrays.
    """
    from pde_data.equations import EQUATIONS

    known = {name: cls for name, cls in EQUATIONS.items() if issubclass(cls, Evolution)}
    if equation not in known:
        raise ValueError(f"equation={equation!r} cannot be simulated: choose one of {', '.join(known)}")
    for name in _DECIDED:
        if name in parameters:
            raise ValueError(
                f"{name}={parameters[name]!r}: simulate takes the grid and the dtype from the initial values "
                "and the frames from times; leave it out"
            )
    steps = np.asarray(times, dtype=np.float64)
    if steps.ndim != 1 or steps.size == 0 or steps[0] < 0 or np.any(np.diff(steps) <= 0):
        raise ValueError(f"times={times!r} must increase strictly and not be negative")
    given = initial if isinstance(initial, Mapping) else {"": initial}
    fields = {name: _tensor(values) for name, values in given.items()}
    shapes = {tuple(values.shape) for values in fields.values()}
    if len(shapes) != 1 or not 2 <= len(shape := shapes.pop()) <= 4 or min(shape[1:]) < 4:
        found = ", ".join(str(tuple(values.shape)) for values in fields.values())
        raise ValueError(
            f"initial values of shape {found}: expected (sample, *space), at least 4 points along each axis"
        )
    if "dimensions" in (field.name for field in dataclasses.fields(known[equation])):  # type: ignore[arg-type]
        parameters["dimensions"] = len(shape) - 1
    settings = known[equation].from_parameters(
        resolution=max(shape[1:]), t_end=float(steps[-1]) or 1.0, **parameters
    )
    names = [name for name in settings.variables if name not in settings.derived]
    if set(fields) == {""} and len(names) == 1:
        fields = {names[0]: fields[""]}
    if set(fields) != set(names):
        raise ValueError(f"{equation} starts from {', '.join(names)}: give a dict of their initial values")
    if len(shape) - 1 != settings.grid.ndim:
        raise ValueError(
            f"initial values of shape {shape}: expected {settings.grid.ndim} axes of space after the samples"
        )
    for name, values in fields.items():
        if not bool(torch.isfinite(values).all()):
            raise ValueError(f"initial values of {name} contain NaN or infinity")
    settings.check_initial(fields)
    frames = list(settings.solve(fields, steps.tolist()))
    result = {name: torch.stack([frame[name] for frame in frames], dim=1) for name in settings.variables}
    if any(isinstance(values, np.ndarray) for values in given.values()):
        result = {name: values.numpy() for name, values in result.items()}
    return result if isinstance(initial, Mapping) else result[names[0]]  # pyright: ignore[reportReturnType]


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
