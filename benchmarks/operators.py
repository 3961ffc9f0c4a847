"""Accuracy of our operators against their baselines, at equal parameters and equal time.

    python benchmarks/operators.py                      # three tasks, about an hour on two cores
    python benchmarks/operators.py --tasks kolmogorov   # one of them, or a short one: darcy, shallow-water
    python benchmarks/operators.py --full               # all tasks at published sizes, for a GPU

The protocol, the same for every model of a task:

- The data are generated here, with fixed seeds, and divided by trajectory; the test part is read only by
  trainings whose settings are decided.
- Widths are solved for, so that parameters agree within 5 %. Modes, batch size, loss, schedule, weight decay
  and normalisation are the same.
- The learning rate is the best of three by the validation error of short pilots with the whole schedule.
- Every training has the same budget: CPU seconds of its one thread, or wall seconds on a GPU. Two run side by
  side on two cores, the models of a task at a time. Compilation, evaluation and saving do not count.
- The weights of the best validation error are tested. Mean and standard error are over seeds, which draw
  weights and the order of samples; a model is better if its error is below by more than two standard errors
  of the difference.

Every number goes to `operators.csv` as soon as it is known; what is there from the same machine and versions
is not run again (`--again` does), and a training that was killed goes on. The tables are printed and put into
`docs/operators.md`.
"""

import argparse
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path

import harness
from protocol.records import Records

HERE = Path(__file__).parent
RESULTS = HERE / "operators.csv"
PAGE = HERE.parent / "docs" / "operators.md"
MARK = "<!-- {} tables of benchmarks/operators.py -->"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "opflow" / "operators"


class Protocol:
    """The trainings of one task: pilots, then the seeds at the best learning rate of each model.

    Args:
        task: a row of `protocol.tasks.TASKS`.
        setup: one of its setups.
        scale: what that setup is called.
        folder: where data and unfinished trainings are kept.
        records: where results are.
        again: train what is recorded already, too.
    """

    def __init__(self, task, setup, scale: str, folder: Path, records: Records, again: bool = False):
        self.task, self.setup, self.scale, self.folder = task, setup, scale, folder
        self.records, self.again = records, again

    def prepare(self, processes: int | None = None) -> None:
        """Generate the data and solve for the widths."""
        from protocol import models, views

        start = time.perf_counter()
        path = views.data_file(self.task, self.setup, self.scale, self.folder, processes)
        seconds = time.perf_counter() - start
        if seconds > 5:
            print(f"{self.task.name}: data in {seconds:.0f} s", flush=True)
            row = {"scale": self.scale, "task": self.task.name, "stage": "data", "clock": "wall"}
            self.records.append([row | {"metric": "seconds", "value": seconds}])
        self.widths = models.widths(self.task, self.setup, path)

    def pilots(self) -> Iterator:
        """Yield the pilots that are not recorded, the models of a rate side by side."""
        for rate in self.task.rates:
            for model in self.setup.models:
                yield from self._missing("pilot", model, self.setup.seeds[0], rate, self.setup.pilot)

    def finals(self) -> Iterator:
        """Yield the trainings that are not recorded, the models of a seed side by side."""
        for seed in self.setup.seeds:
            for model in self.setup.models:
                yield from self._missing("final", model, seed, self.rate(model), self.setup.budget)

    def rate(self, model: str) -> float:
        """Return the learning rate with the least validation error in the pilots of a model."""
        rows = self.rows("pilot", model=model, width=self.widths[model])
        newest = {row["learning_rate"]: float(row["value"]) for row in rows if row["metric"] == "valid"}
        return float(min(newest, key=newest.__getitem__))

    def rows(self, stage: str, **wanted) -> list[dict[str, str]]:
        """Return the recorded rows of a stage at the budget of this setup."""
        budget = {"pilot": self.setup.pilot, "final": self.setup.budget}[stage]
        wanted |= {"scale": self.scale, "task": self.task.name, "stage": stage, "budget": budget}
        return self.records.rows(**wanted)

    def _missing(self, stage: str, model: str, seed: int, rate: float, budget: float) -> Iterator:
        from protocol.trial import Trial

        trial = Trial(self.scale, self.task.name, stage, model, self.widths[model], seed, rate, budget)
        known = self.rows(stage, model=model, width=trial.width, seed=seed, learning_rate=rate)
        if self.again or not known:
            yield trial, self.task, self.setup, self.folder

    def record(self, trial, found: dict) -> None:
        """Append the numbers of one training."""
        about = {
            "scale": trial.scale,
            "task": trial.task,
            "stage": trial.stage,
            "model": trial.model,
            "width": trial.width,
            "seed": trial.seed,
            "learning_rate": trial.rate,
            "budget": trial.budget,
        }
        about |= {name: found.pop(name) for name in ("parameters", "steps", "clock")}
        date = {"date": harness.now()}
        self.records.append(date | about | {"metric": name, "value": v} for name, v in found.items())
        errors = ", ".join(f"{name} {value:.4f}" for name, value in found.items())
        print(
            f"{trial.task}, {trial.stage}, {trial.model}, learning rate {trial.rate:g}, seed {trial.seed}: "
            f"{about['parameters']:,} parameters, {about['steps']} steps, {errors}",
            flush=True,
        )

    def table(self) -> list[str]:
        """Return heading and table of the task in Markdown."""
        from protocol.verdicts import table

        # The machine that ran the task last, which need not be this one.
        where = self.records.newest(scale=self.scale, task=self.task.name, stage="final")
        finals, pilots = self.rows("final", **where), self.rows("pilot", **where)
        if not finals:
            return []
        clock = finals[-1]["clock"]
        about = f"{self.task.about[0].upper()}{self.task.about[1:]}. "
        about += f"{self.setup.budget:g} s of {clock} time each, {finals[-1]['machine']}."
        return [f"### {self.task.name}", "", about, "", *table(finals, self.setup.models, pilots), ""]


