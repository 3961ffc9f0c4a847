"""From the flow of a run to a picture or a file of samples."""

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from opflow.flows import Flow, ImageFlow
from opflow.rectified import RectifiedFlow
from opflow.runs.config import RUN_FILE, RunConfig
from opflow.runs.labels import LABELLED

if TYPE_CHECKING:
    from opflow.runs.rectified_sampling import Drawn


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
    film: str | Path | None = None,
) -> Sampled:
    """Draw samples from the flow of a run, and write them as a picture or as a netCDF file.

    A rectified flow draws on the grid or the first mesh of the run's test data, under their labels or
    conditions in turn.

    Args:
        folder: the run, or, for other than rectified flows, any folder that `opflow.load` reads.
        out: ends in `.png` for a sheet of all samples, in `.h5` or `.nc` for the numbers; `samples.png` in
            the folder when None.
        n: number of samples.
        temperature: factor on the noise, see `opflow.flows.Flow.sample`; rectified flows have 1.
        label: the class to draw from, for a flow over classes; all in turn when None.
        seed: of the noise.
        film: a `.gif` to write as well, of the way from labels to fields and back, for a `SemFlow` or a
            `SymmFlow`; of the first 16 samples.

    Returns:
        The path, and how long it took.

    Raises:
        ValueError: the model is not a flow, an option is not for it, or `out` or `film` ends in something
            else.
    """
    from opflow import load
    from opflow.runs.rectified_sampling import draw, write_film

    folder = Path(folder)
    flow, path = load(folder), folder / "samples.png" if out is None else Path(out)
    if not isinstance(flow, Flow | RectifiedFlow):
        raise ValueError(f"the model of {folder} is a {type(flow).__name__}, not a flow: use opflow predict")
    if path.suffix not in (".png", ".h5", ".nc"):
        raise ValueError(f"{path.name}: samples are written as .png, .h5 or .nc")
    started = time.perf_counter()
    if isinstance(flow, Flow):
        if film is not None:
            raise ValueError(
                f"a film shows the way between labels and fields, and a {type(flow).__name__} has none"
            )
        drawn = _draw(flow, folder, n, temperature, label, seed)
    elif temperature != 1:
        raise ValueError(f"temperature={temperature}: a {type(flow).__name__} samples at temperature 1")
    else:
        drawn = draw(flow, folder, n, label, seed)
    seconds = time.perf_counter() - started
    _write(path, drawn, folder)
    if film is not None:
        assert isinstance(flow, RectifiedFlow)  # the others have been refused
        write_film(flow, folder, Path(film), min(n, 16), label, seed)
    return Sampled(path, n, seconds)


def _draw(flow: Flow, folder: Path, n: int, temperature: float, label: int | None, seed: int) -> "Drawn":
    from opflow.runs.rectified_sampling import Drawn

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
    generator = torch.Generator(next(flow.parameters()).device).manual_seed(seed)
    samples = flow.sample(n, temperature, cond, generator=generator)
    images = isinstance(flow, ImageFlow)
    return Drawn((flow.quantize(samples) if isinstance(flow, ImageFlow) else samples).cpu(), images, None)


def _write(path: Path, drawn: "Drawn", folder: Path) -> None:
    from opflow import plot
    from opflow.save import write_atomically

    if path.suffix == ".png":
        picture = io.BytesIO()
        if drawn.mesh is not None:
            figure = plot.mesh_grid(drawn.mesh, drawn.values)
        else:
            figure = plot.sample_grid(drawn.values, images=drawn.images)
        figure.savefig(picture, format="png")
        write_atomically(path, picture.getvalue())
    elif drawn.mesh is not None:
        raise ValueError(
            f"{path.name}: samples on a mesh are drawn as .png; for numbers use flow.sample in Python"
        )
    else:
        _write_fields(path, drawn.values.float(), folder)


def _write_fields(path: Path, values: torch.Tensor, folder: Path) -> None:
    from pde_data.storage import Schema, Variable, write

    config = RunConfig.read(folder) if (folder / RUN_FILE).is_file() else RunConfig()
    names = config.inputs if config.model in LABELLED else config.targets
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
