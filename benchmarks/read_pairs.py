"""Random pairs of consecutive 64 x 64 float32 frames: samples per CPU-second through `FieldDataset.gather`.

    python benchmarks/read_pairs.py [--well-python ENV/bin/python] [--short]

The same fields are written contiguous, in chunks of a frame as they are, with LZ4 and with gzip, as
a Zarr 3 store, and in the layout of The Well. Beside ours, in turn and on the same random numbers: NumPy's
`take` from an array in memory; h5py with a handle that stays open, on each of the four files; xarray with
h5netcdf, lazy, its file kept open; zarr 3; and The Well's `WellDataset`. All make the same batches and must
agree.

`the_well` pins fsspec to a version that other packages here refuse, so `WellDataset` runs in an environment
of its own, without grid and boundary in its answer, which makes it faster. `--well-python` names the Python
of that environment; where there is none, it is made, by `python -m venv ENV` and `pip install the_well`.
"""

from __future__ import annotations

from harness import interleave, pin_threads, report

pin_threads(1)

import argparse  # noqa: E402
import json  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Sequence  # noqa: E402
from contextlib import ExitStack  # noqa: E402
from pathlib import Path  # noqa: E402

import h5py  # noqa: E402
import hdf5plugin  # noqa: E402, F401 (h5py reads LZ4 with it)
import numpy as np  # noqa: E402
import torch  # noqa: E402
import xarray as xr  # noqa: E402
import zarr  # noqa: E402

from pde_data import FieldDataset, Grid  # noqa: E402
from pde_data.formats import convert  # noqa: E402
from pde_data.sources import coordinate_variables  # noqa: E402
from pde_data.storage import Schema, Variable, write  # noqa: E402

SAMPLES, FRAMES, SIZE, BATCH, BATCHES = 200, 20, 64, 32, 400
WINDOWS = FRAMES - 1
DIMS = ("sample", "time", "x", "y")
Pair = tuple[torch.Tensor, torch.Tensor]
Gather = Callable[[Sequence[int]], Pair]

