"""From a described source to what `FieldDataset` needs: names, grid, arrays, and the samples it uses."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, cast

import numpy as np

from pde_data import ugrid
from pde_data.arrays import FieldArray, MappedArray, MemoryArray
from pde_data.grids import Grid, resample
from pde_data.sphere import WEIGHTS, SphereGrid
from pde_data.splits import split_mask
from pde_data.storage import DatasetError, Schema, Variable


def describe(source: Any) -> tuple[Schema, str]:
    """Schema and display name of a path, an `xarray.Dataset` or a schema."""
    if isinstance(source, Schema):
        return source, "the data set"
    if isinstance(source, str | os.PathLike):
        from pde_data.formats import read

        return read(source), os.fspath(source)
    if hasattr(source, "data_vars"):
        from pde_data.view import from_xarray

        return from_xarray(source), "the xarray.Dataset"
    raise TypeError(
        f"expected a path or an xarray.Dataset, got {type(source).__name__}; arrays go to from_arrays"
    )


def field_names(schema: Schema, inputs: Any, targets: Any, where: str) -> tuple[list[str], list[str]]:
    """Names of inputs and targets, with defaults, each checked to be a field."""
    fields = schema.fields or ugrid.fields(schema)
    if inputs is None:
        inputs = _recommended(schema, "inputs") or (list(fields) if len(fields) == 1 else None)
        if targets is None:
            targets = _recommended(schema, "targets")
    if inputs is None:
        raise DatasetError(
            f"{where} has several fields, choose inputs (and targets) among {', '.join(fields)}"
        )
    chosen = _listed(inputs)
    wanted = chosen if targets is None else _listed(targets)
    for name in (*chosen, *wanted):
        if name not in fields:
            near = get_close_matches(name, fields, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DatasetError(f"{where} has no field {name!r}; it has {', '.join(fields)}{hint}")
    static = [name for name in chosen if "time" not in fields[name].dims]
    if targets is None and static:
        raise DatasetError(
            f"{where}: {static[0]!r} has no time axis, so name targets as well; there is {', '.join(fields)}"
        )
    return chosen, wanted


def _recommended(schema: Schema, role: str) -> list[str] | None:
    """Names in a global attribute, with spaces between them as in other lists of the CF conventions."""
    names = schema.attributes.get(role, "")
    listed = names.split() if isinstance(names, str) else list(np.ravel(names))
    return listed if listed and all(isinstance(name, str) for name in listed) else None


def _listed(names: str | Sequence[str]) -> list[str]:
    listed = [names] if isinstance(names, str) else list(names)
    if not listed:
        raise ValueError("inputs and targets need at least one variable each")
    return listed


def common_dims(schema: Schema, names: list[str], where: str) -> tuple[str, ...]:
    """Dimensions that all the fields share; `DatasetError` when they lie on different grids or times."""
    if ugrid.is_mesh(schema):
        raise DatasetError(f"{where} has a mesh for each sample; read it with pde_data.MeshDataset")
    first = schema.fields[names[0]]
    if first.dims[0] != "sample" or ("time" in first.dims and first.dims[1] != "time"):
        raise DatasetError(f"{where}: {names[0]!r} has axes {first.dims}, expected (sample[, time], *space)")
    for name in names[1:]:
        other = schema.fields[name]
        if ("time" in other.dims) != ("time" in first.dims):
            static, moving = sorted((names[0], name), key=lambda n: "time" in schema.fields[n].dims)
            dim = len(schema.fields[static].dims) - 1
            raise DatasetError(
                f"{where}: {static!r} has no time axis but {moving!r} has one; to learn a whole trajectory, "
                "take its frames as channels: ds = pde_data.open(...); FieldDataset.from_arrays("
                f"inputs=ds[{static!r}], targets=ds[{moving!r}], dim={dim})"
            )
        if other.dims != first.dims or other.values.shape != first.values.shape:
            raise DatasetError(
                f"{where}: {name!r} has shape {dict(zip(other.dims, other.values.shape))} but {names[0]!r} "
                f"{dict(zip(first.dims, first.values.shape))}; fields of one set need one grid"
            )
    return first.dims


def coordinate_variables(grid: Grid, names: Sequence[str] | None = None) -> dict[str, Variable]:
    """Coordinates of a grid as variables whose attributes let `grid_of` rebuild it exactly."""
    axes = grid.coordinate_attributes(names or space_names(grid.ndim))
    return {name: Variable((name,), values, attributes) for name, (values, attributes) in axes.items()}


def space_names(ndim: int) -> tuple[str, ...]:
    """Names of the space axes of our files."""
    return ("x", "y", "z")[:ndim]


def grid_of(schema: Schema, space: Sequence[str], where: str) -> Grid:
    """Grid of the space dimensions, from their coordinates; without coordinates, the periodic unit box."""
    sizes = schema.sizes
    axes = [schema.variables[dim] for dim in space if dim in schema.variables]
    if len(axes) < len(space):
        return Grid(tuple(sizes[dim] for dim in space))
    attributes = [axis.attributes for axis in axes]
    if [a.get("standard_name") for a in attributes] == ["latitude", "longitude"]:
        return _sphere(schema, axes, where)
    periodic = tuple(a.get("boundary") == "periodic" for a in attributes)
    try:
        if all("grid_location" in a for a in attributes):
            lengths = tuple(float(a["grid_length"]) for a in attributes)
            origin = tuple(float(a["grid_origin"]) for a in attributes)
            location = str(attributes[0]["grid_location"])
            return Grid(tuple(sizes[d] for d in space), lengths, periodic, location, origin)
        return Grid.from_coordinates(*(axis.values for axis in axes), periodic=periodic)
    except (ValueError, TypeError, KeyError) as error:
        raise DatasetError(f"{where}: the coordinates {', '.join(space)} make no grid: {error}") from error


def _sphere(schema: Schema, axes: Sequence[Variable], where: str) -> Grid:
    weights = schema.variables.get(WEIGHTS)
    try:
        grid = SphereGrid.from_coordinates(
            *(axis.values for axis in axes), weights=None if weights is None else weights.values
        )
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from error
    return cast(Grid, grid)  # it answers the same questions


def field_array(variable: Variable, name: str, where: str) -> FieldArray:
    """Values of a field by sample; `DatasetError` when they are not real numbers."""
    values = (
        variable.values
        if isinstance(variable.values, FieldArray)
        else MemoryArray(np.asarray(variable.values))
    )
    if values.dtype.kind not in "fiub":
        raise DatasetError(f"{where}: {name!r} has type {values.dtype}, expected real numbers")
    return values


def resampled(
    arrays: dict[str, FieldArray], grid: Grid, resolution: int | Sequence[int]
) -> tuple[dict[str, FieldArray], Grid]:
    """Every field on another grid of the same box."""
    sizes = (resolution,) * grid.ndim if isinstance(resolution, int) else tuple(resolution)
    if len(sizes) != grid.ndim:
        raise ValueError(
            f"resolution={resolution} has {len(sizes)} entries, the fields have {grid.ndim} axes"
        )
    if sizes == grid.sizes:
        return arrays, grid
    target = grid.with_sizes(sizes)
    transfer = _Transfer(grid, target)
    inner = {name: (*array.shape[1 : -grid.ndim], *sizes) for name, array in arrays.items()}
    return {name: MappedArray(array, transfer, inner[name]) for name, array in arrays.items()}, target


class _Transfer:
    """`resample` between two fixed grids, as something that pickles."""

    def __init__(self, source: Grid, target: Grid):
        self.source = source
        self.target = target

    def __call__(self, values: np.ndarray) -> np.ndarray:
        # A copy, since torch does not take the read-only pages of a mapped file.
        return resample(np.array(values, np.float32), self.source, self.target)


def time_step(schema: Schema, stride: int) -> float | None:
    """Time between consecutive frames; `None` when there is no time coordinate or it is not uniform."""
    if "time" not in schema.variables:
        return None
    steps = np.diff(np.asarray(schema.variables["time"].values, dtype=np.float64))
    uniform = len(steps) and np.allclose(steps, steps[0], rtol=1e-5)
    return stride * float(steps.mean()) if uniform else None


def choose_samples(
    schema: Schema,
    where: str,
    count: int,
    split: str | None,
    fractions: Sequence[float],
    samples: int | Sequence[int] | None,
    seed: int,
) -> np.ndarray:
    """Positions, in the source, of the samples that a data set uses."""
    chosen = np.arange(count)
    if split is not None:
        ids = schema.variables["sample"].values if "sample" in schema.variables else chosen
        mask = split_mask(ids if np.asarray(ids).dtype.kind in "iu" else chosen, split, fractions, seed)
        chosen = chosen[mask]
        if not len(chosen):
            raise DatasetError(
                f"{where}: the {split!r} split of {count} samples with fractions {tuple(fractions)} is "
                "empty; use more samples or other fractions"
            )
    if samples is None:
        return chosen
    if isinstance(samples, int):
        if not 0 < samples <= len(chosen):
            raise DatasetError(f"samples={samples} asked of {where}, which has {len(chosen)} here")
        return chosen[:samples]
    listed = np.asarray(samples, dtype=np.int64)
    if listed.size == 0 or not np.isin(listed, chosen).all():
        raise DatasetError(
            f"samples={list(samples)} are not all among the {len(chosen)} samples of {where} here"
        )
    return listed


def choose_points(points: int | Sequence[int], grid: Grid, seed: int) -> np.ndarray:
    """Numbers of points in the flattened grid: those given, or so many at random."""
    total = int(np.prod(grid.sizes))
    if isinstance(points, int):
        if not 0 < points <= total:
            raise ValueError(f"points={points}, but the grid {grid.sizes} has {total}")
        return np.sort(np.random.default_rng(seed).choice(total, points, replace=False))
    chosen = np.asarray(points, dtype=np.int64)
    if chosen.size == 0 or chosen.min() < 0 or chosen.max() >= total:
        raise ValueError(f"points should be numbers from 0 to {total - 1} of the grid {grid.sizes}")
    return chosen


def as_array(values: Any, role: str) -> np.ndarray:
    """NumPy view of an array or tensor of real numbers."""
    array = values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{role} have type {array.dtype}, expected real numbers")
    return array


def with_channels(
    values: np.ndarray, role: str, times: int, dim: int | None
) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the space axes of `values`, and `values` with a channel axis before them."""
    axes = values.ndim - 1 - times
    dim = {1: 1, 2: 2, 3: 2, 4: 3}.get(axes, 0) if dim is None else dim
    if dim not in (1, 2, 3) or axes not in (dim, dim + 1):
        leading = "(n, time, [channel,] *space)" if times else "(n, [channel,] *space)"
        raise ValueError(
            f"{role} has shape {values.shape}, expected {leading} with dim={dim or '1, 2 or 3'} space axes"
        )
    if axes == dim:
        values = np.expand_dims(values, 1 + times)
    return space_names(dim), values