def complete(protocol: Protocol, pool: Executor | None = None) -> None:
    """Run the pilots of a task, then its trainings, in the processes of `pool` or in this one."""
    from protocol import trial

    for stage in (protocol.pilots, protocol.finals):
        jobs = list(stage())
        if pool is None:
            for job in jobs:
                protocol.record(job[0], trial.run(*job))
            continue
        futures = {pool.submit(trial.run, *job): job[0] for job in jobs}
        failed = []
        for future in as_completed(futures):
            if error := future.exception():
                failed.append(error)
            else:
                protocol.record(futures[future], future.result())
        if failed:
            raise BaseExceptionGroup(f"{len(failed)} trainings of {protocol.task.name} failed", failed)


def write_page(scale: str, lines: Iterable[str], page: Path = PAGE) -> None:
    """Replace the tables of a scale, between their marks, on the page of the documentation."""
    text = page.read_text(encoding="utf-8")
    start, end = (MARK.format(f"{word} of the {scale}") for word in ("start", "end"))
    before, rest = text.split(start)
    _, after = rest.split(end)
    page.write_text(f"{before}{start}\n\n{chr(10).join(lines)}\n{end}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="all tasks at published sizes")
    parser.add_argument("--tasks", nargs="+", help="some of the tasks; all of the scale without it")
    parser.add_argument("--data", type=Path, default=CACHE, help="folder for data and unfinished trainings")
    parser.add_argument("--again", action="store_true", help="train what is recorded already, too")
    options = parser.parse_args()
    harness.pin_threads(1)
    os.environ["TQDM_DISABLE"] = "1"
    import torch
    from protocol.tasks import TASKS

    gpu = torch.accelerator.is_available()
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else harness.machine()
    packages = ("opflow-sciml", "neuraloperator")
    records = Records(RESULTS, {"machine": machine, "versions": harness.versions(packages)})
    scale = "full" if options.full else "default"
    protocols = {
        name: Protocol(task, task.setup(scale), scale, options.data, records, options.again)
        for name, task in TASKS.items()
        if options.full or task.small
    }
    chosen = options.tasks or [name for name in protocols if options.full or TASKS[name].default]
    chosen = [protocols[name] for name in chosen]
    start = time.perf_counter()
    for protocol in chosen:
        protocol.prepare()
    # A GPU takes one training at a time.
    workers = 1 if gpu else len(os.sched_getaffinity(0))
    with nullcontext() if gpu else ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        for protocol in chosen:
            complete(protocol, pool)
    print(f"{(time.perf_counter() - start) / 60:.0f} minutes\n")
    print("\n".join(line for protocol in chosen for line in protocol.table()))
    write_page(scale, [line for protocol in protocols.values() for line in protocol.table()])


if __name__ == "__main__":
    main()
