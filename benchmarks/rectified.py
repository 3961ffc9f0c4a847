"""Rectified flows and one-way networks on pairs of fields and labels: one row per model.

    python benchmarks/rectified.py                                   # task darcy, under an hour on one core
    python benchmarks/rectified.py --all                             # every task
    python benchmarks/rectified.py --models symmflow unet-ce         # some of the models
    python benchmarks/rectified.py --seconds 20 --masks 16 --draws 4 # a smoke test

All on 32 x 32 points, 1,024 training pairs, but for digits. Where variables are hidden there is, for one map
of labels, a law of fields, drawn by running the solver of pde_data again with fresh hidden variables.

darcy      phases of a two-phase medium <-> pressure; hidden: contrast and source; noise of 1 %
rock       the same in slices of Ketton limestone, tests from layers apart; needs OPFLOW_DATA
obstacles  porous obstacles <-> velocity and pressure of a slow flow; hidden: direction and force; noise 1 %
vortices   Okubo-Weiss regions <-> vorticity of decaying turbulence
viscosity  one of four viscosities <-> vorticity
digits     0 to 9 <-> MNIST, 8,000 images for training and 2,000 for the tests, 28 x 28; needs OPFLOW_DATA

Every model has the same number of CPU seconds, 180, for digits 600, and, as U-Net or FNO, about the same
number of parameters. Rows of rectified.csv: a model that is there already, with the same task, seed and
seconds, is not trained again.

Columns
    miou_1, miou_n            labels from fields, by one evaluation of the network and by n of them: mean
                              intersection over union, or the share that is right for labels of whole fields
    mean                      relative L2 error of the conditional mean of fields: of one evaluation
    crps, swd, spread         of fields given labels, by Euler steps: fair CRPS and sliced Wasserstein
                              distance over the deviation of the field, spread over the true spread
    crps_p, swd_p, spread_p   the same number of evaluations as midpoint steps that end at (i / n)^2
    swd_all, spectrum         of the law of all fields together: sliced Wasserstein distance, and mean
                              difference of the logarithms of spectra
    again                     agreement of the labels asked for with those that fields drawn have by the rule
                              of the task: Okubo and Weiss's, or a network that was trained apart
    divergence                of the velocity, over the norm of its gradient
The row "truth" draws from the solver, as many fields as the models do: the floor. "mean" and "majority" know
nothing of the input, "any-labels" are true fields of any labels.
"""

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

import harness

ROWS = Path(__file__).parent / "rectified.csv"
METRICS = (
    *("miou_1", "miou_n", "mean", "crps", "swd", "spread", "crps_p", "swd_p", "spread_p"),
    *("swd_all", "spectrum", "again", "divergence"),
)
COLUMNS = ("date", "machine", "task", "model", "seed", "seconds", "parameters", "steps", *METRICS)
TASKS = ("darcy", "rock", "obstacles", "vortices", "viscosity", "digits")


def make_task(name: str, tests: int, draws: int):
    """Build a task by its name."""
    from protocol import pairs_digits, pairs_flow, pairs_media

    kinds = {
        "darcy": pairs_media.Darcy,
        "rock": pairs_media.Rock,
        "obstacles": pairs_flow.Obstacles,
        "vortices": pairs_flow.Vortices,
        "viscosity": pairs_flow.Viscosity,
        "digits": pairs_digits.Digits,
    }
    return kinds[name](tests, draws)


def train(module, loss: Callable, seconds: float) -> int:
    """AdamW with a cosine, moving average of the weights, for so many CPU seconds; returns the steps.

    `loss` draws its own batches.
    """
    import torch

    from opflow.training import TrainConfig
    from opflow.training.optim import EMA, learning_rate, make_optimizer

    config = TrainConfig(learning_rate=2e-3, warmup=0.05, ema=0.999)
    parameters = list(module.parameters())
    optimizer, average = make_optimizer(config, parameters), EMA(parameters, config.ema)
    start, step = time.process_time(), 0
    while (progress := (time.process_time() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, progress)
        value = loss()
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(parameters, config.clip_norm)
        optimizer.step()
        average.update(step)
        step += 1
    average._swap()
    module.eval()
    return step


def finished(key: tuple) -> bool:
    if not ROWS.exists():
        return False
    with ROWS.open(newline="") as file:
        return any(
            tuple(row[c] for c in ("task", "model", "seed", "seconds")) == key for row in csv.DictReader(file)
        )


def write(row: dict) -> None:
    new = not ROWS.exists()
    row = {"date": harness.now(), "machine": harness.machine(), **row}
    row = {c: f"{v:.4f}" if isinstance(v := row.get(c, ""), float) and c in METRICS else v for c in COLUMNS}
    print(*(f"{c} {row[c]}" for c in COLUMNS[2:] if row[c] != ""), sep=", ", flush=True)
    if not new:
        _add_columns()
    with ROWS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def _add_columns() -> None:
    """Give rows of a time when less was measured the columns of today."""
    with ROWS.open(newline="") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), tuple(reader.fieldnames or ())
    if columns == COLUMNS:
        return
    with ROWS.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)


def run(name: str, wanted: list[str] | None, options: argparse.Namespace) -> None:
    """Train and measure the models of a task that are not in the rows yet."""
    import torch
    from protocol.pairs_models import ABLATIONS, MODELS, models_for
    from protocol.pairs_scores import batches, evaluate, floors

    task = make_task(name, options.masks, options.draws)
    seconds = options.seconds or task.seconds
    if not finished((name, "truth", "0", str(seconds))):
        for model, row in floors(task, options.draws).items():
            write({"task": name, "model": model, "seed": 0, "seconds": seconds, **row})
    for seed in options.seeds:
        for model_name in wanted or models_for(task):
            if finished((name, model_name, str(seed), str(seconds))):
                continue
            torch.manual_seed(seed)
            model = (MODELS | ABLATIONS)[model_name](task)
            draw = batches(seed, *task.training, turned=model.turned)
            steps = train(model.module, lambda m=model, d=draw: m.loss(*d()), seconds)
            count = sum(p.numel() for p in model.module.parameters())
            head = {"task": name, "model": model_name, "seed": seed, "seconds": seconds}
            write({**head, "parameters": count, "steps": steps, **evaluate(model, task, options.draws)})


def main() -> None:
    global ROWS
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--tasks", nargs="+", choices=TASKS, default=["darcy"])
    chosen.add_argument("--all", action="store_true", help="every task")
    parser.add_argument("--models", nargs="+", help="by name, see protocol/pairs_models.py")
    parser.add_argument("--seconds", type=float, help="CPU seconds of training per model")
    parser.add_argument("--masks", type=int, default=128, help="test pairs, but for digits")
    parser.add_argument("--draws", type=int, default=8, help="fields drawn for each of them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", type=Path, default=ROWS, help="where the rows are kept")
    options = parser.parse_args()
    ROWS = options.rows
    for name in TASKS if options.all else options.tasks:
        run(name, options.models, options)


if __name__ == "__main__":
    harness.pin_threads(1)
    main()
