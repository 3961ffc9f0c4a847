"""Darcy data: CPU seconds per sample beside SciPy's direct solver and PyAMG, on the same systems.

    python benchmarks/generate_darcy.py            # the whole claim
    python benchmarks/generate_darcy.py --quick    # smaller grids, fewer repeats

Two-phase coefficients 12 and 3, one thread, in turn. Each side assembles the matrix and solves it: ours as
`pde_data.generate` does, by conjugate gradients behind fast sine transforms, SciPy by `spsolve`, PyAMG by
classical (Ruge-Stuben) multigrid with conjugate gradients to the same relative residual of 1e-10. 421, the
grid of the published sets, is a prime number, which transforms do not like: there ours is multigrid too.

Last comes the contrast from which multigrid is the cheaper one, which `Darcy` switches at.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import harness

harness.pin_threads(1)

import numpy as np  # noqa: E402
import pyamg  # noqa: E402
from scipy.sparse.linalg import spsolve  # noqa: E402

from pde_data.equations import Darcy  # noqa: E402
from pde_data.equations.elliptic import TOLERANCE, FastPoisson, solve  # noqa: E402
from pde_data.equations.stencil import Stencil  # noqa: E402

PACKAGES = ("scipy", "pyamg")


def stencil_of(a: np.ndarray) -> Stencil:
    return Stencil.poisson(np.ones(a.shape, bool), a, spacing=1 / len(a))


def direct(a: np.ndarray) -> np.ndarray:
    return spsolve(stencil_of(a).to_csr().tocsc(), np.ones(a.size)).reshape(a.shape)


def multigrid(a: np.ndarray) -> np.ndarray:
    hierarchy = pyamg.ruge_stuben_solver(stencil_of(a).to_csr(), max_coarse=500)
    return hierarchy.solve(np.ones(a.size), tol=TOLERANCE, accel="cg").reshape(a.shape)


def compare(n: int, name: str, peer: Callable[[np.ndarray], np.ndarray], repeats: int) -> None:
    equation = Darcy(resolution=n)
    samples = max(1, 128 // n)
    a = equation.permeability(0, range(samples), equation.grid)
    ours, theirs = equation.solve(a)[0], np.stack([peer(one) for one in a])
    difference = np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)
    print(f"{n}x{n}: relative difference of the two solutions: {difference:.1e}")
    if difference > 1e-7:
        raise SystemExit("the two solvers do not compute the same thing")
    seconds = harness.interleave(lambda: equation.solve(a), lambda: [peer(one) for one in a], repeats)
    harness.report(
        f"Darcy 12/3 {n}x{n} float64, CPU seconds per sample, {name}",
        *[[s / samples for s in side] for side in seconds],
        threads=1,
        packages=PACKAGES,
    )


def crossover(n: int, repeats: int) -> None:
    """Fast transforms beside multigrid over the contrast, both through `solve`."""
    for contrast in (4.0, 10.0, 40.0, 160.0):
        equation = Darcy(resolution=n, high=contrast, low=1.0)
        stencil = stencil_of(equation.permeability(0, [0], equation.grid)[0])
        rhs = np.ones(stencil.mask.shape)
        fast, slow = harness.interleave(
            lambda s=stencil, f=rhs: solve(s, f, FastPoisson.of(s)),
            lambda s=stencil, f=rhs: solve(s, f, None),
            repeats,
        )
        a, b = (float(np.median(side)) for side in (fast, slow))
        print(f"{n}x{n}, contrast {contrast:g}: transforms {a:.3f}, multigrid {b:.3f} CPU seconds")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller grids, fewer repeats")
    quick = parser.parse_args().quick
    repeats = 3 if quick else 9
    for n in (64, 128) if quick else (64, 128, 256, 421):
        compare(n, "SciPy spsolve", direct, repeats)
        compare(n, "PyAMG RS-CG", multigrid, repeats)
    crossover(128 if quick else 256, repeats)


if __name__ == "__main__":
    main()
