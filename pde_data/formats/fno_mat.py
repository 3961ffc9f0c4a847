"""The MATLAB files of the Fourier neural operator papers: vorticity, Darcy flow and Burgers' equation.

Vorticity (`NavierStokes_V1e-5_N1200_T20` and its kin, and those of G-FNO): `u (N, x, y, T)` on [0, 1)^2
without the far end, `a (N, x, y)` the vorticity at time 0, `t (1, T)`. `u` begins one record after `a`, so
`a` is put in front of it as the frame at time 0, provided that `t` says so: it begins at its own step. G-FNO
thins out `u` by 4 in time but not `t`, which is repaired by taking every 4th entry from the first on (1/4,
5/4, ...); such a `u` does not continue `a`, and `a` stays a variable of its own, `initial_vorticity`.

Darcy (`piececonst_r421_N1024_smooth1`): `coeff`, `sol (N, x, y)` on [0, 1]^2 with both ends, and the features
`Kcoeff`, `Kcoeff_x`, `Kcoeff_y`. Burgers (`burgers_data_R10`): `a`, `u (N, x)` on [0, 1) and features.

The viscosity stands in the names of the vorticity files alone (`V1e-5`), and is taken from there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pde_data.arrays import FieldArray
from pde_data.composed import DerivedArray, reordered
from pde_data.formats import axes, matlab
from pde_data.formats.recognition import Verdict
from pde_data.grids import Grid
from pde_data.sources import coordinate_variables
from pde_data.storage import DatasetError, Schema, Variable

_LONG_NAMES = {
    "coeff": "diffusion coefficient",
    "sol": "solution, zero on the boundary",
    "Kcoeff": "smoothed coefficient",
    "Kcoeff_x": "derivative of the smoothed coefficient along x",
    "Kcoeff_y": "derivative of the smoothed coefficient along y",
    "a": "initial value",
    "u": "solution at time 1",
    "a_smooth": "smoothed initial value",
    "a_smooth_x": "derivative of the smoothed initial value",
    "a_x": "derivative of the initial value",
}


def recognises(path: Path) -> Verdict:
    """Whether this is a MATLAB file with the variables of one of the three families, in their shapes."""
    shapes = matlab.contents(path)
    if shapes is None:
        return Verdict(False, "no MATLAB file")
    family = _family(shapes)
    held = matlab.listed(shapes)
    if family is None:
        return Verdict(
            False, f"neither u (N,n,n,T), nor coeff and sol (N,n,n), nor a and u (N,n), but {held}"
        )
    return Verdict(True, f"the variables of the {family} files: {held}")


def read(path: Path) -> Schema:
    """Describe `vorticity(sample, time, x, y)`, `coeff` and `sol(sample, x, y)`, or `a` and `u(sample, x)`.

    Raises `DatasetError` when `t` and `u` have lengths of which one is no multiple of the other.
    """
    arrays = matlab.variables(path)
    family = _family({name: array.shape for name, array in arrays.items()})
    attributes: dict[str, Any] = {"source": f"FNO {family} file for MATLAB", "title": path.stem}
    if family == "vorticity":
        return _vorticity(path, arrays, attributes)
    if family == "Darcy":
        names, roles, periodic = [n for n in arrays if n in _LONG_NAMES], ("coeff", "sol"), False
    else:
        names, roles, periodic = [n for n in arrays if n in _LONG_NAMES], ("a", "u"), True
    shape = arrays[roles[0]].shape
    grid = Grid(shape[1:], periodic=periodic)
    space = ("x", "y")[: grid.ndim]
    fields = {
        name: Variable(("sample", *space), arrays[name], {"units": "1", "long_name": _LONG_NAMES[name]})
        for name in names
        if arrays[name].shape == shape
    }
    return Schema(
        {**axes.samples(shape[0]), **coordinate_variables(grid, space), **fields},
        {**attributes, "inputs": roles[0], "targets": roles[1]},
    )


def _family(shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    u, a, coeff = (shapes.get(name, ()) for name in ("u", "a", "coeff"))
    if len(u) == 4 and u[1] == u[2] > 1 and a in ((), u[:3]):
        return "vorticity"
    if len(coeff) == 3 and coeff[1] == coeff[2] > 1 and shapes.get("sol") == coeff:
        return "Darcy"
    if len(u) == 2 and u == a and u[1] > 1 and not {"x", "t"} & set(shapes):
        return "Burgers"
    return None


def _vorticity(path: Path, arrays: Mapping[str, FieldArray], attributes: dict[str, Any]) -> Schema:
    u = reordered(arrays["u"], (0, 3, 1, 2))
    count, frames, *space = u.shape
    initial = {"units": "1", "long_name": "vorticity at time 0"}
    grid = Grid(tuple(space))
    time = {"units": "1", "long_name": "time"}
    variables = {}
    if "t" in arrays:
        times = _times(path, np.asarray(arrays["t"][:], np.float64).reshape(-1), frames)
        if "a" in arrays and _continues(times):
            shape = (1 + frames, *space)
            dtype = np.result_type(arrays["a"].dtype, u.dtype)
            u, times = DerivedArray([arrays["a"], u], _in_front, shape, dtype), np.concatenate([[0.0], times])
        elif "a" in arrays:
            variables["initial_vorticity"] = Variable(("sample", "x", "y"), arrays["a"], initial)
    else:
        times, time = np.arange(1.0, 1 + frames), {"units": "1", "long_name": "record number"}
        if "a" in arrays:
            variables["initial_vorticity"] = Variable(("sample", "x", "y"), arrays["a"], initial)
    described = {"units": "1", "long_name": "vorticity"}
    named = re.search(r"_V(\d[\d.]*(?:e-?\d+)?)_", path.stem)
    if named:
        attributes |= {"viscosity": float(named[1]), "viscosity_from": "file name"}
    return Schema(
        {
            **axes.samples(count),
            "time": Variable(("time",), times, time),
            **coordinate_variables(grid, ("x", "y")),
            "vorticity": Variable(("sample", "time", "x", "y"), u, described),
            **variables,
        },
        {**attributes, "inputs": "vorticity"},
    )


def _times(path: Path, times: np.ndarray, frames: int) -> np.ndarray:
    stride, rest = divmod(len(times), frames)
    if rest or not stride:
        raise DatasetError(
            f"{path}: 't' has {len(times)} entries and 'u' {frames} frames, and no stride makes them agree; "
            "the file was cut or put together from two"
        )
    return times[::stride]


def _continues(times: np.ndarray) -> bool:
    """Whether the first frame comes one step after time 0, and all are as far apart."""
    steps = np.diff(times, prepend=0.0)
    return bool(times[0] > 0 and np.allclose(steps, steps[0], rtol=1e-3))


def _in_front(first: np.ndarray, rest: np.ndarray) -> np.ndarray:
    return np.concatenate([first[None], rest])
