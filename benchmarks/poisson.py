"""Poisson problems on grids: our multigrid, learned and not, beside the usual solvers, by CPU time.

    python benchmarks/poisson.py                       # all problems, about a quarter of an hour
    python benchmarks/poisson.py --problems box3d-128 blobs3d-128
    python benchmarks/poisson.py --learning            # learned against the same code untrained
    python benchmarks/poisson.py --threads 2           # wall times, all cores of a machine of two

Each pair of problem and method runs in a process of its own with one thread. White right-hand side, start at
zero, SciPy's cg to a relative residual of 1e-6, which is computed anew at the end; times are CPU seconds, the
median of several solves where they are short; memory is what the peak of the process grows by, set-up and
solve together, and in float32 vectors what it grows by in the set-up and one application. All problems have
Neumann faces but one Dirichlet face, "blobs" also up to 12 smooth obstacles with Neumann faces; their shapes
come from a seed that no training used. The floor is ten residuals in float32, 12 bytes per cell and 13 with a
mask, at the bandwidth of a triad measured in the same process.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import harness

SIZES = {"2d": (256, 512, 1024), "3d": (64, 96, 128)}
PROBLEMS = [f"{kind}{dim}-{n}" for dim in SIZES for kind in ("box", "blobs") for n in SIZES[dim]]
METHODS = ("cg", "ic0", "pyamg-sa", "pyamg-rs", "dst", "dcdm", "multigrid", "learned")
PACKAGES = ("opflow-sciml", "numpy", "scipy", "numba", "pyamg")
TOLERANCE = 1e-6


def stencil(problem: str, seed: int = 0):
    """Return the stencil of a problem by its name; the shapes of a seed are the same on every grid."""
    import numpy as np

    from pde_data.equations.stencil import Stencil
    from solvers.domains import random_stencil

    kind, size = problem.split("-")
    sizes = (int(size),) * int(kind[-2])
    ends = {"x": ("neumann", "dirichlet"), **dict.fromkeys("yz"[: len(sizes) - 1], "neumann")}
    mask = random_stencil(np.random.default_rng((77, seed)), sizes, kind[:-2]).mask
    return Stencil.poisson(mask, spacing=1 / sizes[0], bc=ends)


def preconditioner(method: str, op, threads: int):
    """Return a matrix for SciPy's cg and a preconditioner, set up."""
    from solvers import MultigridPreconditioner

    if method == "multigrid":
        return op, MultigridPreconditioner(num_threads=threads).setup(op)
    if method == "learned":
        name = f"poisson{op.mask.ndim}d"
        return op, MultigridPreconditioner.from_pretrained(name, num_threads=threads).setup(op)
    A = op.to_csr()
    begun = time.process_time(), time.perf_counter()
    M = None
    if method == "ic0":
        from incomplete_cholesky import IncompleteCholesky

        M = IncompleteCholesky(A)
    elif method.startswith("pyamg"):
        import pyamg

        build = pyamg.ruge_stuben_solver if method == "pyamg-rs" else pyamg.smoothed_aggregation_solver
        M = build(A).aspreconditioner()
    return A, M, begun


def measure(problem: str, method: str, threads: int, seed: int) -> dict[str, float]:
    """Set up and solve once to warm up on a small problem, then on the one asked for."""
    import numpy as np
    from scipy.sparse.linalg import cg
    from threadpoolctl import threadpool_limits

    from solvers import GridPoisson

    if method in ("multigrid", "learned"):
        # SciPy's cg multiplies vectors by BLAS, whose threads would wait for those of our kernels, see
        # solvers.vectors. The other methods have no other threads than these.
        threadpool_limits(1, "blas")
    kind, size = problem.split("-")
    for name in (f"{kind}-16", problem):
        op = GridPoisson.from_stencil(stencil(name, seed), num_threads=threads)
        b = np.random.default_rng(seed).standard_normal(op.shape[0])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        cpu, wall = time.process_time(), time.perf_counter()
        if method == "dst":
            found = _direct(op, b)
        elif method == "dcdm":
            found = _dcdm(op, b)
        else:
            A, M, *begun = preconditioner(method, op, threads)
            if begun:  # making the matrix is not set-up
                cpu, wall = begun[0]
            setup = time.process_time() - cpu, time.perf_counter() - wall
            if M is not None:
                M @ b
            own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            times = []
            while not times or (len(times) < 5 and sum(t for t, _ in times) < 2):
                steps: list[Any] = []
                cpu, wall = time.process_time(), time.perf_counter()
                x, _ = cg(A, b, M=M, rtol=TOLERANCE, callback=steps.append)
                times.append((time.process_time() - cpu, time.perf_counter() - wall))
            solve = [statistics.median(t) for t in zip(*times)]
            found = {"setup": setup, "solve": solve, "iterations": len(steps), "x": x, "own": own}
    x = found.pop("x")
    return {
        "setup_cpu": found["setup"][0],
        "setup_wall": found["setup"][1],
        "solve_cpu": found["solve"][0],
        "solve_wall": found["solve"][1],
        "iterations": found["iterations"],
        "residual": float(np.linalg.norm(b - op @ x) / np.linalg.norm(b)),
        "own": (found["own"] - before) * 256 / op.shape[0] if "own" in found else 0.0,
        "memory": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "unknowns": op.shape[0],
        "floor": 10 * (12 + (not op.mask.all())) * op.shape[0] / _triad(threads),
    }


