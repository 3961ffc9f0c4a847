"""How long it takes to build a local integral operator on scattered points.

    python benchmarks/point_support.py        # 10,000 points, one thread, wall seconds, a minute

A `PointSupport` finds the neighbours of every point, evaluates the functions of its basis there and writes
the sparse matrix and its transpose. It is built once per mesh. The time grows with the number of values held,
which the radius sets; two radii and the three bases are measured, the median of five builds each.
"""

import statistics
import time

import harness

N, RADII, REPEATS = 10_000, (0.05, 0.1), 5


def main() -> None:
    harness.pin_threads(1)
    import numpy as np

    from opflow.nn.filter_bases import Morlet, PiecewiseLinear, Zernike
    from opflow.nn.point_integral import PointSupport

    points, weights = np.random.default_rng(0).random((N, 2)), np.full(N, 1 / N)
    for radius in RADII:
        for basis in (PiecewiseLinear(2, 4), PiecewiseLinear(3, 4), Morlet(3, 3), Zernike(4)):
            PointSupport(basis, radius, points[:100], weights[:100], box=(1.0, 1.0))  # compiles
            seconds = []
            for _ in range(REPEATS):
                start = time.perf_counter()
                support = PointSupport(basis, radius, points, weights, box=(1.0, 1.0))
                seconds.append(time.perf_counter() - start)
            claim = f"support of {basis} on {N} points, radius {radius}, seconds"
            print(f"{claim}: {statistics.median(seconds):.2f}, {support.matrix._nnz():,} values")
            spread = f"{min(seconds):.2f}-{max(seconds):.2f}"
            harness.record(claim, f"{statistics.median(seconds):.2f}", spread=spread, threads=1)


if __name__ == "__main__":
    main()
