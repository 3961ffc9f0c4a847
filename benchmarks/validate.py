"""Does `pde-data validate` find faults and nothing else, and does the audit tell symmetries?

    python benchmarks/validate.py             # ten faults, a clean set of every equation, ten audits
    python benchmarks/validate.py --seeds 2   # fewer audits
    python benchmarks/validate.py --first 100 # audits of other seeds

Prints three tables and ends with status 1 when a fault is missed, a clean set fails or a verdict is wrong.
The faults are those of `tests/faults.py`, the clean sets two members of every equation in
`tests/tables.py`.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import harness

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tables of the tests

AUDITED = ("rotation by 90", "reflection of x")
EXPECTED = {"boussinesq": ("reject", "keep"), "navier_stokes": ("keep", "keep")}


def faults(folder: Path) -> int:
    from pde_data import validate
    from tests.faults import FAULTS

    print(f"{'injected fault':<40}{'found by':<12}{'number':>10} {'limit':<8} {'s':>5}  what it says")
    missed = 0
    for fault in FAULTS:
        start = time.perf_counter()
        rows = [
            row
            for row in validate(fault.put(folder)).failures
            if row.check == fault.check and fault.words in row.remark
        ]
        seconds = time.perf_counter() - start
        missed += not rows
        row = rows[0] if rows else None
        number = "" if row is None or row.number is None else f"{row.number:.3g}"
        limit = "" if row is None or row.tolerance is None else f"{row.tolerance:.3g}"
        found = row.check if row else "MISSED"
        words = row.remark if row else ""
        print(f"{fault.name:<40}{found:<12}{number:>10} {limit:<8} {seconds:5.1f}  {words[:90]}")
    print(f"{len(FAULTS) - missed} of {len(FAULTS)} found\n")
    return missed


def clean(folder: Path) -> int:
    import pde_data
    from pde_data import validate
    from tests import tables

    print(f"{'clean set':<36}{'passed':>7}{'failed':>7}{'skipped':>8}{'equation':>10} {'s':>6}")
    wrong = 0
    for name, case in tables.EQUATIONS.items():
        for label, equation in ((name, case.equation), (f"{name}, other parameters", case.other)):
            path = folder / f"clean {label}.h5"
            pde_data.generate(equation, path, samples=4, processes=1)
            start = time.perf_counter()
            report = validate(path)
            seconds = time.perf_counter() - start
            counts = [sum(row.verdict == v for row in report.rows) for v in ("pass", "fail", "skipped")]
            row = next((row for row in report.rows if row.check == "equation"), None)
            number = "skipped" if row is None or row.number is None else f"{row.number:.1e}"
            print(f"{label:<36}{counts[0]:>7}{counts[1]:>7}{counts[2]:>8}{number:>10} {seconds:6.1f}")
            for row in report.failures:
                print(f"    {row.check} {row.subject} {row.number} > {row.tolerance}: {row.remark}")
            wrong += not report.passed
    print(f"{wrong} clean sets with complaints\n")
    return wrong


def audits(folder: Path, seeds: range) -> int:
    import pde_data
    from pde_data import audit

    settings = {
        "boussinesq": {"resolution": 32, "t_end": 2.0, "records": 16, "buoyancy": 1.0},
        "navier_stokes": {"resolution": 32, "t_end": 2.0, "records": 4, "forcing": "none"},
    }
    print(f"{'audit':<22}" + "".join(f"{name:<34}" for name in AUDITED))
    wrong = 0
    for seed in seeds:
        for name, parameters in settings.items():
            path = pde_data.generate(
                name, folder / f"{name}_{seed}.h5", samples=32, seed=seed, processes=1, **parameters
            )
            result = audit.symmetries(path, seed=seed)
            scores = [result[symmetry] for symmetry in AUDITED]
            wrong += tuple(score.verdict for score in scores) != EXPECTED[name]
            cells = [f"{s.verdict} {s.defect:.3f} ({s.low:.3f} .. {s.high:.3f})" for s in scores]
            print(f"{name + ' ' + str(seed):<22}" + "".join(f"{cell:<34}" for cell in cells), flush=True)
    print(f"{wrong} wrong verdicts of {2 * len(seeds)}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=10, help="audits of each flow")
    parser.add_argument("--first", type=int, default=0, help="first seed of the audits")
    options = parser.parse_args()
    seeds = range(options.first, options.first + options.seeds)
    harness.pin_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        return int(bool(faults(path) + clean(path) + audits(path, seeds)))


if __name__ == "__main__":
    sys.exit(main())
