"""Bits per dimension of flows with different layers, at equal parameters and equal time.

    python benchmarks/flow_density.py                               # digits, 3 seeds, 100 s each: 25 minutes
    python benchmarks/flow_density.py --tasks mnist --seconds 600 --models glow cinc finc inverse
    python benchmarks/flow_density.py --models finc-quad            # layer-coupling

Digits are those of scikit-learn, 1797 of 8 x 8 pixels with 17 values: the first 1500 train, the other 297
test. MNIST is its published test part, 10000 of 28 x 28 pixels with 256 values: 8000 train, 2000 test. Of the
training images the last 150 or 500 are held out, and select the weights. Every flow has the same number of
parameters within 5 %, and the same loop, optimiser, schedule, preprocessing and uniform dequantisation; the
budget is CPU seconds of one thread. "normflows-plain" is the same Glow trained as normflows' examples do it,
with Adamax at one rate and nothing else. Test bits are means over ten draws of the noise. Bits per dimension
are upper bounds, and smaller is better.

Rows go to `flow_density.csv` as trainings end; what is there from the same machine and versions is not run
again.
"""

import argparse
from pathlib import Path

import harness
from protocol.records import Records

RESULTS = Path(__file__).parent / "flow_density.csv"
MODELS = ("normflows-plain", "normflows", "glow", "cinc", "finc", "inverse")
PUBLISHED = {  # full MNIST, L=2, K=16, ten million parameters, on GPUs
    "finc": "1.05 (FInC Flow's slides; 1.15 in Inverse-Flow's)",
    "inverse": "1.31, with 1.6 million parameters",
    "SNF": "1.28",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", default=["digits"], help="digits, mnist")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=100.0, help="CPU seconds of each training")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    harness.pin_threads(1)
    from protocol.flow_trial import TASKS

    packages = ("opflow-sciml", "normflows", "scikit-learn")
    same = {"machine": harness.machine(), "versions": harness.versions(packages)}
    records = Records(options.results, same)
    for name in options.tasks:
        complete(TASKS[name], options.models, options.seeds, options.seconds, records)
        print("\n".join(table(name, options.models, options.seconds, records)))


def complete(task, models, seeds, seconds: float, records: Records) -> None:
    """Run the trainings of a task that are not recorded."""
    from protocol import flow_models, flow_trial

    shape = (1, *task.images()[0].shape[2:])

    def make(name: str, width: int):
        return flow_models.build(name, shape, task.levels, task.steps, width, task.bins)

    widths = flow_models.widths(models, make, task.width)
    for seed in seeds:
        for model in models:
            known = {"task": task.name, "stage": "final", "model": model, "width": widths[model]}
            known |= {"seed": seed, "learning_rate": task.learning_rate, "budget": seconds}
            if records.rows(**known):
                continue
            found = flow_trial.run(task, model, widths[model], seed, seconds)
            known |= {"date": harness.now(), "scale": "default", "clock": "CPU"}
            known |= {key: found.pop(key) for key in ("parameters", "steps")}
            records.append([known | {"metric": metric, "value": value} for metric, value in found.items()])
            print(
                f"{task.name}, {model}, seed {seed}: {known['parameters']:,} parameters, "
                f"{known['steps']} steps, "
                + ", ".join(f"{metric} {value:.4f}" for metric, value in found.items()),
                flush=True,
            )


def table(task: str, models, seconds: float, records: Records) -> list[str]:
    """Return the lines of a Markdown table: test bits with their standard error, beside normflows'."""
    from protocol.verdicts import estimate, verdict

    rows = records.rows(task=task, stage="final", budget=seconds, metric="test")
    tests = {m: [float(row["value"]) for row in rows if row["model"] == m] for m in models}
    lines = [
        "| flow | parameters | bits/dim | beside normflows' Glow | published, full MNIST |",
        "|" + "---|" * 5,
    ]
    for model in models:
        if not tests[model]:
            continue
        theirs = tests.get("normflows", [])
        beside = verdict(tests[model], theirs) if theirs and model != "normflows" else ""
        parameters = next(row["parameters"] for row in rows if row["model"] == model)
        published = PUBLISHED.get(model, "") if task == "mnist" else ""
        lines.append(f"| {model} | {parameters} | {estimate(tests[model])} | {beside} | {published} |")
    if task == "mnist":
        lines.append(f"| SNF | 10.1 million | | | {PUBLISHED['SNF']} |")
    return lines


if __name__ == "__main__":
    main()
