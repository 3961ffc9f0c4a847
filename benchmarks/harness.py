"""What the benchmarks share: pinned threads, interleaved timing, and one row per claim in results.csv.

Import this module before torch, jax or numpy, so that the thread settings reach them.

Columns of ``results.csv``
    date      UTC date and time of the run
    machine   processor name and number of cores visible to the process
    versions  Python, NumPy, PyTorch and the packages that the script names
    threads   threads that each side was allowed
    claim     what was measured, with its sizes and the unit of the two figures
    ours      our figure: the median over the repeats
    theirs    the peer's figure, likewise
    ratio     median over the repeats of the ratio of two figures measured in turn; above 1 we are better
    spread    smallest and largest such ratio
"""

from __future__ import annotations

import csv
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).parent / "results.csv"
COLUMNS = ("date", "machine", "versions", "threads", "claim", "ours", "theirs", "ratio", "spread")


def pin_threads(n: int) -> None:
    """Let OpenMP, MKL, XLA and PyTorch of this process use ``n`` threads; call it before importing them."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(n)
    flags = f"--xla_cpu_multi_thread_eigen={'true' if n > 1 else 'false'} intra_op_parallelism_threads={n}"
    os.environ["XLA_FLAGS"] = flags
    os.environ["JAX_PLATFORMS"] = "cpu"
    import torch

    torch.set_num_threads(n)


def interleave(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    repeats: int = 9,
    clock: Callable[[], float] = time.process_time,
) -> tuple[list[float], list[float]]:
    """Seconds of each call of two functions run in turn, after one call of each to warm up.

    ``clock`` is CPU time of the process; pass ``time.perf_counter`` for wall time.
    """
    ours(), theirs()
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(repeats):
        for function, record in zip((ours, theirs), seconds):
            start = clock()
            function()
            record.append(clock() - start)
    return seconds


def report(
    claim: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    *,
    threads: int,
    packages: Sequence[str] = (),
    higher_is_better: bool = False,
) -> float:
    """Print and return the median ratio of two interleaved series, and append it to results.csv."""
    pairs = zip(ours, theirs, strict=True)
    ratios = [a / b if higher_is_better else b / a for a, b in pairs]
    ratio, spread = statistics.median(ratios), f"{min(ratios):.2f}-{max(ratios):.2f}"
    a, b = statistics.median(ours), statistics.median(theirs)
    print(f"{claim}: ours {a:.4g}, theirs {b:.4g}, ratio {ratio:.2f} ({spread})")
    record(claim, f"{a:.4g}", f"{b:.4g}", f"{ratio:.3f}", spread, threads=threads, packages=packages)
    return ratio


def record(
    claim: str,
    ours: str,
    theirs: str = "",
    ratio: str = "",
    spread: str = "",
    *,
    threads: int,
    packages: Sequence[str] = (),
) -> None:
    """Append one row to results.csv; for figures that have no peer, leave the peer's columns empty."""
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        writer.writerow((now(), machine(), versions(packages), threads, claim, ours, theirs, ratio, spread))


def now() -> str:
    """UTC date and time, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def machine() -> str:
    """Processor and cores that this process may use."""
    return f"{_processor()}, {len(os.sched_getaffinity(0))} cores"


def versions(packages: Sequence[str] = ()) -> str:
    """Versions of Python, NumPy, PyTorch and further packages."""
    names = dict.fromkeys(("numpy", "torch", *packages))
    return "; ".join([f"python {platform.python_version()}", *(f"{name} {version(name)}" for name in names)])


def _processor() -> str:
    """Model name as the system states it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
