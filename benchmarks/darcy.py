"""Published Darcy data: our `fno-darcy` run against neuraloperator's FNO by its own recipe.

    python benchmarks/darcy.py --data ../shared/data            # 3 seeds
    python benchmarks/darcy.py --data ../shared/data --seeds 0  # one of them

Theirs is FNO(16 modes, 24 channels, 4 layers), `Trainer`, AdamW 5e-3, weight decay 1e-4, StepLR by one half,
H1 loss, batch 8, 300 epochs with a step every 60, rescaled to 100 epochs with a step every 20. Ours is
`opflow train fno-darcy` on the files that `pde-data convert` writes. Both train on darcy_train_16.pt and are
tested on darcy_test_16.pt and, with the same weights, on darcy_test_32.pt. Errors are relative L2 of the
pressure, per sample, averaged over the 50 test samples.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import harness

DATA = Path(os.environ.get("OPFLOW_DATA", "../shared/data"))
EPOCHS = 100
PACKAGES = ("neuraloperator", "opflow-sciml")


def load(path: Path):
    import torch

    data = torch.load(path, weights_only=True)
    return data["x"].float().unsqueeze(1), data["y"].float().unsqueeze(1)


def errors(predict, tests) -> list[float]:
    from opflow.metrics import relative_l2

    return [float(relative_l2(predict(x), y).mean()) for x, y in tests]


def train_theirs(folder: Path, tests, seed: int) -> tuple[list[float], float]:
    import torch
    from neuralop.models import FNO
    from peers import train_neuraloperator

    torch.manual_seed(seed)
    model = FNO(n_modes=(16, 16), in_channels=1, out_channels=1, hidden_channels=24, n_layers=4)
    x, y = load(folder / "darcy_train_16.pt")
    predict, seconds = train_neuraloperator(
        model, x, y, epochs=EPOCHS, batch_size=8, learning_rate=5e-3, step_size=20, seed=seed
    )
    return errors(predict, tests), seconds


def train_ours(folder: Path, tests, seed: int) -> tuple[list[float], float]:
    import dataclasses

    import opflow
    from opflow import runs
    from pde_data.formats import convert

    with tempfile.TemporaryDirectory() as work:
        data = Path(work) / "darcy.h5"
        convert(folder / "darcy_train_16.pt", data)
        _, config = runs.RUNS["fno-darcy"]
        train = dataclasses.replace(config.train, seed=seed)
        start = time.perf_counter()
        runs.train(dataclasses.replace(config, data=str(data), train=train), Path(work) / "run")
        seconds = time.perf_counter() - start
        return errors(opflow.load(Path(work) / "run").predict, tests), seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the .pt files (or $OPFLOW_DATA)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("ours", "theirs"), help="run one side and record nothing")
    options = parser.parse_args()
    if not (options.data / "darcy_train_16.pt").is_file():
        print(f"skipped: {options.data} has no darcy_train_16.pt; --data or $OPFLOW_DATA names its folder")
        return
    harness.pin_threads(options.threads)
    tests = [load(options.data / f"darcy_test_{n}.pt") for n in (16, 32)]
    results = {}
    for side, train in (("ours", train_ours), ("theirs", train_theirs)):
        if options.only in (None, side):
            results[side] = []
            for seed in options.seeds:
                (low, high), seconds = train(options.data, tests, seed)
                print(f"{side}, seed {seed}: 16x16 {low:.4f}, 32x32 {high:.4f}, {seconds:.0f} s", flush=True)
                results[side].append((low, high, seconds))
    if options.only:
        return
    ours, theirs = (list(zip(*results[side])) for side in ("ours", "theirs"))
    for k, grid in enumerate((16, 32)):
        a, b = statistics.mean(ours[k]), statistics.mean(theirs[k])
        error = statistics.stdev(theirs[k]) / len(theirs[k]) ** 0.5 if len(theirs[k]) > 1 else float("nan")
        claim = f"Darcy {grid}x{grid}, trained on 16x16: mean relative L2 over {len(ours[k])} seeds"
        print(f"{claim}: ours {a:.4f}, theirs {b:.4f} +- {error:.4f} (standard error)")
        ratios = [y / x for x, y in zip(ours[k], theirs[k])]
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        harness.record(
            claim, f"{a:.4f}", f"{b:.4f}", f"{b / a:.3f}", spread, threads=options.threads, packages=PACKAGES
        )
    harness.report(
        f"Darcy, training seconds, ours against {EPOCHS} epochs of theirs",
        ours[2],
        theirs[2],
        threads=options.threads,
        packages=PACKAGES,
    )


if __name__ == "__main__":
    main()
