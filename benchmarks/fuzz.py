"""Damaged files, each opened in a process of its own kind: what they came to.

    python benchmarks/fuzz.py --count 10000

Of bit flips, truncations, noise and wrong types in files of ours and of others, each must be refused in
words (`DatasetError`) or read, and where a checksum covers the values, read right. The exit status is 1 when
one ends otherwise; such files are kept in `--keep`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # what damages files belongs to the tests

from tests.fuzzing import MEMORY, run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=10000, help="number of damaged files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for the files that end badly")
    options = parser.parse_args()
    start = time.perf_counter()
    report = None
    with tempfile.TemporaryDirectory() as folder:
        for report in run(Path(folder), options.count, options.seed, options.keep):
            if sys.stderr.isatty() and sum(report.kinds.values()) % 50 == 0:
                print(f"\r{sum(report.kinds.values())} {dict(report.kinds)}", end="", file=sys.stderr)
    if report is None:
        raise SystemExit(f"--count {options.count} leaves nothing to do")
    width = max(map(len, report.by_original))
    for name, kinds in report.by_original.items():
        print(f"{name:{width}}  " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    print(
        f"{sum(report.kinds.values())} files in {time.perf_counter() - start:.0f} s: {dict(report.kinds)}; "
        f"at most {report.peak / 2**20:.0f} MB in memory, {MEMORY / 2**20:.0f} MB allowed beyond the imports"
    )
    for failure in report.failures:
        print(failure, file=sys.stderr)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
