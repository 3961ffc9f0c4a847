"""GraphPreconditioner on unseen meshes, against CG, IC(0)-CG and PyAMG's default smoothed aggregation.

    python benchmarks/graph.py                     # Darcy flow and elasticity, two sizes, 5 meshes each
    python benchmarks/graph.py --sizes 0.025 --meshes 2
    python benchmarks/graph.py --train graph.json  # how the weights that come with the package were trained

Iterations of SciPy's cg to a relative residual of 1e-6, with the load of the problem; CPU seconds of set-up
and solution, the best of three, one thread; operator complexity. PyAMG gets elasticity in blocks of two, and
both get the rigid-body modes. Figures are medians over the meshes, each ratio is between two methods on the
same mesh. The meshes have seeds that neither training nor the choice of its settings saw.
"""

import argparse
import time

import harness

harness.pin_threads(1)

import numpy as np  # noqa: E402
from incomplete_cholesky import IncompleteCholesky  # noqa: E402
from scipy.sparse.linalg import cg  # noqa: E402

from pde_data.equations.elasticity import CLAMPED, Elasticity, plane_strain  # noqa: E402
from pde_data.equations.polygon_darcy import PolygonDarcy, darcy  # noqa: E402
from solvers import GraphPreconditioner, GraphWeights, train_graph  # noqa: E402

PACKAGES = ("scipy", "pyamg", "numba", "scikit-fem", "opflow-sciml")
UNSEEN, TRAINING = 2026, 1


def flow(size: float, seed: int, index: int, contrast: float = 1.0):
    """Matrix and load of Darcy flow for the free nodes, and no near-nullspace."""
    sample = PolygonDarcy(size=size, contrast=contrast).sample(seed, index)
    problem = darcy(sample.mesh, *sample_fields(sample, "permeability", "source"), sample.mesh.tags == 1)
    free = ~problem.fixed
    return problem.matrix[free][:, free].tocsr(), problem.load[free], None


def elasticity(size: float, seed: int, index: int, contrast: float = 0.5):
    """Matrix and load of plane strain for the free unknowns, and the rigid-body modes `(n, 3)`."""
    sample = Elasticity(size=size, contrast=contrast).sample(seed, index)
    modulus, *force = sample_fields(sample, "modulus", "force_x", "force_y")
    fixed = sample.mesh.tags == CLAMPED
    problem = plane_strain(sample.mesh, modulus, 0.3, np.stack(force, axis=1), fixed)
    free = ~problem.fixed
    x, y = (sample.mesh.points - sample.mesh.points.mean(0)).T
    modes = np.zeros((len(x), 2, 3))
    modes[:, 0, 0] = modes[:, 1, 1] = 1
    modes[:, 0, 2], modes[:, 1, 2] = -y, x
    return problem.matrix[free][:, free].tocsr(), problem.load[free], modes.reshape(-1, 3)[free]


def sample_fields(sample, *names):
    return [sample.fields[name] for name in names]


FAMILIES = {"Darcy": flow, "elasticity": elasticity}


def smoothed_aggregation(A, B):
    """PyAMG's defaults, and their operator complexity."""
    import pyamg

    ml = pyamg.smoothed_aggregation_solver(A if B is None else A.tobsr((2, 2)), B=B)
    return ml.aspreconditioner(), ml.operator_complexity()


def ours(weights, A, B):
    M = GraphPreconditioner(weights).setup(A, B)
    return M, M.operator_complexity


def measure(A, b, build) -> dict[str, float]:
    """Iterations, operator complexity, and the least CPU seconds of three runs."""
    setup, solve = [], []
    for _ in range(3):
        start = time.process_time()
        M, complexity = build()
        setup.append(time.process_time() - start)
        start = time.process_time()
        iterates = []
        x, info = cg(A, b, M=M, rtol=1e-6, maxiter=20_000, callback=iterates.append)
        solve.append(time.process_time() - start)
        if info or np.linalg.norm(b - A @ x) > 1.1e-6 * np.linalg.norm(b):
            raise RuntimeError(f"no convergence: info {info}")
    return {
        "iterations": len(iterates),
        "complexity": complexity,
        "setup": min(setup),
        "solve": min(solve),
        "total": min(setup) + min(solve),
    }


