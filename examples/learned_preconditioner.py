"""A learned preconditioner in SciPy's own solver, beside PyAMG, on pores that no training has seen.

    python examples/learned_preconditioner.py            # prints a table, writes learned_preconditioner.png

The ten lines that matter are `solve`.
"""

import argparse
from pathlib import Path

import numpy as np
from scipy.sparse.linalg import cg

from solvers import GridPoisson, MultigridPreconditioner
from solvers.compare import compare
from solvers.domains import random_stencil


def solve(mask: np.ndarray, b: np.ndarray, spacing: float) -> np.ndarray:
    """Solve -div grad x = b in the fluid: no flux through obstacles, x = 0 at the right end of the box."""
    op = GridPoisson(mask, spacing=spacing, bc={"x": ("neumann", "dirichlet"), "y": "neumann"})
    M = MultigridPreconditioner.from_pretrained("poisson2d").setup(op)
    x, info = cg(op, op.vector(b), M=M, rtol=1e-6)
    if info:
        raise RuntimeError(f"cg stopped with info={info}")
    return op.field(x)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512, help="cells along each side")
    parser.add_argument("--seed", type=int, default=5, help="of the walls")
    parser.add_argument("--out", type=Path, default=Path("learned_preconditioner.png"), help="PNG file")
    options = parser.parse_args()
    n = options.size
    mask = random_stencil(np.random.default_rng(options.seed), (n, n), "plates").mask
    b = np.random.default_rng(0).standard_normal((n, n))
    x = solve(mask, b, 1 / n)
    # One thread, as the others have, for the comparison.
    ends = {"x": ("neumann", "dirichlet"), "y": "neumann"}
    op = GridPoisson(mask, spacing=1 / n, bc=ends, num_threads=1)
    residual = np.linalg.norm(op.vector(b) - op @ op.vector(x)) / np.linalg.norm(op.vector(b))
    print(f"{op.shape[0]:,} unknowns, true residual {residual:.1e}\n")
    found = compare(op, op.vector(b))
    print(found)
    found.plot().savefig(options.out)
    print(f"\n{options.out}")


if __name__ == "__main__":
    main()
