"""Every format, written in its exact layout by an independent writer, read back and compared.

Prints a line for each: variables, sizes, whether values, coordinates, units and parameters are equal, and the
seconds to open the file and read all of it. The exit status is 1 when anything differs.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the writers belong to the tests

import numpy as np

import pde_data
from tests.writers import Case, differences, every_case


def read(case: Case, folder: Path) -> tuple[tuple[str, ...], list[str]]:
    """One line of the table, and what is not as expected."""
    path = folder / case.file
    expected = case.write(path, np.random.default_rng(0))
    start = time.perf_counter()
    found = pde_data.open(path).load()
    seconds = time.perf_counter() - start
    problems = differences(found, expected)
    names = [str(name) for name in found.data_vars if len(found[name].dims) > 1]
    fields = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    sizes = ", ".join(f"{dim} {size}" for dim, size in found.sizes.items())
    return (case.name, case.file, fields, sizes, "no" if problems else "yes", f"{seconds:.3f}"), problems


def main() -> int:
    table = [("format", "file", "fields", "sizes", "equal", "seconds")]
    wrong: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(every_case()):
            own = Path(folder) / str(number)
            own.mkdir()
            try:
                line, problems = read(case, own)
            except pde_data.DatasetError as error:
                line, problems = (case.name, case.file, "", "", "no", ""), [str(error)]
            table.append(line)
            if problems:
                wrong[case.name] = problems
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())
    for name, problems in wrong.items():
        print(f"{name}: {'; '.join(problems)}", file=sys.stderr)
    print(f"{len(table) - 1 - len(wrong)} of {len(table) - 1} read back equal")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