def compare(family: str, size: float, meshes: int) -> None:
    trained = GraphPreconditioner.from_pretrained().weights
    found: dict[str, list] = {}
    unknowns = []
    for index in range(meshes):
        A, b, B = FAMILIES[family](size, UNSEEN, index)
        unknowns.append(A.shape[0])
        methods = {
            "ours": lambda A=A, B=B: ours(trained, A, B),
            "ours untrained": lambda A=A, B=B: ours(GraphWeights(), A, B),
            "CG": lambda: (None, 1.0),
            "IC(0)-CG": lambda A=A: (IncompleteCholesky(A), 1.0),
            "PyAMG SA-CG": lambda A=A, B=B: smoothed_aggregation(A, B),
        }
        for name, build in methods.items():
            found.setdefault(name, []).append(measure(A, b, build))
    case = f"GraphPreconditioner, {family}, {int(np.median(unknowns))} unknowns"
    for quantity, words, others in (
        ("iterations", "iterations to 1e-6", ("CG", "IC(0)-CG", "PyAMG SA-CG", "ours untrained")),
        ("complexity", "operator complexity", ("PyAMG SA-CG",)),
        ("setup", "set-up, CPU seconds", ("PyAMG SA-CG", "IC(0)-CG")),
        ("solve", "solution, CPU seconds", ("CG", "IC(0)-CG", "PyAMG SA-CG")),
        ("total", "set-up and solution, CPU seconds", ("CG", "IC(0)-CG", "PyAMG SA-CG")),
    ):
        for other in others:
            mine, theirs = ([row[quantity] for row in found[name]] for name in ("ours", other))
            harness.report(f"{case}: {words}, {other}", mine, theirs, threads=1, packages=PACKAGES)


def train(path: str) -> None:
    """Train the weights that come with the package: ten minutes."""
    import pyamg

    laws = ((0.04, 1.0), (0.03, 0.0), (0.025, 1.0), (0.02, 1.0), (0.02, 1.5), (0.012, 1.0))
    sizes = (0.05, 0.04, 0.035, 0.03, 0.025, 0.02)
    systems = [flow(size, TRAINING, i, contrast) for i, (size, contrast) in enumerate(laws)]
    systems += [elasticity(size, TRAINING, 100 + i) for i, size in enumerate(sizes)]
    # What is far from both families should not suffer.
    systems += [
        (pyamg.gallery.poisson(shape, format="csr"), None, None) for shape in ((300,), (22, 22), (8, 8, 8))
    ]
    stencil = pyamg.gallery.diffusion_stencil_2d(epsilon=0.01, theta=0.5, type="FE")
    systems.append((pyamg.gallery.stencil_grid(stencil, (20, 20), format="csr"), None, None))
    print(f"{len(systems)} matrices of {', '.join(str(A.shape[0]) for A, _, _ in systems)} unknowns")
    weights = train_graph(
        [(A, B) for A, _, B in systems],
        family="Darcy flow and plane strain on polygons with holes, linear triangles; a few grids",
        weights=GraphWeights(drop=0.02),
        steps=400,
        batch=5,
        learning_rate=1e-2,
        iterations=10,
        progress=lambda step, loss: print(step, f"{loss:.4f}", flush=True) if step % 20 == 0 else None,
    )
    weights.save(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=float, nargs="+", default=[0.0125, 0.006])
    parser.add_argument("--meshes", type=int, default=5)
    parser.add_argument("--train", metavar="FILE", help="train instead, and write the weights")
    arguments = parser.parse_args()
    if arguments.train:
        return train(arguments.train)
    for family in FAMILIES:
        for size in arguments.sizes:
            compare(family, size, arguments.meshes)


if __name__ == "__main__":
    main()
