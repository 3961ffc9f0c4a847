"""From the flow of a run to a picture or a file of samples."""

import io
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from opflow.flows import Flow, ImageFlow
from opflow.runs.config import RUN_FILE, RunConfig


@dataclass(frozen=True)
class Sampled:
    """What `sample` has made."""

    path: Path
    """The picture, or the file."""
    n: int
    """Number of samples."""
    seconds: float
    """Time of the sampling, without the writing."""


def sample(
    folder: str | Path,
    out: str | Path | None = None,
    *,
    n: int = 64,
    temperature: float = 1.0,
    label: int | None = None,
    seed: int = 0,
) -> Sampled:
    """Draw samples from the flow of a run, and write them as a picture or as a netCDF file.

    Args:
        folder: the run, or any folder that `opflow.load` reads.
        out: ends in `.png` for a sheet of all samples, in `.h5` or `.nc` for the numbers; `samples.png` in
            the folder when None.
        n: number of samples.
        temperature: factor on the noise, see `opflow.flows.Flow.sample`.
        label: the class to draw from, for a flow over classes; all in turn when None.
        seed: of the noise.

    Returns:
        The path, and how long it took.

    Raises:
        ValueError: the model is not a flow, has conditions other than classes, or `out` ends in something
            else.
    """
    from opflow import load, plot
    from opflow.save import write_atomically

    folder = Path(folder)
    flow, path = load(folder), folder / "samples.png" if out is None else Path(out)
    if not isinstance(flow, Flow):
        raise ValueError(f"the model of {folder} is a {type(flow).__name__}, not a flow: use opflow predict")
    if path.suffix not in (".png", ".h5", ".nc"):
        raise ValueError(f"{path.name}: samples are written as .png, .h5 or .nc")
    cond = None
    if isinstance(flow.condition, int):
        cond = torch.arange(n) % flow.condition if label is None else torch.full((n,), label)
    elif flow.condition is not None:
        raise ValueError(
            f"the flow of {folder} is conditioned on {flow.condition}: in Python, "
            "opflow.load(folder).sample(n, cond=...)"
        )
    elif label is not None:
        raise ValueError(f"the flow of {folder} has no classes: leave label={label} out")
    started = time.perf_counter()
    generator = torch.Generator(next(flow.parameters()).device).manual_seed(seed)
    samples = flow.sample(n, temperature, cond, generator=generator)
    seconds = time.perf_counter() - started
    images = isinstance(flow, ImageFlow)
    values = (flow.quantize(samples) if isinstance(flow, ImageFlow) else samples).cpu()
    if path.suffix == ".png":
        picture = io.BytesIO()
        plot.sample_grid(values, images=images).savefig(picture, format="png")
        write_atomically(path, picture.getvalue())
    else:
        _write(path, values.float(), folder)
    return Sampled(path, n, seconds)


def _write(path: Path, values: torch.Tensor, folder: Path) -> None:
    from pde_data.storage import Schema, Variable, write

    names = RunConfig.read(folder).targets if (folder / RUN_FILE).is_file() else ()
    if len(names) != values.shape[1]:
        names = [f"channel_{c}" for c in range(values.shape[1])]
    dims = ("sample", "x", "y")
    counted = {"sample": len(values), "x": values.shape[2], "y": values.shape[3]}
    variables = {
        dim: Variable((dim,), np.arange(size), {"units": "1", "long_name": f"number along {dim}"})
        for dim, size in counted.items()
    }
    variables |= {name: Variable(dims, None, {"units": "1", "long_name": name}) for name in names}
    block = {name: values[:, c].numpy() for c, name in enumerate(names)}
    attributes = {"title": f"samples of {folder.resolve().name}", "source": "opflow sample"}
    write(path, Schema(variables, attributes), iter([(0, block)]))
