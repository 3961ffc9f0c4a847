"""Reads paths from standard input and says of each, in a line of JSON, what opening it came to.

Argument: bytes of address space beyond what the imports take. Run by `tests.fuzzing`.
"""

import contextlib
import faulthandler
import hashlib
import io
import json
import os
import resource
import signal
import sys
import traceback
import warnings
from pathlib import Path

import numpy as np

import pde_data
import pde_data.view
from pde_data import DatasetError, FieldDataset, cli


def digests(path):
    """Open, show, read and summarise; SHA-256 of the values of each field."""
    dataset = pde_data.open(path)
    with contextlib.redirect_stdout(io.StringIO()):
        cli.info(str(path))
    fields = [name for name in dataset.data_vars if set(dataset[name].dims) - {"sample", "time"}]
    found = {}
    for name in fields:
        if "sample" in dataset[name].dims and dataset.sizes.get("time", 2) > 1:
            pde_data.statistics(FieldDataset(path, name, name))
        found[name] = hashlib.sha256(np.ascontiguousarray(dataset[name].values)).hexdigest()
    return found


def validated(path, readable):
    """A report comes whatever the file says, without asking for more memory than there is."""
    report = pde_data.validate(path, samples=2)
    greedy = [row.remark for row in report.rows if "MemoryError" in row.remark]
    if greedy or (report.passed and not readable):
        raise AssertionError(greedy or "a file that cannot be read passes")


def answer(path):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            try:
                found = {"kind": "read", "digests": digests(path)}
            except DatasetError as error:
                found = {"kind": "refused", "words": str(error)}
            validated(path, found["kind"] == "read")
            return found
        except BaseException:  # what the tests look for
            return {"kind": "wrong", "words": traceback.format_exc()}


def peak():
    """Largest memory of this program; the number of `getrusage` is at least what its parent had."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def main():
    import h5py  # noqa: F401
    import scipy.io  # noqa: F401
    import torch  # noqa: F401
    import zarr  # noqa: F401

    faulthandler.register(signal.SIGUSR1)  # says on standard error where it hangs
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    for path in sys.argv[2:]:
        answer(path)  # so that what is imported late is there before the limit
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin:
        result = answer(line.rstrip("\n"))
        result["peak"] = peak()
        print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    main()
