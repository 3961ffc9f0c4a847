"""The command `opflow`: train, evaluate, predict, sample, export, certify, compare, list."""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import tyro
from tyro.conf import Positional

from opflow.training.config import TrainConfig

if TYPE_CHECKING:
    from opflow.runs import RunConfig

DESCRIPTION = """Train neural operators and flows on fields, and use them.

examples:
  pde-data generate navier_stokes ns.h5 --samples 200
  opflow train fno-navier-stokes --data ns.h5 --epochs 20 --folder runs/ns
  opflow train --resume runs/ns --epochs 40
  opflow evaluate runs/ns --resolution 128
  opflow predict runs/ns --data start.h5 --out prediction.h5 --steps 20
  opflow export runs/ns --to onnx
  opflow certify runs/ns --group p4 --grids 32 48 64
  opflow compare runs/ns runs/wide
  opflow train finc-digits --folder runs/digits
  opflow sample runs/digits --n 100 --out digits.png
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, by default that of the process, and return the exit status.

    What the user can put right is told in one line on stderr, with status 1; Ctrl-C gives status 130.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    try:
        commands = {
            "train": _train_command(_value_of("--resume", argv)),
            "evaluate": evaluate,
            "predict": predict,
            "sample": sample,
            "export": export,
            "certify": certify,
            "compare": compare,
            "list": list_known,
        }
        tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="opflow",
            description=DESCRIPTION,
            args=argv,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
            registry=_registry(),
        )
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"opflow: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(f"opflow: stopped{stop}", file=sys.stderr)
        return 130
    return 0


def _value_of(option: str, argv: list[str]) -> str | None:
    """What follows an option, which is needed before the options themselves can be declared."""
    for word, following in zip(argv, [*argv[1:], ""]):
        if word == option or word.startswith(f"{option}="):
            return following if word == option else word.partition("=")[2]
    return None


def _train_command(resume: str | None) -> Callable[..., None]:
    from opflow.runs import RUNS, RunConfig

    if resume == "":
        raise ValueError("--resume needs the folder of a run")
    if resume is not None:
        return _resume(_unchecked(RunConfig.read(resume)))
    choices = [
        Annotated[
            Any, tyro.conf.subcommand(name, description=text, constructor=_named(name, _unchecked(base)))
        ]
        for name, (text, base) in RUNS.items()
    ]

    def train(run: Any) -> None:
        """Train a named run, or go on with one: `opflow train NAME --help`, `opflow train --resume RUN`."""

    train.__annotations__["run"] = Union[tuple(choices)]  # noqa: UP007 (the members are known at run time)
    return train


def _named(name: str, base: "RunConfig") -> Callable[..., None]:
    def train(config: Any = base, folder: Path = Path("runs") / name) -> None:
        _train(_with_defaults(config, base), folder, resume=False)

    train.__annotations__["config"] = type(base)
    train.__doc__ = """Args:
        folder: Where the run is written.
    """
    return train


def _resume(base: "RunConfig") -> Callable[..., None]:
    def train(resume: Path, config: Any = base) -> None:
        """Go on with a run; options that are given replace those of the run.

        example: opflow train --resume runs/ns --epochs 40

        Args:
            resume: Folder of the run.
        """
        _train(_with_defaults(config, base), resume, resume=True)

    train.__annotations__["config"] = type(base)
    return train


class _Unchecked(TrainConfig):
    """A configuration as it was typed: tyro would tell in its own words what is refused while it reads."""

    def __post_init__(self):
        pass


def _unchecked(base: "RunConfig") -> "RunConfig":
    return replace(base, train=_Unchecked(**base.train.to_dict()))


def _with_defaults(config: "RunConfig", base: "RunConfig") -> "RunConfig":
    """Check what was typed; options of the model that were not given stay, unless it is another model."""
    options = base.options if config.model == base.model else {}
    return replace(config, options=options | config.options, train=TrainConfig(**config.train.to_dict()))


def _train(config: "RunConfig", folder: Path, resume: bool) -> None:
    from opflow import runs
    from opflow.runs.config import RUN_FILE

    try:
        runs.train(config, folder, resume=resume)
    except KeyboardInterrupt:
        started = (folder / RUN_FILE).exists()
        raise KeyboardInterrupt(f"; opflow train --resume {folder} goes on" if started else "") from None
    print(f"report: {folder / 'report.md'}")


def evaluate(run: Positional[Path], data: Path | None = None, resolution: int | None = None) -> None:
    """Measure a run on its test data or on other data.

    example: opflow evaluate runs/ns --data other.h5 --resolution 128

    Args:
        run: Folder of the run.
        data: File with the fields; the test data of the run by default.
        resolution: Resample the fields to so many points per axis.
    """
    from opflow import runs

    numbers = runs.evaluate_run(run, data, resolution=resolution)
    columns = [key for key in ("errors", "persistence") if key in numbers]
    rows = [
        (metric, *(_number(numbers[key][metric]["mean"]) for key in columns)) for metric in numbers["errors"]
    ]
    _print_table((f"mean over {numbers['pairs']} pairs", "model", "persistence")[: 1 + len(columns)], rows)
    if "rollout" in numbers:
        rollout = numbers["rollout"]
        print(
            f"rollout: relative L2 {_number(rollout['relative_l2'][0])} after one step, "
            f"{_number(rollout['relative_l2'][-1])} at t = {rollout['times'][-1]:g}"
        )


def predict(
    run: Positional[Path],
    data: Path,
    out: Path,
    resolution: int | None = None,
    steps: int | None = None,
) -> None:
    """Apply a run to a file of fields, and write a netCDF file.

    example: opflow predict runs/ns --data start.h5 --out prediction.h5 --steps 20

    Args:
        run: Folder of the run.
        data: File with the input fields.
        out: File to write.
        resolution: Points per axis of the result; the grid of the input by default.
        steps: Frames to predict, for fields over time; as many as the file goes on for by default.
    """
    from opflow import runs

    runs.predict(run, data, out, resolution=resolution, steps=steps)
    print(out)


def sample(
    run: Positional[Path],
    n: int = 64,
    out: Path | None = None,
    temperature: float = 1.0,
    label: int | None = None,
    seed: int = 0,
    film: Path | None = None,
) -> None:
    """Draw samples from a flow, as a picture or a netCDF file.

    examples: opflow sample runs/digits --n 100 --out digits.png
    opflow sample runs/darcy --n 16 --film darcy.gif

    Args:
        run: Folder of the run.
        n: Number of samples.
        out: A .png picture of all samples, or a .h5 or .nc file; samples.png in the run's folder by default.
        temperature: Factor on the noise; below 1 for samples nearer to the mode.
        label: The class to draw from, for a flow over classes; all in turn by default.
        seed: Seed of the noise.
        film: A .gif of the way from labels to fields and back, for SemFlow and SymmFlow.
    """
    from opflow import runs

    made = runs.sample(run, out, n=n, temperature=temperature, label=label, seed=seed, film=film)
    print(f"{made.path}: {made.n} samples in {made.seconds:.2f} s")


def export(run: Positional[Path], to: Literal["onnx", "pt2"]) -> None:
    """Write the model of a run as a graph that runs without this package.

    example: opflow export runs/ns --to onnx

    Args:
        run: Folder of the run.
        to: ONNX for onnxruntime and others, or an exported program of torch.
    """
    from opflow import runs

    print(runs.export(run, to))


def certify(
    run: Positional[Path],
    group: str | None = None,
    grids: tuple[int, ...] = (),
    translation: bool | None = None,
    in_kinds: tuple[str, ...] = (),
    out_kinds: tuple[str, ...] = (),
    tolerance: float | None = None,
) -> None:
    """Measure symmetries, independence of the grid and derivatives of a run; fails above the tolerance.

    What the model claims is judged, and what is asked for here; the rest is shown. `certificate.json` in the
    run's folder holds the table.

    example: opflow certify runs/ns --group p4 --grids 32 48 64

    Args:
        run: Folder of the run.
        group: Judge the elements of this group: p4 or p4m; for point clouds SO(2), O(2), SO(3) or O(3).
        grids: Judge the change between grids of so many points per axis.
        translation: Judge translations of the grid, or only show them.
        in_kinds: How the input fields turn: scalar, pseudoscalar or vector, one for each.
        out_kinds: How the output fields turn.
        tolerance: Largest error of every check; by default what rounding leaves.
    """
    from opflow import runs

    certificate = runs.certify(
        run,
        group=group,
        grids=grids or None,
        translation=translation,
        in_kinds=in_kinds or None,
        out_kinds=out_kinds or None,
        tolerance=tolerance,
    )
    print(certificate)
    certificate.require()


def compare(run: Positional[Path], other: Positional[Path]) -> None:
    """Show in what two runs differ, and their results.

    example: opflow compare runs/ns runs/wide

    Args:
        run: Folder of a run.
        other: Folder of another run.
    """
    from opflow import runs

    _print_table(("", str(run), str(other)), runs.compare(run, other))


def list_known() -> None:
    """List the named runs, the operators and the flows."""
    from opflow.flows import FLOWS
    from opflow.operators import OPERATORS
    from opflow.rectified import RECTIFIED
    from opflow.runs import RUNS

    _print_table(("run", "what it is"), [(name, text) for name, (text, _) in RUNS.items()])
    print()
    rows = [(name, (operator.__doc__ or "").split("\n")[0]) for name, operator in OPERATORS.items()]
    _print_table(("operator", "what it is"), [*rows, ("neuralop:NAME", "any model of neuraloperator.")])
    print()
    flows = {**FLOWS, **RECTIFIED}
    _print_table(("flow", "what it is"), [(n, (f.__doc__ or "").split("\n")[0]) for n, f in flows.items()])


def _registry():
    """How `--options KEY=VALUE ...` is read: values are JSON where they can be, text otherwise."""

    def read(words: list[str]) -> dict[str, Any]:
        options = {}
        for word in words:
            key, equals, value = word.partition("=")
            if not equals:
                raise ValueError(f"expected KEY=VALUE, got {word!r}")
            try:
                options[key] = json.loads(value)
            except json.JSONDecodeError:
                options[key] = value
        return options

    def write(options: dict[str, Any]) -> list[str]:
        return [f"{key}={json.dumps(value, separators=(',', ':'))}" for key, value in options.items()]

    registry = tyro.constructors.ConstructorRegistry()

    @registry.primitive_rule
    def options(info: tyro.constructors.PrimitiveTypeInfo):
        if info.type != dict[str, Any]:
            return None
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs="*",
            metavar="KEY=VALUE ...",
            instance_from_str=read,
            is_instance=lambda value: isinstance(value, dict),
            str_from_instance=write,
        )

    return registry


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, tuple("-" * width for width in widths), *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
