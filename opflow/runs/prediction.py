"""From a file of fields to a file of predictions."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from opflow.autoregression import rollout
from opflow.operators.base import Operator
from opflow.operators.points import PointOperator
from opflow.runs.config import RunConfig

if TYPE_CHECKING:
    from pde_data import Grid


def predict(
    folder: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    resolution: int | None = None,
    steps: int | None = None,
    batch_size: int = 32,
) -> None:
    """Apply the model of a run to a file, and write a netCDF file that `pde_data.open` reads.

    Fields without time are mapped to the target variables. Fields over time are continued from their first
    frames, as many as the model takes, and the result begins with the last of these.

    Args:
        folder: the run.
        data: file with the input variables.
        out: file to write; replaced where it exists.
        resolution: points per axis of the result; the grid of the input when None. Fields without time are
            mapped by `Operator.predict(x, out_grid)`, for fields over time the first frames are resampled.
        steps: frames to predict; as many as `data` goes on for when None.
        batch_size: samples at a time.

    Raises:
        ValueError: `steps` does not fit, the data do not fit the model, or it works on points.
        pde_data.DatasetError: `data` cannot be read, lacks an input variable, or holds NaN or infinity
            in one.
    """
    from opflow.save import load_operator
    from pde_data import DatasetError, formats, resample, sources
    from pde_data.storage import Schema, Variable, write

    config, model = RunConfig.read(folder), load_operator(folder)
    if isinstance(model, PointOperator):
        raise ValueError(
            f"the model of {folder} works on points, and predictions are written on grids only: in Python, "
            "opflow.load(folder).predict(values, coords, weights=weights)"
        )
    schema, name = formats.read(Path(data)), str(data)
    inputs, _ = sources.field_names(schema, list(config.inputs), list(config.inputs), name)
    dims = sources.common_dims(schema, inputs, name)
    moving = "time" in dims
    grid = sources.grid_of(schema, dims[1 + moving :], name)
    sizes = grid.sizes if resolution is None else (resolution,) * grid.ndim
    out_grid = grid.with_sizes(sizes) if moving else _as_operators_place(grid, sizes)
    arrays = [sources.field_array(schema.fields[i], i, name) for i in inputs]
    samples = arrays[0].shape[0]

    window = config.window

    def sample(number: int) -> np.ndarray:
        """Read `(variable, [time,] *space)`: the frames that the model starts from."""
        fields = [array.sample(number)[:window] if moving else array.sample(number) for array in arrays]
        for variable, values in zip(inputs, fields):
            bad = np.size(values) - int(np.isfinite(values).sum())
            if bad:
                raise DatasetError(
                    f"{name}: variable {variable!r} of sample {number} holds {bad} values that are NaN or "
                    "infinite; leave the sample out, or repair the data"
                )
        return np.stack(fields)

    variables = {"sample": Variable(("sample",), np.arange(samples), {"long_name": "sample number"})}
    variables |= sources.coordinate_variables(out_grid, dims[1 + moving :])
    if moving:
        time = schema.variables.get("time") or Variable(
            ("time",), attributes={"units": "1", "long_name": "step"}
        )
        times = np.arange(arrays[0].shape[1]) if time.values is None else time.values
        times = np.asarray(times, dtype=float)
        steps = len(times) - window if steps is None else steps
        if len(times) < window or steps < 1:
            raise ValueError(
                f"{name} has {len(times)} frames and the model starts from {window}: say how many to predict "
                "(--steps)"
            )
        step = sources.time_step(schema, 1) or 1.0
        at = times[window - 1] + step * np.arange(steps + 1)
        variables["time"] = Variable(("time",), at, time.attributes)
    elif steps is not None:
        raise ValueError(f"{name} has no time axis, so there are no steps to predict")
    targets = config.targets or config.inputs
    for target in targets:
        known = schema.variables.get(target)
        variables[target] = Variable(
            dims, None, known.attributes if known else {"units": "1", "long_name": target}
        )

    def blocks() -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        for first in range(0, samples, batch_size):
            chosen = range(first, min(first + batch_size, samples))
            fields = torch.from_numpy(np.stack([sample(i) for i in chosen], dtype=np.float32))
            if moving:
                frames = resample(fields.transpose(1, 2).contiguous(), grid, out_grid)
                result = _continued(model, frames, steps or 1)
            else:
                result = model.predict(fields, None if resolution is None else sizes)
            yield first, dict(zip(targets, result.numpy().swapaxes(0, 1)))

    attributes = {"title": f"prediction of {Path(data).name}", "source": f"opflow {type(model).__name__}"}
    write(out, Schema(variables, attributes), blocks())


def _as_operators_place(grid: "Grid", sizes: tuple[int, ...]) -> "Grid":
    """Return the grid of `Operator.predict(x, out_grid=sizes)`: first point and `size * spacing` stay."""
    from pde_data import Grid

    if sizes == grid.sizes:
        return grid
    spacing = [h * old / new for h, old, new in zip(grid.spacing, grid.sizes, sizes)]
    periodic = tuple(bool(wraps) for wraps in np.broadcast_to(grid.periodic, grid.ndim))
    lengths = tuple(h * (n if wraps else n - 1) for h, n, wraps in zip(spacing, sizes, periodic))
    return Grid(sizes, lengths, periodic, "node", grid.first)


def _continued(model: Operator, frames: torch.Tensor, steps: int) -> torch.Tensor:
    """Return the last of `frames (batch, time, variable, *space)` and what follows, variables before time."""
    device = next(model.parameters()).device
    predictions = rollout(model, frames.flatten(1, 2).to(device), steps).cpu()
    return torch.cat([frames[:, -1:], predictions], 1).transpose(1, 2)
