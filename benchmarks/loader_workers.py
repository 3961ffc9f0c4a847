"""Whether worker processes pay: wall-clock samples per second of a shuffled `FieldDataset.loader`.

Pairs of 128 x 128 float32 frames from a contiguous file, from one with LZ4 and from one with gzip; two
workers beside none, in turn. Workers decompress in parallel and must then hand each batch to this process.
"""

from __future__ import annotations

from harness import interleave, pin_threads, report

pin_threads(1)

import argparse  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import xarray as xr  # noqa: E402

from pde_data import FieldDataset  # noqa: E402
from pde_data.formats import convert  # noqa: E402
from pde_data.storage import Schema, Variable, write  # noqa: E402

SAMPLES, FRAMES, SIZE, BATCH, WORKERS = 100, 20, 128, 32, 2
DIMS = ("sample", "time", "x", "y")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--short", action="store_true", help="a rehearsal of 2 repeats")
    repeats = 2 if parser.parse_args().short else 7
    noise = np.random.default_rng(0).standard_normal((SAMPLES, FRAMES, SIZE, SIZE), dtype=np.float32)
    values = noise.cumsum(axis=2).cumsum(axis=3)
    coordinates = {dim: Variable((dim,), np.arange(float(n))) for dim, n in zip(DIMS, values.shape)}
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{name}.h5" for name in ("contiguous", "LZ4", "gzip")}
        write(files["contiguous"], Schema({**coordinates, "u": Variable(DIMS)}), [(0, {"u": values})])
        convert(files["contiguous"], files["LZ4"], compress="lz4")
        with xr.open_dataset(files["contiguous"], engine="h5netcdf") as dataset:
            packed = {"u": {"chunksizes": (1, 1, SIZE, SIZE), "zlib": True, "complevel": 4}}
            dataset.to_netcdf(files["gzip"], engine="h5netcdf", encoding=packed)
        for name, path in files.items():
            pairs = FieldDataset(path, "u")
            pairs.gather(range(len(pairs)))  # the first look at a sample also searches it for NaN

            def epochs(workers: int, pairs: FieldDataset = pairs):
                loader = pairs.loader(BATCH, shuffle=True, num_workers=workers)
                return lambda: sum(len(x) for x, _ in loader)

            seconds = interleave(epochs(WORKERS), epochs(0), repeats, time.perf_counter)
            sizes = f"{SIZE}^2 float32, batch {BATCH}"
            claim = f"loader, {name}, {sizes}, samples per wall second: {WORKERS} workers vs none"
            rates = ([len(pairs) / s for s in series] for series in seconds)
            report(claim, *rates, threads=1 + WORKERS, packages=["h5py", "hdf5plugin"], higher_is_better=True)


if __name__ == "__main__":
    main()
