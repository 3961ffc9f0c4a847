"""Random pairs of consecutive 64 x 64 float32 frames: samples per CPU-second through `FieldDataset.gather`.

Beside it, in turn and on the same random numbers: NumPy's `take` from an array in memory into the same kind
of batch, and h5py with a handle that stays open, which copies each pair into a batch. All must agree.
"""

from __future__ import annotations

from harness import interleave, pin_threads, report

pin_threads(1)

import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

import h5py  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from pde_data import FieldDataset, Grid  # noqa: E402
from pde_data.sources import coordinate_variables  # noqa: E402
from pde_data.storage import Schema, Variable, write  # noqa: E402

SAMPLES, FRAMES, SIZE, BATCH, BATCHES = 200, 20, 64, 32, 400


def main() -> None:
    draw = np.random.default_rng(0)
    values = draw.standard_normal((SAMPLES, FRAMES, SIZE, SIZE), dtype=np.float32)
    chosen = [draw.integers(0, SAMPLES * (FRAMES - 1), BATCH).tolist() for _ in range(BATCHES)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pairs.h5"
        coordinates = {
            "sample": Variable(("sample",), np.arange(SAMPLES)),
            "time": Variable(("time",), np.arange(float(FRAMES))),
            **coordinate_variables(Grid((SIZE, SIZE))),
        }
        field = Variable(("sample", "time", "x", "y"))
        write(path, Schema({**coordinates, "u": field}), [(0, {"u": values})])
        file = FieldDataset(path, "u")
        flat = values.reshape(SAMPLES * FRAMES, -1)

        def numpy_gather(items: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
            sample, start = np.divmod(np.asarray(items), FRAMES - 1)
            rows = sample * FRAMES + start
            x, y = (torch.empty(len(items), 1, SIZE, SIZE) for _ in range(2))
            flat.take(rows, axis=0, out=x.numpy().reshape(len(items), -1), mode="clip")
            flat.take(rows + 1, axis=0, out=y.numpy().reshape(len(items), -1), mode="clip")
            return x, y

        with h5py.File(path) as handle:
            dataset = handle["u"]

            def h5py_gather(items: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
                x, y = (torch.empty(len(items), 1, SIZE, SIZE) for _ in range(2))
                for place, item in enumerate(items):
                    sample, start = divmod(item, FRAMES - 1)
                    pair = dataset[sample, start : start + 2]
                    x.numpy()[place, 0], y.numpy()[place, 0] = pair
                return x, y

            for items in chosen[:20]:
                for other in (numpy_gather(items), h5py_gather(items)):
                    if not all(map(torch.equal, file.gather(items), other)):
                        raise SystemExit("the readers disagree")
            file.gather(range(len(file)))  # the first look at a sample also searches it for NaN

            def run(gather):
                return lambda: [gather(items) for items in chosen]

            for name, gather in (("NumPy in memory", numpy_gather), ("h5py, open handle", h5py_gather)):
                rates = (
                    [BATCH * BATCHES / s for s in series]
                    for series in interleave(run(file.gather), run(gather))
                )
                sizes = f"{SIZE}^2 float32, batch {BATCH}"
                claim = f"random (t, t+1) pairs {sizes}, samples per CPU-second: file vs {name}"
                report(claim, *rates, threads=1, packages=["h5py"], higher_is_better=True)


if __name__ == "__main__":
    main()
