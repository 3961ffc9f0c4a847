"""What we convert to The Well's layout, read by the package `the_well` itself.

Every foreign file of the tests that has trajectories without gaps, and our own Navier-Stokes data, go through
`pde_data.formats.convert(..., "the-well")` and then through `the_well.data.WellDataset`: each window of each
trajectory must have the fields of the source, bit for bit, with its constant fields, scalars, grid, times and
boundaries. Prints a line for each; the exit status is 1 when anything differs.

The pins of `the_well` are not those of constraints.txt, so it has an environment of its own:

    python3 -m venv .venv-well
    grep -v '^fsspec==' constraints.txt > .venv-well/constraints.txt
    .venv-well/bin/pip install -c .venv-well/constraints.txt the_well -e ".[formats]"
    .venv-well/bin/python benchmarks/well_dataset.py
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the writers belong to the tests

import numpy as np

import pde_data
from pde_data.formats import convert, read
from tests.writers import every_case

CODES = {"wall": 0, "dirichlet": 0, "neumann": 0, "open": 1, "": 1, "periodic": 2}


def compare(source: Path, folder: Path) -> tuple[int, list[str]]:
    """Number of windows that `WellDataset` gives, and where they are not what the source holds."""
    from the_well.data import WellDataset

    convert(source, folder / "converted.hdf5", "the-well")
    expected = pde_data.open(source).load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of masks that lie along no axis
        theirs = WellDataset(path=str(folder), normalize_time_grid=False)
        items = [theirs[index] for index in range(len(theirs))]
    about = theirs.metadata
    fields = read(source).fields
    space = [dim for dim in max((f.dims for f in fields.values()), key=len) if dim not in ("sample", "time")]
    moving = [name for order in range(3) for name in about.field_names[order]]
    still = [name for order in range(3) for name in about.constant_field_names[order]]
    wrong = (
        [] if sorted(moving + still) == sorted(fields) else [f"fields {moving + still}, not {list(fields)}"]
    )
    wrong += [] if about.n_spatial_dims == len(space) else [f"{about.n_spatial_dims} axes, not {len(space)}"]
    frames = expected.sizes["time"]
    if len(items) != expected.sizes["sample"] * (frames - 1):
        return len(items), [*wrong, f"{len(items)} windows"]
    times = np.asarray(expected["t"] if "t" in expected else expected["time"], np.float32)
    times = np.broadcast_to(times, (expected.sizes["sample"], frames))
    grid = np.stack(np.meshgrid(*(_points(expected, name) for name in space), indexing="ij"), -1)
    codes = [[_code(expected, name)] * 2 for name in space]
    for index, item in enumerate(items):
        sample, frame = divmod(index, frames - 1)
        pairs = {
            "input_fields": _stacked(expected, moving, sample, frame),
            "output_fields": _stacked(expected, moving, sample, frame + 1),
            "constant_fields": _stacked(expected, still, sample),
            "constant_scalars": _scalars(expected, about.constant_scalar_names, sample),
            "input_scalars": _scalars(expected, about.scalar_names, sample, frame),
            "space_grid": grid,
            "boundary_conditions": np.array(codes, float),
            "input_time_grid": times[sample, frame],
            "output_time_grid": times[sample, frame + 1],
        }
        for key, values in pairs.items():
            found = item[key].numpy() if key in item else np.empty(0)
            if np.size(values) and not np.array_equal(found.reshape(np.shape(values)), values):
                wrong.append(f"{key} of sample {sample}, frame {frame}")
    return len(items), wrong


def _points(expected, name: str) -> np.ndarray:
    size = expected.sizes[name]
    return np.asarray(expected[name] if name in expected.coords else np.arange(size) / size, np.float32)


def _code(expected, name: str) -> int:
    if name not in expected.coords:
        return CODES["periodic"]  # an axis without a coordinate is taken for that
    about = expected[name].attrs
    periodic = "periodic" if about.get("boundary") == "periodic" else ""
    return CODES[about.get("boundary_condition", periodic)]


def _stacked(expected, names: list[str], *at: int) -> np.ndarray:
    """Fields of one sample, or one frame of it, with the channels last."""
    return (
        np.stack([expected[name].values[at].astype(np.float32) for name in names], -1)
        if names
        else np.empty(0)
    )


def _scalars(expected, names: list[str], sample: int, frame: int = 0) -> np.ndarray:
    at = {"sample": sample, "time": frame}
    found = [
        expected[name].values[tuple(at[dim] for dim in expected[name].dims)]
        if name in expected
        else expected.attrs[name]
        for name in names
    ]
    return np.array(found, np.float32)


def main() -> int:
    if find_spec("the_well") is None:
        print("the_well is not here; the commands that install it are at the head of this file")
        return 0
    print(f"the_well {version('the_well')}")
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        sources = {}
        for number, case in enumerate(every_case()):
            path = Path(scratch) / f"source-{number}" / case.file
            path.parent.mkdir()
            case.write(path, np.random.default_rng(0))
            fields = read(path).fields
            finite = all(np.isfinite(field.values[:]).all() for field in fields.values())
            if finite and any("time" in field.dims for field in fields.values()):
                sources[case.name] = path
        options = {"resolution": 16, "t_end": 1.0, "records": 4, "processes": 1}
        sources["our Navier-Stokes"] = pde_data.generate(
            "navier_stokes", Path(scratch) / "ns.h5", samples=3, **options
        )
        for number, (name, path) in enumerate(sources.items()):
            folder = Path(scratch) / f"well-{number}"
            folder.mkdir()
            windows, wrong = compare(path, folder)
            print(f"{name:<45} {windows:>4} windows  {'; '.join(wrong[:3]) or 'equal'}")
            failed |= bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
