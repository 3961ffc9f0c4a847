"""What every equation of `pde_data` has been measured to do, as the table of docs/equations.md.

    python benchmarks/equations.py                     # all of them, and write the table
    python benchmarks/equations.py kdv mhd             # only print the rows of some

The cases are those of the tests (`tests/tables.py`), which hold each number to a bound.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import harness

harness.pin_threads(1)
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))


from pde_data.equations.base import GridEquation  # noqa: E402
from tests.cases import EquationCase, measured_drift, relative  # noqa: E402
from tests.tables import EQUATIONS  # noqa: E402

PAGE = ROOT / "docs" / "equations.md"
COLUMNS = ("equation", "dimensions", "error (float64 / float32)", "order", "drift", "symmetries")
ABOUT = """# Equations

`pde-data generate NAME` and `pde_data.generate(NAME, ...)` make data of each of these equations,
`pde_data.simulate(NAME, ...)` solves those that evolve from your own initial values. The table is written by
`python benchmarks/equations.py`; the tests hold each of its numbers to a bound.

- **error**: relative L2 error against a solution known otherwise, solved in each precision (on triangle
  meshes in float64 alone).
- **order**: measured order of convergence in what is named, with the order of the method; for *points*, the
  rate at which the logarithm of the error of a spectral method falls with each point per axis, with the rate
  that the nearest complex singularity of the exact solution gives.
- **drift**: largest change of what the exact solution keeps, relative to its size unless that is 0, over a
  run in float64 with the steps that the solver chooses; and what falls from frame to frame, as it must.
- **symmetries**: moves of space with which solving commutes to 11 digits, as with no other of translations,
  reflections and rotation by 90 degrees.

"""


def number(value: float) -> str:
    """Two digits; rounding errors of float64 differ from machine to machine."""
    return "< 1e-13" if abs(value) < 1e-13 else f"{value:.1e}"


def cells(case: EquationCase) -> list[list[str]]:
    """Entries of each column after the name."""
    errors = [
        f"{exact.name.replace('_', ' ')}: "
        + " / ".join(number(relative(*exact.solve(dtype))) for dtype in exact.tolerance)
        for exact in case.exact
    ]
    orders = [f"{order.name}: {order.measure():.1f} ({order.expected:g})" for order in case.orders]
    rates = [
        f"points, {rate.name.replace('_', ' ')}: {rate.measure():.2g} ({rate.expected:.2g})"
        for rate in case.rates
    ]
    drift = measured_drift(case) if case.drift else {}
    kept = [f"{name.replace('_', ' ')}: {number(value)}" for name, value in drift.items()]
    falls = [f"{name} falls" for name in case.decreasing]
    several = "dimensions" in (field.name for field in dataclasses.fields(case.equation))  # type: ignore[arg-type]
    on_grid = isinstance(case.equation, GridEquation)
    dimensions = ["1, 2, 3" if several else str(case.equation.grid.ndim) if on_grid else "2, triangles"]
    return [dimensions, errors, orders + rates, kept + falls, list(case.symmetries)]


def row(name: str, case: EquationCase) -> str:
    entries = [f"**{name}**<br>`{case.equation.formula}`", *("<br>".join(cell) for cell in cells(case))]
    return "| " + " | ".join(entry.replace("|", "\\|") for entry in entries) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all, and write the page")
    names = parser.parse_args().names
    lines = []
    for name in names or EQUATIONS:
        lines.append(row(name, EQUATIONS[name]))
        print(lines[-1], flush=True)
    if not names:
        head = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
        PAGE.write_text(ABOUT + "\n".join([*head, *lines]) + "\n", encoding="utf-8")
        print(PAGE)


if __name__ == "__main__":
    main()