WELL = """
import json, sys, time
import torch
from the_well.data import WellDataset
torch.set_num_threads(1)
data = WellDataset(
    path=sys.argv[1], n_steps_input=1, n_steps_output=1, return_grid=False, boundary_return_type=None
)
for line in sys.stdin:
    items = json.loads(line)
    begin = time.process_time()
    pairs = [data[i] for i in items]
    x = torch.stack([pair["input_fields"] for pair in pairs])
    y = torch.stack([pair["output_fields"] for pair in pairs])
    seconds = time.process_time() - begin
    print(json.dumps([seconds, float(x.double().sum()), float(y.double().sum())]), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--well-python", type=Path, help="Python of an environment with the_well")
    parser.add_argument("--short", action="store_true", help="a rehearsal: a tenth of the batches, 3 repeats")
    arguments = parser.parse_args()
    draw = np.random.default_rng(0)
    # Sums of noise are as smooth, and compress as badly, as vorticity.
    noise = draw.standard_normal((SAMPLES, FRAMES, SIZE, SIZE), dtype=np.float32)
    values = noise.cumsum(axis=2).cumsum(axis=3)
    batches = BATCHES // 10 if arguments.short else BATCHES
    chosen = [draw.integers(0, SAMPLES * WINDOWS, BATCH).tolist() for _ in range(batches)]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        files = write_files(Path(folder), values)
        ours = {name: FieldDataset(path, "u") for name, path in files.items()}
        for dataset in ours.values():
            dataset.gather(range(len(dataset)))  # the first look at a sample also searches it for NaN

        def kept(name: str) -> Gather:
            return from_frames(stack.enter_context(h5py.File(files[name]))["u"])

        lazy = stack.enter_context(xr.open_dataset(files["contiguous"], engine="h5netcdf", cache=False)).u
        options = {"chunks": (1, 1, SIZE, SIZE), "compressors": None, "zarr_format": 3}
        store = zarr.create_array(Path(folder) / "u.zarr", data=values, **options)
        # Name, file on our side, the other side, and in how many parts of the batches it has time for.
        peers = [
            ("NumPy in memory", "contiguous", from_memory(values), 1),
            *((f"h5py, open handle, {name}", name, kept(name), 1 + 3 * (name == "gzip")) for name in files),
            ("xarray with h5netcdf, lazy", "contiguous", from_frames(lazy), 50),
            ("zarr 3", "frame chunks", from_frames(store), 50),
        ]
        for name, file, gather, _ in peers:
            for items in chosen[:3]:
                if not all(map(torch.equal, ours[file].gather(items), gather(items))):
                    raise SystemExit(f"{name} and ours disagree")
        ratios, repeats = {}, 3 if arguments.short else 9
        for name, file, gather, part in peers:
            mine = chosen[: -(-batches // (4 if file == "gzip" else 1))]
            theirs = chosen[: -(-batches // part)]
            seconds = interleave(run(ours[file].gather, mine), run(gather, theirs), repeats)
            ratios[name] = publish(file, name, rates(seconds[0], mine), rates(seconds[1], theirs))
        if arguments.well_python:
            well = Well(arguments.well_python, write_well(Path(folder) / "well", values))
            items = chosen[: -(-batches // 50)]
            well.check(ours["contiguous"], items[0])
            seconds = ([], [])
            for _ in range(repeats):
                begin = time.process_time()
                run(ours["contiguous"].gather, chosen)()
                seconds[0].append(time.process_time() - begin)
                seconds[1].append(sum(well.read(batch)[0] for batch in items))
            well.close()
            name = f"WellDataset (the_well {well.version}), contiguous"
            ratios["WellDataset"] = publish(
                "contiguous", name, rates(seconds[0], chosen), rates(seconds[1], items)
            )
        else:
            print("WellDataset is left out: name the Python of its environment with --well-python")
    gates = {"h5py, open handle, contiguous": 3.0, "WellDataset": 100.0}
    missed = [name for name, gate in gates.items() if ratios.get(name, gate) < gate]
    if missed:
        raise SystemExit(f"below the gate: {', '.join(f'{name}, x{gates[name]:g}' for name in missed)}")


def write_files(folder: Path, values: np.ndarray) -> dict[str, Path]:
    """The same field in four layouts."""
    names = ("contiguous", "frame chunks", "LZ4", "gzip")
    files = {name: folder / f"{number}.h5" for number, name in enumerate(names)}
    coordinates = {
        "sample": Variable(("sample",), np.arange(SAMPLES)),
        "time": Variable(("time",), np.arange(float(FRAMES))),
        **coordinate_variables(Grid((SIZE, SIZE))),
    }
    write(files["contiguous"], Schema({**coordinates, "u": Variable(DIMS)}), [(0, {"u": values})])
    convert(files["contiguous"], files["LZ4"], compress="lz4")
    with xr.open_dataset(files["contiguous"], engine="h5netcdf") as dataset:
        for name, extra in (("frame chunks", {}), ("gzip", {"zlib": True, "complevel": 4})):
            encoding = {"u": {"chunksizes": (1, 1, SIZE, SIZE), **extra}}
            dataset.to_netcdf(files[name], engine="h5netcdf", encoding=encoding)
    return files


def write_well(folder: Path, values: np.ndarray) -> Path:
    """The field in the layout of The Well, contiguous, as its only training file."""
    folder.mkdir()
    with h5py.File(folder / "pairs.hdf5", "w") as file:
        attributes = {"dataset_name": "pairs", "grid_type": "cartesian", "n_spatial_dims": 2}
        file.attrs.update({**attributes, "n_trajectories": SAMPLES, "simulation_parameters": []})
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = ["x", "y"]
        for name, coordinate in (("time", FRAMES), ("x", SIZE), ("y", SIZE)):
            dimensions[name] = np.arange(coordinate, dtype=np.float32)
            dimensions[name].attrs.update({"sample_varying": False, "time_varying": False})
        boundaries = file.create_group("boundary_conditions")
        for dim in "xy":
            boundary = boundaries.create_group(f"{dim}_periodic")
            boundary.attrs.update({"associated_dims": [dim], "associated_fields": [], "bc_type": "PERIODIC"})
            boundary.attrs.update({"sample_varying": False, "time_varying": False})
            boundary["mask"] = np.isin(np.arange(SIZE), (0, SIZE - 1))
        for group, fields in (("scalars", []), ("t0_fields", ["u"]), ("t1_fields", []), ("t2_fields", [])):
            file.create_group(group).attrs["field_names"] = fields
        field = file["t0_fields"].create_dataset("u", data=values)
        field.attrs.update({"dim_varying": [True, True], "sample_varying": True, "time_varying": True})
    return folder


def from_memory(values: np.ndarray) -> Gather:
    """NumPy, from memory into a batch."""
    flat = values.reshape(SAMPLES * FRAMES, -1)

    def gather(items: Sequence[int]) -> Pair:
        sample, start = np.divmod(np.asarray(items), WINDOWS)
        rows = sample * FRAMES + start
        x, y = (torch.empty(len(items), 1, SIZE, SIZE) for _ in range(2))
        flat.take(rows, axis=0, out=x.numpy().reshape(len(items), -1), mode="clip")
        flat.take(rows + 1, axis=0, out=y.numpy().reshape(len(items), -1), mode="clip")
        return x, y

    return gather


def from_frames(frames) -> Gather:
    """Anything that slices, a pair at a time."""

    def gather(items: Sequence[int]) -> Pair:
        x, y = (torch.empty(len(items), 1, SIZE, SIZE) for _ in range(2))
        for place, item in enumerate(items):
            sample, start = divmod(item, WINDOWS)
            pair = np.asarray(frames[sample, start : start + 2])
            x.numpy()[place, 0], y.numpy()[place, 0] = pair
        return x, y

    return gather


class Well:
    """`WellDataset` in an interpreter of its own."""

    def __init__(self, python: Path, folder: Path):
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", python.parent.parent], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "the_well"], check=True)
        ask = "from importlib.metadata import version; print(version('the_well'))"
        self.version = subprocess.run(
            [python, "-c", ask], capture_output=True, text=True, check=True
        ).stdout.strip()
        self._process = subprocess.Popen(
            [python, "-W", "ignore", "-c", WELL, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self, items: Sequence[int]) -> list[float]:
        """CPU-seconds for a batch, and the sums of its two sides."""
        self._process.stdin.write(json.dumps(items) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def check(self, ours: FieldDataset, items: Sequence[int]) -> None:
        """Compare what both sides read."""
        _, *sums = self.read(items)
        if not np.allclose(sums, [float(side.double().sum()) for side in ours.gather(items)], rtol=1e-12):
            raise SystemExit("WellDataset and ours disagree")

    def close(self) -> None:
        """End it."""
        self._process.stdin.close()
        self._process.wait()


def run(gather: Gather, batches: list[list[int]]) -> Callable[[], list[Pair]]:
    return lambda: [gather(items) for items in batches]


def rates(seconds: list[float], batches: list[list[int]]) -> list[float]:
    return [BATCH * len(batches) / s for s in seconds]


def publish(file: str, name: str, ours: list[float], theirs: list[float]) -> float:
    sizes = f"{SIZE}^2 float32, batch {BATCH}"
    claim = f"random (t, t+1) pairs {sizes}, samples per CPU-second: {file} file vs {name}"
    packages = ["h5py", "hdf5plugin", "xarray", "h5netcdf", "zarr"]
    return report(claim, ours, theirs, threads=1, packages=packages, higher_is_better=True)


if __name__ == "__main__":
    main()
