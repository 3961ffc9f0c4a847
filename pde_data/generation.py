"""Generate data sets: shards from several processes, each whole on disk or not there, joined at the end."""

from __future__ import annotations

import os
import queue
from collections import Counter
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from pde_data import ugrid
from pde_data.arrays import FieldArray
from pde_data.equations import EQUATIONS, Equation
from pde_data.equations.base import GridEquation
from pde_data.equations.unstructured import MeshEquation
from pde_data.manifest import Manifest, Request
from pde_data.storage import DatasetError, Schema, Variable, write
from pde_data.worker import Here, Worker


def generate(
    equation: str | Equation,
    path: str | os.PathLike,
    *,
    samples: int,
    seed: int = 0,
    processes: int | None = None,
    shard_size: int | None = None,
    dask: str | None = None,
    **parameters: Any,
) -> Path:
    """Solve an equation for `samples` random initial conditions and write the solutions as netCDF-4.

    A `path` that ends in `.h5` or `.nc` becomes one file, any other a folder of shards with a manifest.
    Work is done shard by shard: a run that was killed is continued by the same call, which makes only what
    is missing, and the result has the same bytes as that of an undisturbed run. Hardware, wall times and
    SHA-256 are in the manifest (`PATH.manifest.json` beside a single file).

    Args:
        equation: a name in `pde_data.EQUATIONS`, or an `Equation`.
        path: the file or folder to write.
        samples: number of trajectories; sample `i` depends on `seed` and `i` alone.
        seed: seed of the initial conditions.
        processes: number of worker processes; by default one for each core this process may use.
        shard_size: samples in a shard; by default a sixteenth of all, at most 25.
        dask: address of a Dask scheduler, such as "tcp://10.0.0.1:8786", whose workers make the shards
            instead; `path` must be on a disk that all of them share, and they need the same versions.
        parameters: fields of the equation, such as `resolution`, `viscosity`, `t_end`.

    Raises `ValueError` for unknown equations or parameters, and `DatasetError` when `path` holds another
    request's data, when another process is writing it, or when the disk is full (what is finished is kept).

    >>> import pde_data, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     options = {"resolution": 16, "t_end": 2, "records": 2, "processes": 1}
    ...     file = generate("navier_stokes", folder + "/ns.h5", samples=2, **options)
    ...     dict(pde_data.open(file).sizes)
    {'sample': 2, 'time': 3, 'x': 16, 'y': 16}
    """
    target = Path(path)
    instance = _instance(equation, parameters)
    if samples < 1:
        raise ValueError(f"samples={samples}, expected at least 1")
    if seed < 0:
        raise ValueError(f"seed={seed}, expected at least 0")
    size = min(25, -(-samples // 16)) if shard_size is None else shard_size
    if size < 1:
        raise ValueError(f"shard_size={size}, expected at least 1")
    if dask is not None and processes is not None:
        raise ValueError(
            f"processes={processes} and dask={dask!r}: the cluster decides how many work at a time"
        )
    request = Request(instance, samples, seed, size)
    request.attributes()  # a missing package is met here, before anything is made
    single = target.suffix in (".h5", ".nc")
    with Manifest.locked(target, request, single) as manifest:
        if not manifest.complete:
            manifest.recover()
            _make(request, manifest, processes or _cores(), dask)
            if single:
                _assemble(target, manifest)
            manifest.finish()
    return target


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _instance(equation: str | Equation, parameters: dict[str, Any]) -> Equation:
    if isinstance(equation, Equation):
        if parameters:
            raise ValueError(
                f"parameters {list(parameters)} belong into the {type(equation).__name__} that was given"
            )
        return equation
    if equation not in EQUATIONS:
        raise ValueError(f"equation={equation!r} is unknown: choose one of {', '.join(EQUATIONS)}")
    return EQUATIONS[equation].from_parameters(**parameters)


def _make(request: Request, manifest: Manifest, processes: int, dask: str | None) -> None:
    """Make the missing shards, `processes` at a time or on a Dask cluster."""
    from tqdm import tqdm

    missing = manifest.missing
    done = request.samples - sum(request.count(shard) for shard in missing)
    bar = tqdm(total=request.samples, initial=done, desc=manifest.target.name, unit="sample", disable=None)
    jobs = {shard: (manifest.shard(shard).absolute(), request, shard) for shard in missing}
    if dask is None:
        results = _results(processes, jobs)
    else:
        from pde_data import cluster

        results = cluster.results(dask, make_shard, jobs, request.equation.libraries)
    with bar, closing(results):
        try:
            for shard, record in results:
                if not manifest.shard(shard).exists():
                    raise DatasetError(
                        f"a worker has written {jobs[shard][0]} on its own disk, it is not here; name a path "
                        "that all machines of the cluster share"
                    )
                manifest.add(shard, record)
                bar.update(request.count(shard))
        except DatasetError as error:
            kept = request.shards - len(manifest.missing)
            raise DatasetError(
                f"{error}\n{kept} of {request.shards} shards are finished and kept in {manifest.folder}; "
                "make room and run the same command again to go on"
            ) from error


def _results(processes: int, jobs: dict[int, tuple]) -> Generator[tuple[int, dict[str, Any]], None, None]:
    """Make shards in processes of this machine; yields the number and the record of each at its end."""
    workers: queue.SimpleQueue[Worker | Here] = queue.SimpleQueue()
    count = min(processes, len(jobs))
    started = [Worker() for _ in range(count)] if count > 1 else [Here()]
    for worker in started:
        workers.put(worker)

    def make(arguments: tuple) -> dict[str, Any]:
        worker = workers.get()
        try:
            return worker.run(make_shard, *arguments)
        finally:
            workers.put(worker)

    with ThreadPoolExecutor(len(started)) as pool:
        try:
            shards = {pool.submit(make, arguments): shard for shard, arguments in jobs.items()}
            for job in as_completed(shards):
                yield shards[job], job.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in started:
                worker.close()


def make_shard(path: Path, request: Request, shard: int) -> dict[str, Any]:
    """Solve for the samples of one shard and write them; returns its manifest entry."""
    import time

    from pde_data.storage import sha256

    begin = time.perf_counter()
    indices = request.indices(shard)
    result = request.equation.generate(request.seed, list(indices))
    values = {name: result[name] for name in request.equation.variables}
    scalars = {**result["parameters"], **result["diagnostics"]}
    _check_finite(request, indices, values, result)
    if isinstance(request.equation, MeshEquation):
        about, counts = ugrid.arrays(result["meshes"])
        values, scalars = {**about, **values}, {**counts, **scalars}
    schema = _schema(request, indices, scalars, {name: value.shape for name, value in values.items()})
    write(path, schema, [(0, values)])
    return {
        "file": path.name,
        "first": indices[0],
        "samples": len(indices),
        "sha256": sha256(path),
        "wall_time_s": round(time.perf_counter() - begin, 3),
    }


def _check_finite(
    request: Request, indices: range, values: dict[str, np.ndarray], result: dict[str, Any]
) -> None:
    counts = [len(mesh.points) for mesh in result["meshes"]] if "meshes" in result else 1
    for name, value in values.items():
        finite = np.isfinite(value.reshape(len(value), -1)).all(axis=1)
        if not finite.all():
            sample = np.repeat(indices, counts)[int(np.argmin(finite))]
            remedy = "choose other parameters" if request.equation.times is None else "lower dt"
            raise DatasetError(
                f"{request.equation.name}: {name} of sample {sample} became NaN or infinite; {remedy}"
            )


def _schema(
    request: Request,
    indices: range,
    scalars: dict[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
) -> Schema:
    """Describe the file: `scalars` over samples have values, what has `shapes` is written later."""
    equation = request.equation
    if isinstance(equation, MeshEquation):
        layout = ugrid.variables(equation.variables, equation.conditions)
    elif isinstance(equation, GridEquation):
        layout = _on_grid(equation)
    else:
        raise TypeError(f"{type(equation).__name__} is neither a GridEquation nor a MeshEquation")
    variables = {
        "sample": Variable(("sample",), np.asarray(indices, dtype=np.int64), {"long_name": "sample number"}),
        **{name: variable for name, variable in layout.items() if variable.values is not None},
        **{
            name: Variable(("sample",), np.asarray(values), ugrid.count_attributes(name))
            for name, values in scalars.items()
        },
        **{name: variable for name, variable in layout.items() if variable.values is None},
    }
    sizes = {dim: size for name, shape in shapes.items() for dim, size in zip(variables[name].dims, shape)}
    return Schema(variables, request.attributes(), sizes)


def _on_grid(equation: GridEquation) -> dict[str, Variable]:
    variables, axes = {}, equation.coordinates
    if equation.times is not None:
        attributes = {"units": equation.time_units, "long_name": "time", "axis": "T"}
        variables["time"] = Variable(("time",), np.asarray(equation.times, np.float64), attributes)
    for name, (values, attributes) in axes.items():
        variables[name] = Variable((name,), values, attributes)
    for name, (dims, values, attributes) in equation.auxiliary.items():
        variables[name] = Variable(dims, values, attributes)
    for name, attributes in equation.variables.items():
        over_time = equation.times is not None and name not in equation.static
        variables[name] = Variable(("sample", *(("time",) if over_time else ()), *axes), None, attributes)
    return variables


def _assemble(target: Path, manifest: Manifest) -> None:
    """Join the shards into one file, with no more than one shard in memory."""
    from pde_data.formats import native

    parts = [native.read(manifest.shard(shard)) for shard in range(manifest.request.shards)]
    scalars = {
        name: np.concatenate([part.variables[name].values for part in parts])
        for name, variable in parts[0].variables.items()
        if variable.dims == ("sample",) and name != "sample"
    }
    shapes = {
        name: (sum(len(part.variables[name].values) for part in parts), *variable.values.shape[1:])
        for name, variable in parts[0].variables.items()
        if isinstance(variable.values, FieldArray)
    }
    schema = _schema(manifest.request, range(manifest.request.samples), scalars, shapes)

    def blocks() -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        first: Counter[str] = Counter()
        for part in parts:
            for name in shapes:
                values = part.variables[name].values[:]
                if name == ugrid.FACES:
                    values += first["node"]
                yield first[schema.variables[name].dims[0]], {name: values}
            first.update(part.sizes)

    try:
        write(target, schema, blocks())
    except DatasetError as error:
        raise DatasetError(
            f"{error}\nall {manifest.request.shards} shards are finished and kept in {manifest.folder}; "
            "make room and run the same command again, which joins them"
        ) from error
