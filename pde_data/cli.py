"""The command `pde-data`: generate, look at, check, convert and summarise data sets."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro
from tyro.conf import Positional

_DESCRIPTION = """Data sets of partial differential equations.

examples:
  pde-data generate navier-stokes ns.h5 --samples 100 --viscosity 1e-3 --t-end 20 --records 20
  pde-data info ns.h5
  pde-data validate ns.h5
  pde-data audit ns.h5
  pde-data convert darcy_train_16.pt darcy.h5
  pde-data plot ns.h5 ns.png --animate ns.gif
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, by default that of the process, and return the exit status.

    What the user can put right is told in one line on standard error, with status 1; an interrupt gives 130.
    """
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        print("pde-data: interrupted; run the same command again to resume", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    from pde_data.integrate import SolverError
    from pde_data.worker import WorkerError

    commands = {
        "generate": _generate_command(),
        "info": info,
        "validate": validate,
        "audit": audit,
        "convert": convert,
        "stats": stats,
        "plot": plot,
    }
    try:
        status = tyro.extras.subcommand_cli_from_dict(
            commands,
            prog="pde-data",
            description=_DESCRIPTION,
            args=arguments,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
        )
    except (ValueError, OSError, ImportError, SolverError, WorkerError) as error:
        print(f"pde-data: error: {error}", file=sys.stderr)
        return 1
    return status or 0


def _generate_command() -> Callable[..., None]:
    from pde_data.equations import EQUATIONS

    choices = [
        Annotated[Any, tyro.conf.subcommand(name.replace("_", "-"), constructor=_solver(cls))]
        for name, cls in EQUATIONS.items()
    ]

    def generate(equation: Any) -> None:
        """Solve an equation for random initial conditions and write the solutions.

        example: pde-data generate navier-stokes ns.h5 --samples 100 --viscosity 1e-3
        """

    # A table of one row would be no choice: the hidden second member keeps the equation's name on the line.
    generate.__annotations__["equation"] = Union[(*choices, Annotated[None, tyro.conf.Suppress])]
    return generate


def _solver(equation: type) -> Callable[..., None]:
    from pde_data.generation import generate

    def solve(
        path: Positional[Path],
        /,
        parameters: Any,
        samples: int = 100,
        seed: int = 0,
        processes: int | None = None,
        shard_size: int | None = None,
        dask: str | None = None,
    ) -> None:
        work = {"processes": processes, "shard_size": shard_size, "dask": dask}
        generate(parameters, path, samples=samples, seed=seed, **work)
        print(path)

    # The full docstring has formulas, which a terminal does not show.
    title = (equation.__doc__ or "").partition("\n")[0]
    summary = f"{title}\n\n{equation.formula}"
    solve.__annotations__["parameters"] = Annotated[equation, tyro.conf.arg(help=summary)]
    solve.__doc__ = f"""Generate {equation.name.replace("_", " ")} data.

    Run the same command again to go on after an interruption; it makes only what is missing.

    Args:
        path: File to write (a name in .h5 or .nc), or a folder for a set of shards.
        samples: Number of trajectories.
        seed: Seed of the initial conditions; sample i depends on the seed and i alone.
        processes: Worker processes; default: one for each core.
        shard_size: Samples in a unit of work; default: a sixteenth of all, at most 25.
        dask: Address of a Dask scheduler (tcp://host:port) whose workers share the folder and do the work.
    """
    return solve


def info(path: Positional[str], /) -> None:
    """Show what a file or folder holds.

    example: pde-data info ns.h5

    Args:
        path: File or folder of any known format, or its address (https://..., s3://...).
    """
    from pde_data.formats import read

    schema = read(path)
    print(f"{path}: {', '.join(f'{dim} {size}' for dim, size in schema.sizes.items())}")
    for name, variable in schema.variables.items():
        units = variable.attributes.get("units")
        unit = f" [{units}]" if isinstance(units, str) and units else ""
        text = variable.attributes.get("long_name", "")
        print(f"  {name:<20} ({', '.join(variable.dims)})  {variable.values.dtype}  {text}{unit}")
    for key, value in schema.attributes.items():
        print(f"  :{key} = {value}")


def validate(
    path: Positional[str],
    /,
    against: str | None = None,
    samples: int | Literal["all"] = 16,
    seed: int = 0,
    json: Path | None = None,
) -> int:
    """Recompute what can be recomputed; print a table, and end with status 1 when something failed.

    Each line has a verdict, what was looked at, the number that was measured, the largest that passes, and
    what to do. All values are read for NaN, constant and repeated frames, duplicates, leakage between splits,
    checksums, units and coordinates. Spectra, divergence, boundary values, conserved quantities and the
    equation itself take some samples only: frames are solved to the next record and compared with it, with
    the equation and the parameters that the file names. A line is skipped where something cannot be checked.

    example: pde-data validate train.h5 --against test.h5 --samples all --json report.json

    Args:
        path: File or folder of any known format, or its address (https://..., s3://...).
        against: Another set, which must have no sample in common with it.
        samples: Number of samples for the expensive checks, or all.
        seed: Seed of their choice.
        json: File for the same report as JSON.
    """
    from pde_data.storage import write_json
    from pde_data.validation import validate

    report = validate(path, against, samples=None if samples == "all" else samples, seed=seed)
    print(report)
    if json is not None:
        write_json(json, report.to_dict())
    return 0 if report.passed else 1


def audit(
    path: Positional[str],
    /,
    samples: int = 64,
    intervals: int = 4,
    margin: float = 0.02,
    seed: int = 0,
    json: Path | None = None,
) -> None:
    """Score symmetries of the law behind the data: translation, rotation, reflection and others.

    Each line has a verdict (keep, reject, undecided), the part of the predictable change that is lost when
    the symmetry is forced on the law, with 99 % bounds, the part of the change that is predictable, and the
    p-value of the fields being distributed like their images.

    example: pde-data audit ns.h5

    Args:
        path: File or folder of any known format, or its address, with a time axis.
        samples: Most trajectories to use.
        intervals: Pairs of frames of each.
        margin: The largest loss of a law that has the symmetry.
        seed: Seed of the choice of trajectories, frames and points.
        json: File for the same table as JSON.
    """
    from pde_data.audit import symmetries
    from pde_data.storage import write_json

    result = symmetries(path, samples=samples, intervals=intervals, margin=margin, seed=seed)
    print(result)
    if json is not None:
        write_json(json, result.to_dict())


def convert(
    source: Positional[str],
    target: Positional[Path],
    /,
    layout: Literal["netcdf", "the-well"] = "netcdf",
    compress: Literal["lz4"] | None = None,
) -> None:
    """Write a data set of any known format as one netCDF-4 file, or in the layout of The Well.

    example: pde-data convert darcy_train_16.pt darcy.h5

    Args:
        source: File or folder to read, or its address (https://..., s3://...).
        target: File to write.
        layout: netcdf, or the-well for training with the package the_well.
        compress: Compress each frame and add checksums (netcdf only); default: neither, which reads fastest.
    """
    from pde_data.formats import convert

    convert(source, target, layout, compress)
    print(target)


def stats(
    path: Positional[str],
    output: Positional[Path | None] = None,
    /,
    inputs: tuple[str, ...] = (),
    targets: tuple[str, ...] = (),
    split: str | None = None,
) -> None:
    """Mean, deviation and range per channel, as JSON; use the train split for what a model will see.

    example: pde-data stats ns.h5 stats.json --inputs vorticity --split train

    Args:
        path: File or folder of any known format, or its address (https://..., s3://...).
        output: JSON file to write; default: print.
        inputs: Names of the input variables; default: what the file recommends, or its only field.
        targets: Names of the target variables; default: the inputs.
        split: train, valid or test; default: all samples.
    """
    from pde_data import ugrid
    from pde_data.dataset import FieldDataset
    from pde_data.formats import read
    from pde_data.mesh_dataset import MeshDataset
    from pde_data.moments import statistics
    from pde_data.storage import write_json

    kind = MeshDataset if ugrid.is_mesh(read(path)) else FieldDataset
    dataset = kind(path, list(inputs) or None, list(targets) or None, split=split)
    names = {"input_names": dataset.input_names, "target_names": dataset.target_names, "split": split}
    content = {**names, **statistics(dataset).to_dict()}
    if output is None:
        print(json.dumps(content, indent=2))
    else:
        write_json(output, content)
        print(output)


def plot(
    path: Positional[str],
    output: Positional[Path | None] = None,
    /,
    variable: str | None = None,
    sample: int = 0,
    frames: int = 5,
    animate: Path | None = None,
) -> None:
    """Draw one sample: snapshots on one colour scale, and spectra; or a film.

    example: pde-data plot ns.h5 ns.png --sample 3

    example: pde-data plot ns.h5 --animate ns.gif

    Args:
        path: File or folder of any known format, or its address (https://..., s3://...).
        output: Picture to write, PNG, PDF or SVG by its ending.
        variable: Field to draw; default: all.
        sample: Which sample.
        frames: Number of snapshots over time.
        animate: Film of all frames to write, GIF, or MP4 where ffmpeg is installed.
    """
    from pde_data import plotting

    if output is None and animate is None:
        raise ValueError("name a picture to write, or a film with --animate")
    if output is not None:
        plotting.plot(path, variable, sample=sample, frames=frames, output=output)
        print(output)
    if animate is not None:
        plotting.animate(path, animate, variable, sample=sample)
        print(animate)


if __name__ == "__main__":
    sys.exit(main())
