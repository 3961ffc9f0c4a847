"""The command `opflow-solve`: train, solve, check, compare."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from tyro.conf import Positional

from opflow.training.config import TrainConfig

DESCRIPTION = """Solve Poisson problems on masked grids, and learn preconditioners for them.

MASK is a .npy file of booleans, True where there is fluid, or an image or stack of images, dark there.

examples:
  opflow-solve compare pores.tif --spacing 1e-5 --plot comparison.png
  opflow-solve solve mask.npy --rhs b.npy --out x.npy --bc x=neumann,dirichlet y=periodic
  opflow-solve check mask.npy --weights classical
  opflow-solve train --ndim 2 --folder runs/mg2d
  opflow-solve solve mask.npy --weights runs/mg2d/weights.json --out x.npy
"""

Mask = Annotated[Path, tyro.conf.arg(metavar="MASK")]


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


def solve(
    mask: Positional[Mask],
    rhs: Path | None = None,
    out: Path | None = None,
    spacing: float = 1.0,
    bc: tuple[str, ...] = (),
    obstacles: Literal["neumann", "dirichlet"] = "neumann",
    weights: str | None = None,
    rtol: float = 1e-6,
    maxiter: int = 500,
) -> int:
    """Solve one system by flexible conjugate gradients with the multigrid preconditioner.

    Args:
        mask: the domain.
        rhs: .npy file of the right-hand side, on the grid or one number per fluid cell; ones without it. What
            lies in the nullspace of a closed domain is taken away.
        out: .npy file for the solution, on the grid, 0 in solid cells.
        spacing: width of the cells.
        bc: condition of axes of the box, AXIS=KIND or AXIS=LOWER,UPPER of dirichlet, neumann, periodic; axes
            left out are dirichlet.
        obstacles: condition on obstacles.
        weights: classical, the name of pretrained weights, or a file of them; pretrained ones by default.
        rtol: residual over that of zero.
        maxiter: most iterations.
    """
    from solvers import fcg
    from solvers.compare import learned

    op = _problem(mask, spacing, bc, obstacles)
    b = np.ones(op.shape[0]) if rhs is None else _array(rhs)
    b = op.project(op.vector(b) if b.shape == op.mask.shape else b)
    M = learned(weights or _usual(op)).setup(op)
    result = fcg(op, b, M=M, rtol=rtol, maxiter=maxiter)
    print(
        f"{op.shape[0]:,} unknowns on {op.mask.shape}: {result.iterations} iterations, set-up "
        f"{result.setup_seconds:.3f} s, solve {result.solve_seconds:.3f} s\n{result.reason}"
    )
    if out is not None:
        from opflow.save import write_atomically

        write_atomically(out, _npy(op.field(result.x)))
    return 0 if result.converged else 1


def compare(
    mask: Positional[Mask],
    spacing: float = 1.0,
    bc: tuple[str, ...] = (),
    obstacles: Literal["neumann", "dirichlet"] = "neumann",
    weights: str | None = None,
    rtol: float = 1e-6,
    seed: int = 0,
    plot: Path | None = None,
) -> int:
    """Solve one random right-hand side with the usual methods, and print their times side by side.

    Args:
        mask: the domain.
        spacing: width of the cells.
        bc: as for `solve`.
        obstacles: condition on obstacles.
        weights: as for `solve`.
        rtol: residual over that of zero.
        seed: of the right-hand side.
        plot: PNG file for the residuals over iterations and time.
    """
    from solvers.compare import compare

    op = _problem(mask, spacing, bc, obstacles)
    b = np.random.default_rng(seed).standard_normal(op.shape[0])
    found = compare(op, b, rtol=rtol, weights=weights)
    print(f"{op.shape[0]:,} unknowns on {op.mask.shape}\n{found}")
    if plot is not None:
        found.plot().savefig(plot)
    return 0


def check(
    mask: Positional[Mask],
    spacing: float = 1.0,
    bc: tuple[str, ...] = (),
    obstacles: Literal["neumann", "dirichlet"] = "neumann",
    weights: str | None = None,
) -> int:
    """Find out whether a preconditioner is linear, symmetric and positive, and which solvers may use it.

    Args:
        mask: the domain.
        spacing: width of the cells.
        bc: as for `solve`.
        obstacles: condition on obstacles.
        weights: as for `solve`.
    """
    from solvers import check_preconditioner
    from solvers.compare import learned

    op = _problem(mask, spacing, bc, obstacles)
    report = check_preconditioner(op, learned(weights or _usual(op)).setup(op))
    print(report)
    return 0 if report.is_spd else 1


def train(
    folder: Path,
    ndim: Literal[2, 3] = 2,
    size: int | None = None,
    samples: int = 512,
    hidden: int = 16,
    n_steps: int = 2,
    iterations: int = 8,
    epochs: int = 8,
    batch_size: int = 8,
    learning_rate: float = 5e-3,
    seed: int = 0,
    resume: bool = False,
) -> int:
    """Learn weights of the multigrid cycle on random domains, and write them to weights.json in a folder.

    Args:
        folder: where weights, metrics and the state to resume from go.
        ndim: number of axes.
        size: cells along each; 64 in two dimensions and 32 in three by default.
        samples: random domains.
        hidden: width of the network at faces.
        n_steps: smoothing steps.
        iterations: unrolled iterations of conjugate gradients.
        epochs: passes over the domains.
        batch_size: domains per step.
        learning_rate: greatest learning rate.
        seed: of domains and weights.
        resume: go on with what is in the folder.
    """
    from solvers.training import train_preconditioner

    config = TrainConfig(
        epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, weight_decay=0.0, seed=seed
    )
    options: dict[str, Any] = {"size": size, "samples": samples, "hidden": hidden, "n_steps": n_steps}
    options |= {"iterations": iterations, "config": config, "folder": folder, "resume": resume, "seed": seed}
    M, history = train_preconditioner(ndim, **options)
    M.save(folder / "weights.json")
    last = history[-1]["valid_loss"]
    print(f"{folder / 'weights.json'}: residuals of {np.exp(last):.1e} after {iterations} iterations")
    return 0


def _usual(op: Any) -> str:
    from solvers.compare import USUAL

    return USUAL.get(op.mask.ndim, "classical")


def _problem(mask: Path, spacing: float, bc: tuple[str, ...], obstacles: str) -> Any:
    from solvers import GridPoisson
    from solvers.images import read_mask

    fluid = _array(mask) if mask.suffix == ".npy" else read_mask(mask, None, "dark")
    ends: dict[str, Any] = {}
    for word in bc:
        axis, _, kinds = word.partition("=")
        pair = tuple(kinds.split(","))
        ends[axis] = pair[0] if len(pair) == 1 else pair
    return GridPoisson(fluid, spacing=spacing, bc=ends, obstacles=obstacles)


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
