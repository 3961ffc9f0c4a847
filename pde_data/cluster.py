"""Work on a Dask cluster whose machines share a folder."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from pde_data.manifest import software
from pde_data.storage import DatasetError
from pde_data.worker import WorkerError


def results(
    address: str, function: Callable[..., Any], jobs: Mapping[int, tuple], libraries: Sequence[str]
) -> Generator[tuple[int, Any], None, None]:
    """Run `function(*arguments)` for each job on a cluster; yield `(number, result)` as they end.

    What a worker was doing when it died is done by another one. Raises what a job raised; `WorkerError`
    when there is no cluster, when it goes away, or when one job brings down worker after worker; and
    `DatasetError` where the cluster runs other versions of `libraries`, which might give other bytes.
    """
    try:
        from distributed import CancelledError, Client, KilledWorker, as_completed
    except ImportError as error:
        raise DatasetError("dask= needs the package distributed; pip install 'opflow-sciml[dask]'") from error
    try:
        client = Client(address, set_as_default=False)
    except (OSError, ValueError) as error:
        raise WorkerError(f"no Dask scheduler answers at {address!r}: {error}") from error
    with client:
        versions = software(libraries)
        # Not pure: a file has to be written again even if the cluster remembers the record of it.
        futures = {
            client.submit(_alike, versions, libraries, function, *arguments, pure=False): number
            for number, arguments in jobs.items()
        }
        for future in as_completed(futures, loop=client.loop):
            try:
                result = future.result()
            except KilledWorker as error:
                raise WorkerError(
                    f"job {futures[future]} brought down several workers of {address}, for want of memory or "
                    "at another's hand; run the same command again to resume"
                ) from error
            except CancelledError as error:
                raise WorkerError(
                    f"the Dask cluster at {address} went away; run the same command again to resume"
                ) from error
            yield futures[future], result


def _alike(
    versions: dict[str, str], libraries: Sequence[str], function: Callable[..., Any], *arguments: Any
) -> Any:
    """Call a function on a worker as it is called here: the same versions, one thread."""
    import torch

    if (held := software(libraries)) != versions:
        there = {key: value for key, value in held.items() if value != versions.get(key)}
        raise DatasetError(
            f"a worker of the Dask cluster has {there}, here is {versions}; install the same versions"
        )
    torch.set_num_threads(1)  # and it stays so, since several jobs may run in a worker at once
    return function(*arguments)
