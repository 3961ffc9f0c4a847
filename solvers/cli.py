"""The command `opflow-solve`: train, solve, check, compare."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from tyro.conf import Positional

DESCRIPTION = """Solve Poisson problems on masked grids, and learn preconditioners for them.

MASK is a .npy file of booleans, True where there is fluid, or an image or stack of images, dark there.

examples:
  opflow-solve compare pores.tif --spacing 1e-5 --plot comparison.png
  opflow-solve solve mask.npy --rhs b.npy --out x.npy --bc x=neumann,dirichlet y=periodic
  opflow-solve check mask.npy --weights classical
  opflow-solve train --folder runs/mg2d
  opflow-solve train --folder runs/mg3d --recipe poisson3d
  opflow-solve solve mask.npy --weights runs/mg2d/weights.json --out x.npy
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, by default that of the process, and return the exit status.

    What the user can put right is told in one line on stderr, with status 1, as is a solve that did not
    converge; Ctrl-C gives status 130.
    """
    try:
        result = tyro.extras.subcommand_cli_from_dict(
            {"solve": solve, "compare": compare, "check": check, "train": train},
            prog="opflow-solve",
            description=DESCRIPTION,
            args=list(sys.argv[1:] if argv is None else argv),
            config=(tyro.conf.OmitArgPrefixes,),
        )
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        print(f"opflow-solve: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("opflow-solve: stopped", file=sys.stderr)
        return 130
    return int(result or 0)


@dataclass(frozen=True)
class Domain:
    """The problem: a mask and what is on its faces."""

    mask: Positional[Annotated[Path, tyro.conf.arg(metavar="MASK")]]
    """The domain."""
    spacing: float = 1.0
    """Width of the cells."""
    bc: tuple[str, ...] = ()
    """Condition of axes of the box, AXIS=KIND or AXIS=LOWER,UPPER of dirichlet, neumann, periodic; axes left
    out are dirichlet."""
    obstacles: Literal["neumann", "dirichlet"] = "neumann"
    """Condition on obstacles."""
    weights: str | None = None
    """Those of the preconditioner: classical, the name of pretrained ones, or a file of them; pretrained ones
    by default."""

    def operator(self) -> Any:
        """The problem as a `GridPoisson`."""
        from solvers import GridPoisson
        from solvers.images import read_mask

        mask = _array(self.mask) if self.mask.suffix == ".npy" else read_mask(self.mask, None, "dark")
        ends: dict[str, Any] = {}
        for word in self.bc:
            axis, _, kinds = word.partition("=")
            pair = tuple(kinds.split(","))
            ends[axis] = pair[0] if len(pair) == 1 else pair
        return GridPoisson(mask, spacing=self.spacing, bc=ends, obstacles=self.obstacles)

    def preconditioner(self, op: Any) -> Any:
        """The preconditioner with the weights asked for, set up."""
        from solvers.compare import USUAL, learned

        return learned(self.weights or USUAL.get(op.mask.ndim, "classical")).setup(op)


def solve(
    domain: Domain, rhs: Path | None = None, out: Path | None = None, rtol: float = 1e-6, maxiter: int = 500
) -> int:
    """Solve one system by flexible conjugate gradients with the multigrid preconditioner.

    Args:
        domain: the problem.
        rhs: .npy file of the right-hand side, on the grid or one number per fluid cell; ones without it. What
            lies in the nullspace of a closed domain is taken away.
        out: .npy file for the solution, on the grid, 0 in solid cells.
        rtol: residual over that of zero.
        maxiter: most iterations.
    """
    from solvers import fcg

    op = domain.operator()
    b = np.ones(op.shape[0]) if rhs is None else _array(rhs)
    b = op.project(op.vector(b) if b.shape == op.mask.shape else b)
    result = fcg(op, b, M=domain.preconditioner(op), rtol=rtol, maxiter=maxiter, progress=True)
    print(
        f"{op.shape[0]:,} unknowns on {op.mask.shape}: {result.iterations} iterations, set-up "
        f"{result.setup_seconds:.3f} s, solve {result.solve_seconds:.3f} s\n{result.reason}"
    )
    if out is not None:
        from opflow.save import write_atomically

        write_atomically(out, _npy(op.field(result.x)))
    return 0 if result.converged else 1


def compare(domain: Domain, rtol: float = 1e-6, seed: int = 0, plot: Path | None = None) -> int:
    """Solve one random right-hand side with the usual methods, and print their times side by side.

    Args:
        domain: the problem.
        rtol: residual over that of zero.
        seed: of the right-hand side.
        plot: PNG file for the residuals over iterations and time.
    """
    from solvers.compare import compare

    op = domain.operator()
    b = np.random.default_rng(seed).standard_normal(op.shape[0])
    found = compare(op, b, rtol=rtol, weights=domain.weights)
    print(f"{op.shape[0]:,} unknowns on {op.mask.shape}\n{found}")
    if plot is not None:
        found.plot().savefig(plot)
    return 0


def check(domain: Domain) -> int:
    """Find out whether a preconditioner is linear, symmetric and positive, and which solvers may use it.

    Args:
        domain: the problem.
    """
    from solvers import check_preconditioner

    op = domain.operator()
    report = check_preconditioner(op, domain.preconditioner(op))
    print(report)
    return 0 if report.is_spd else 1


def train(
    folder: Path,
    recipe: Literal["quick2d", "quick3d", "poisson2d", "poisson3d"] = "quick2d",
    loss: Literal["residual", "energy", "rate", "direction"] = "residual",
    size: int | None = None,
    samples: int | None = None,
    iterations: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    hidden: int = 16,
    n_steps: int = 2,
    seed: int = 0,
    resume: bool = False,
) -> int:
    """Learn weights of the multigrid cycle on random domains, and write them to weights.json in a folder.

    Args:
        folder: where weights, metrics and the states to resume from go.
        recipe: stages of the training: one of minutes, or those of the weights in the package.
        loss: what is made small, see `solvers.train_preconditioner`.
        size: cells along each axis, instead of those of the recipe, as all down to the learning rate.
        samples: random domains.
        iterations: unrolled iterations of conjugate gradients.
        epochs: passes over the domains.
        batch_size: domains per step.
        learning_rate: greatest learning rate.
        hidden: width of the network at faces.
        n_steps: smoothing steps.
        seed: of domains and weights.
        resume: go on with what is in the folder.
    """
    from solvers.recipes import train_recipe

    given = {
        "size": size,
        "samples": samples,
        "iterations": iterations,
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
    }
    options: dict[str, Any] = {"hidden": hidden, "n_steps": n_steps, "seed": seed, "resume": resume}
    options |= {name: value for name, value in given.items() if value is not None}
    M, history = train_recipe(recipe, folder=folder, loss=loss, **options)
    M.save(folder / "weights.json")
    best = min(row["valid_l2"] for row in history if row["stage"] == history[-1]["stage"])
    print(f"{folder / 'weights.json'}: {loss}, a factor of {best:.3g} per iteration on other domains")
    return 0


def _array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is no .npy file of numbers: {error}") from error


def _npy(values: np.ndarray) -> bytes:
    import io

    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()