def _direct(op, b):
    from pde_data.equations.elliptic import FastPoisson

    cpu, wall = time.process_time(), time.perf_counter()
    solver = FastPoisson.of(op.stencil)
    setup = time.process_time() - cpu, time.perf_counter() - wall
    cpu, wall = time.process_time(), time.perf_counter()
    x = op.vector(solver(op.field(b)))
    return {
        "setup": setup,
        "solve": (time.process_time() - cpu, time.perf_counter() - wall),
        "iterations": 1,
        "x": x,
    }


def _dcdm(op, b):
    from solvers import DCDMPreconditioner, fcg

    cpu, wall = time.process_time(), time.perf_counter()
    M = DCDMPreconditioner.from_pretrained(f"dcdm{op.mask.ndim}d").setup(op)
    setup = time.process_time() - cpu, time.perf_counter() - wall
    cpu, wall = time.process_time(), time.perf_counter()
    result = fcg(op, b, M=M, m=2, rtol=TOLERANCE, maxiter=300, fallback=False)
    solve = time.process_time() - cpu, time.perf_counter() - wall
    return {"setup": setup, "solve": solve, "iterations": result.iterations, "x": result.x}


def _triad(threads: int) -> float:
    """Bytes per second of a = b + s c, the best of several, from memory."""
    import numba
    import numpy as np

    @numba.njit(parallel=True)
    def triad(a, b, c, s):
        for i in numba.prange(len(a)):
            a[i] = b[i] + s * c[i]

    numba.set_num_threads(threads)
    a, b, c = (np.ones(1 << 25, np.float32) for _ in range(3))
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        triad(a, b, c, np.float32(3))
        best = min(best, time.perf_counter() - start)
    return 3 * a.nbytes / best


