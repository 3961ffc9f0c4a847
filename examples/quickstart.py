"""Make Navier-Stokes data, train an FNO on them, and see how far it can be trusted.

Trajectories of forced two-dimensional flow (viscosity 1e-3, 64 x 64 points, one frame per unit of time up to
t = 20) are generated; then neuraloperator's FNO and ours, of equal size, are trained in the same loop for the
same time, and both are measured on trajectories that neither has seen. Everything is left in `quickstart/`.
"""

import argparse
import dataclasses
import shutil
from pathlib import Path

import numpy as np

import opflow
import pde_data
from opflow import plot, runs

MODELS = {"neuraloperator FNO": "neuralop:FNO", "opflow FNO": "FNO"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("quickstart"), help="where everything is written")
    parser.add_argument("--seconds", type=float, default=100, help="training time of each model")
    parser.add_argument("--train", type=int, default=200, help="trajectories for training")
    parser.add_argument("--test", type=int, default=50, help="trajectories for the test")
    parser.add_argument("--resolution", type=int, default=64, help="points per axis")
    parser.add_argument("--steps", type=int, default=20, help="frames after the initial one")
    parser.add_argument("--options", nargs="*", default=[], metavar="KEY=N", help="hidden_channels=8 ...")
    return parser.parse_args()


def generate(args: argparse.Namespace) -> dict[str, str]:
    """Two files, whose initial states come from different seeds; finished files are kept."""
    files = {}
    for seed, (part, samples) in enumerate({"data": args.train, "test": args.test}.items()):
        files[part] = str(args.folder / f"{'train' if part == 'data' else part}-{args.resolution}.h5")
        pde_data.generate(
            "navier_stokes",
            files[part],
            samples=samples,
            seed=seed,
            resolution=args.resolution,
            viscosity=1e-3,
            forcing="fno",
            t_end=args.steps,
            records=args.steps,
        )
    return files


def configuration(args: argparse.Namespace, files: dict[str, str], model: str) -> runs.RunConfig:
    _, base = runs.RUNS["quickstart"]
    options = base.options | {key: int(value) for key, value in (o.split("=") for o in args.options)}
    train = dataclasses.replace(base.train, budget_seconds=args.seconds)
    return dataclasses.replace(base, **files, model=model, options=options, train=train)


def main() -> None:
    args = arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    files = generate(args)
    test = pde_data.FieldDataset(files["test"])
    rows, growth, evaluation = [], {}, None
    for label, name in MODELS.items():
        folder = args.folder / name.replace(":", "-")
        shutil.rmtree(folder, ignore_errors=True)  # a budget in seconds is not resumed but spent again
        print(f"training {label} for {args.seconds:g} s")
        result = runs.train(configuration(args, files, name), folder)
        evaluation = runs.evaluate(result.model, test)
        errors, rollout = evaluation.numbers["errors"], evaluation.numbers["rollout"]
        if not rows:
            one_step = evaluation.numbers["persistence"]["relative_l2"]["mean"]
            rows.append(("persistence", "", "", one_step, rollout["persistence"]))
            growth["persistence"] = rollout["persistence"]
        parameters = sum(p.numel() * (1 + p.is_complex()) for p in result.model.parameters())
        epochs = result.history[-1]["epoch"]
        rows.append((label, f"{parameters:,}", epochs, errors["relative_l2"]["mean"], rollout["relative_l2"]))
        growth[label] = rollout["relative_l2"]
    assert evaluation is not None
    table = summary(rows, rollout["times"])
    print("\n" + table + "\n")
    pictures(args.folder, evaluation, growth)
    (args.folder / "report.md").write_text(report(table, args), encoding="utf-8")
    print(f"pictures and report in {args.folder}")


def summary(rows: list[tuple], times: list[float]) -> str:
    middle = (len(times) - 1) // 2
    lines = [
        "| relative L2 on unseen trajectories | parameters | epochs | one step "
        f"| rollout to t = {times[middle]:g} | rollout to t = {times[-1]:g} |",
        "|---|---|---|---|---|---|",
    ]
    for label, parameters, epochs, one_step, rollout in rows:
        errors = " | ".join(f"{error:.4f}" for error in (one_step, rollout[middle], rollout[-1]))
        lines.append(f"| {label} | {parameters} | {epochs} | {errors} |")
    return "\n".join(lines)


def pictures(folder: Path, evaluation: runs.Evaluation, growth: dict[str, list[float]]) -> None:
    sample, times = evaluation.sample, evaluation.sample["times"]
    target, prediction = sample["target"], sample["prediction"]
    plot.rollout_strip(target, prediction, times, name="vorticity").savefig(folder / "rollout.png")
    plot.animate(folder / "rollout.gif", target, prediction, times, name="vorticity", frames_per_second=4)
    plot.error_growth(times, {k: np.asarray(v) for k, v in growth.items()}).savefig(
        folder / "error_growth.png"
    )


def report(table: str, args: argparse.Namespace) -> str:
    return (
        f"# Quickstart\n\n{table}\n\nEach model was trained for {args.seconds:g} s with opflow "
        f"{opflow.__version__}. Runs: [opflow](FNO/report.md), [neuraloperator](neuralop-FNO/report.md).\n\n"
        "## Rollout of the opflow FNO from an unseen initial state\n\n![rollout](rollout.png)\n\n"
        "![film](rollout.gif)\n\n## Error against time\n\n![error against time](error_growth.png)\n"
    )


if __name__ == "__main__":
    main()
