"""Solvers side by side on one problem: set-up, solve, iterations, true residuals."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse.linalg import cg

from solvers.grid import GridPoisson
from solvers.multigrid import MultigridPreconditioner

if TYPE_CHECKING:
    from matplotlib.figure import Figure

USUAL = {2: "poisson2d", 3: "poisson3d"}
"""Pretrained weights by the number of axes."""


@dataclass(frozen=True)
class Comparison:
    """What `compare` measured.

    Attributes:
        rows: for each method its name, CPU seconds of set-up and solve, iterations and true residual over
            the norm of the right-hand side.
        histories: for each method the residual before the first step and after each, relative likewise.
        rtol: the residual asked for.
    """

    rows: list[dict[str, Any]]
    histories: dict[str, np.ndarray]
    rtol: float

    def __str__(self) -> str:
        """A table."""
        lines = [f"{'method':22}{'set-up s':>10}{'solve s':>10}{'iterations':>12}{'residual':>11}"]
        for row in self.rows:
            done = "" if row["residual"] <= 1.05 * self.rtol else "  not converged"
            lines.append(
                f"{row['method']:22}{row['setup']:10.3f}{row['solve']:10.3f}{row['iterations']:12}"
                f"{row['residual']:11.1e}{done}"
            )
        return "\n".join(lines)

    def plot(self) -> Figure:
        """Draw residuals over iterations, and over CPU seconds with the set-up in front."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9, 4), layout="constrained")
        FigureCanvasAgg(figure)
        left, right = figure.subplots(1, 2, sharey=True)
        for row in self.rows:
            history = self.histories[row["method"]]
            steps = np.arange(len(history))
            left.semilogy(steps, history, label=row["method"])
            right.semilogy(row["setup"] + row["solve"] * steps / max(len(steps) - 1, 1), history)
        left.set(xlabel="iteration", ylabel="relative residual")
        right.set(xlabel="CPU seconds, set-up included", xscale="log")
        left.legend()
        return figure


def methods(op: GridPoisson, weights: str | None = None) -> dict[str, Callable[[], tuple[Any, Any]]]:
    """The usual methods for a problem: what makes the matrix and the preconditioner of each.

    Args:
        op: the problem.
        weights: pretrained weights or a file of them; those for the number of axes when None.
    """

    def pyamg(build: str) -> Callable[[], tuple[Any, Any]]:
        def made() -> tuple[Any, Any]:
            import pyamg

            matrix = op.to_csr()
            return matrix, getattr(pyamg, build)(matrix).aspreconditioner()

        return made

    found: dict[str, Callable[[], tuple[Any, Any]]] = {
        "cg": lambda: (op, None),
        "pyamg SA": pyamg("smoothed_aggregation_solver"),
        "pyamg RS": pyamg("ruge_stuben_solver"),
        "multigrid, classical": lambda: (op, MultigridPreconditioner().setup(op)),
    }
    name = weights or USUAL.get(op.mask.ndim)
    if name is not None:
        found["multigrid, learned"] = lambda: (op, learned(name).setup(op))
    return found


def learned(name: str) -> MultigridPreconditioner:
    """Weights by the name of pretrained ones, by the path of a file, or "classical"."""
    if name == "classical":
        return MultigridPreconditioner()
    if name.endswith(".json"):
        return MultigridPreconditioner.load(name)
    return MultigridPreconditioner.from_pretrained(name)


def compare(
    op: GridPoisson, b: np.ndarray, *, rtol: float = 1e-6, maxiter: int = 5000, weights: str | None = None
) -> Comparison:
    """Solve one system by conjugate gradients with each of the usual preconditioners.

    Args:
        op: the problem.
        b: right-hand side `(size,)`; its part in the nullspace is taken away.
        rtol: the residual asked for.
        maxiter: most iterations.
        weights: as for `methods`.

    Example:
        >>> import numpy as np
        >>> op = GridPoisson(np.ones((32, 32), bool))
        >>> [row["method"] for row in compare(op, np.ones(op.shape[0])).rows]
        ['cg', 'pyamg SA', 'pyamg RS', 'multigrid, classical', 'multigrid, learned']
    """
    b = op.project(np.asarray(b, np.float64))
    size = float(np.linalg.norm(b)) or 1.0
    rows, histories = [], {}
    for name, build in methods(op, weights).items():
        start = time.process_time()
        matrix, M = build()
        setup = time.process_time() - start
        history = [1.0]

        def follow(x: np.ndarray, history: list[float] = history) -> None:
            history.append(float(np.linalg.norm(b - op @ x)) / size)

        # Twice: what follows the residuals costs as much as the solver.
        cg(matrix, b, M=M, rtol=rtol, maxiter=maxiter, callback=follow)
        start = time.process_time()
        x, _ = cg(matrix, b, M=M, rtol=rtol, maxiter=maxiter)
        solve = time.process_time() - start
        residual = float(np.linalg.norm(b - op @ x)) / size
        rows.append(
            {
                "method": name,
                "setup": setup,
                "solve": solve,
                "iterations": len(history) - 1,
                "residual": residual,
            }
        )
        histories[name] = np.array(history)
    return Comparison(rows, histories, rtol)