def run(problem: str, method: str, threads: int = 1, seed: int = 0) -> dict[str, float] | None:
    """Measure in a process of its own; None if it failed or took more than five minutes."""
    command = [sys.executable, __file__, "--one", problem, method, str(seed), "--threads", str(threads)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        print(done.stderr[-500:], file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def skipped(problem: str, method: str) -> bool:
    """Whether a method does not apply, or takes minutes."""
    n = int(problem.split("-")[1])
    return (method == "dst" and not problem.startswith("box")) or (
        method == "dcdm" and n > {"2": 256, "3": 64}[problem.split("-")[0][-2]]
    )


def table(problems: list[str], methods: list[str], threads: int) -> None:
    """Measure all pairs, print and record them."""
    clock = "cpu" if threads == 1 else "wall"
    for problem in problems:
        rows = {m: row for m in methods if not skipped(problem, m) if (row := run(problem, m, threads))}
        if not rows:
            continue
        floor = min(row["floor"] for row in rows.values())
        unknowns = next(iter(rows.values()))["unknowns"]
        print(f"\n{problem}, {unknowns:,} unknowns, {clock} seconds, {threads} threads")
        for method, row in rows.items():
            setup, solve = row[f"setup_{clock}"], row[f"solve_{clock}"]
            wrong = "" if row["residual"] <= 1.05 * TOLERANCE else f"  RESIDUAL {row['residual']:.1e}"
            print(
                f"  {method:10} set-up {setup:8.3f}  solve {solve:8.3f}  "
                f"iterations {row['iterations']:5.0f}  {row['memory']:6.0f} MiB, {row['own']:5.1f} vectors  "
                f"solve/floor {solve / floor:7.1f}{wrong}",
                flush=True,
            )
            claim = f"{method} on {problem}, rtol 1e-6, {clock} s: set-up + solve, iterations"
            harness.record(
                claim,
                f"{setup:.4g} + {solve:.4g}",
                f"{row['iterations']:.0f}",
                threads=threads,
                packages=PACKAGES,
            )
        peers = [rows[m] for m in ("pyamg-sa", "pyamg-rs") if m in rows]
        for method in ("multigrid", "learned"):
            if method not in rows or len(peers) < 2:
                continue
            ours = rows[method][f"setup_{clock}"] + rows[method][f"solve_{clock}"]
            best = min(row[f"setup_{clock}"] + row[f"solve_{clock}"] for row in peers)
            alone = rows["pyamg-rs"][f"solve_{clock}"] / rows[method][f"solve_{clock}"]
            print(f"  {method}: {best / ours:.1f} times as fast as the better PyAMG, solve only {alone:.1f}")
            for what, ratio in (
                ("set-up + solve against the better PyAMG method", best / ours),
                ("solve against RS", alone),
            ):
                claim = f"{method} on {problem}, {clock} time, {what}"
                harness.record(claim, "", "", f"{ratio:.3f}", threads=threads, packages=PACKAGES)


def learning(threads: int = 1, count: int = 20) -> None:
    """Compare the learned cycle with the same code untrained on unseen domains of all kinds."""
    import numpy as np
    from scipy.sparse.linalg import cg

    from solvers import GridPoisson, MultigridPreconditioner
    from solvers.domains import KINDS, random_stencil

    for sizes in ((512, 512), (64, 64, 64)):
        ratios, its, old = [], [], []
        for seed in range(count):
            kind = KINDS[1:][seed % 3]
            drawn = random_stencil(np.random.default_rng((2026, seed)), sizes, kind)
            op = GridPoisson.from_stencil(drawn, num_threads=threads)
            b = np.random.default_rng(seed).standard_normal(op.shape[0])
            name = f"poisson{len(sizes)}d"
            both = (
                MultigridPreconditioner.from_pretrained(name, num_threads=threads).setup(op),
                MultigridPreconditioner(num_threads=threads).setup(op),
            )
            counts: list[list[int]] = [[], []]

            def solve(k, op=op, b=b, both=both, counts=counts):
                counts[k].clear()
                _, info = cg(op, b, M=both[k], rtol=TOLERANCE, callback=lambda _: counts[k].append(1))
                assert info == 0

            ours, theirs = harness.interleave(lambda: solve(0), lambda: solve(1), repeats=3)
            ratios.append(statistics.median(b / a for a, b in zip(ours, theirs)))
            its.append(len(counts[0]))
            old.append(len(counts[1]))
            print(
                f"{kind:7} {sizes}: {old[-1]:3} iterations untrained, {its[-1]:3} learned, "
                f"{ratios[-1]:.2f} times as fast; set-up {both[1].setup_seconds:.3f} s, "
                f"{both[0].setup_seconds:.3f} s",
                flush=True,
            )
        ratio, new, before = (statistics.median(v) for v in (ratios, its, old))
        print(f"{sizes}, {count} domains: median {ratio:.2f} times as fast, {before} iterations to {new}\n")
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        claim = (
            f"learned cycle on {count} unseen domains of {sizes}, against untrained: iterations; solve time"
        )
        harness.record(
            claim, str(new), str(before), f"{ratio:.3f}", spread, threads=threads, packages=PACKAGES
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", nargs="+", default=PROBLEMS, help=f"of {' '.join(PROBLEMS)}")
    parser.add_argument("--methods", nargs="+", default=METHODS, help=f"of {' '.join(METHODS)}")
    parser.add_argument("--threads", type=int, default=1, help="threads of our kernels")
    parser.add_argument("--learning", action="store_true", help="learned against untrained only")
    parser.add_argument("--one", nargs=3, metavar=("PROBLEM", "METHOD", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    harness.pin_threads(options.threads)
    if options.one:
        problem, method, seed = options.one
        print(json.dumps(measure(problem, method, options.threads, int(seed))))
    elif options.learning:
        learning(options.threads)
    else:
        table(options.problems, options.methods, options.threads)


if __name__ == "__main__":
    main()
