"""Smoke that rises round obstacles: fifty pressure projections on a masked grid, preconditioned.

    python examples/smoke_plume.py                # 64 x 64 x 128 cells, writes smoke_plume.png

Inviscid flow on a staggered grid: advection by following the flow back, buoyancy in proportion to the smoke,
and in each step the pressure that makes the velocity free of divergence, -div grad p = -div u, with no flux
through walls and obstacles and p = 0 at the open top. The preconditioner is set up once.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import map_coordinates
from scipy.sparse.linalg import cg
from tqdm import trange

from solvers import GridPoisson, MultigridPreconditioner


def obstacles(sizes: tuple[int, int, int]) -> np.ndarray:
    """True where there is fluid: a box with two balls and a shelf in it."""
    x, y, z = np.meshgrid(*[(np.arange(n) + 0.5) / sizes[0] for n in sizes], indexing="ij")
    mask = np.ones(sizes, bool)
    for centre, radius in (((0.4, 0.5, 0.7), 0.15), ((0.65, 0.45, 1.15), 0.12)):
        mask &= (x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2 > radius**2
    mask[: sizes[0] // 3, :, int(1.4 * sizes[0]) : int(1.4 * sizes[0]) + 2] = False
    return mask


def divergence(velocity: list[np.ndarray], h: float) -> np.ndarray:
    """Net flux out of each cell, of velocities at the faces along each axis."""
    return sum(np.diff(u, axis=axis) for axis, u in enumerate(velocity)) / h


def closed(velocity: list[np.ndarray], op: GridPoisson) -> list[np.ndarray]:
    """No flux through faces that do not conduct."""
    return [np.where(w > 0, u, 0.0) for u, w in zip(velocity, op.stencil.weights)]


def projected(
    velocity: list[np.ndarray], op: GridPoisson, M, h: float, rtol: float
) -> tuple[list[np.ndarray], int]:
    """Take away the gradient of the pressure; return how many iterations that took, too."""
    steps: list[np.ndarray] = []
    p, info = cg(op, op.vector(-divergence(velocity, h)), M=M, rtol=rtol, callback=steps.append)
    if info:
        raise RuntimeError(f"cg stopped with info={info}")
    pressure, free = op.field(p), []
    for axis, (u, w) in enumerate(zip(velocity, op.stencil.weights)):
        around = [(int(k == axis),) * 2 for k in range(3)]
        # The conductance of a face, times h, is the gradient it makes of a difference of pressures.
        free.append(u - h * w * np.diff(np.pad(pressure, around), axis=axis))
    return free, len(steps)


def advected(
    values: np.ndarray, offset: np.ndarray, velocity: list[np.ndarray], h: float, dt: float
) -> np.ndarray:
    """Values where the flow comes from; `offset` is where the first of them lies, in cells."""
    corners = np.meshgrid(*[np.arange(n) for n in values.shape], indexing="ij")
    places = np.stack(corners) + offset[:, None, None, None]
    back = places.astype(float)
    for axis, u in enumerate(velocity):
        shift = np.full(3, 0.5)
        shift[axis] = 0.0
        at = places - shift[:, None, None, None]
        back[axis] -= dt / h * map_coordinates(u, at, order=1, mode="nearest")
    return map_coordinates(values, back - offset[:, None, None, None], order=1, mode="nearest")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=64, help="cells along the shorter sides")
    parser.add_argument("--steps", type=int, default=50, help="time steps")
    parser.add_argument("--rtol", type=float, default=1e-5, help="residual of the pressure")
    parser.add_argument("--out", type=Path, default=Path("smoke_plume.png"), help="PNG file")
    options = parser.parse_args()
    n = options.size
    sizes, h, dt = (n, n, 2 * n), 1 / n, 1.5 / n
    mask = obstacles(sizes)
    ends = {"x": "neumann", "y": "neumann", "z": ("neumann", "dirichlet")}
    op = GridPoisson(mask, spacing=h, bc=ends)
    M = MultigridPreconditioner.from_pretrained("poisson3d").setup(op)
    print(f"{op.shape[0]:,} unknowns, set up in {M.setup_seconds:.2f} s")

    smoke = np.zeros(sizes)
    velocity = [np.zeros(w.shape) for w in op.stencil.weights]
    source = np.s_[int(0.35 * n) : int(0.6 * n), int(0.4 * n) : int(0.6 * n), : n // 10]
    centre = np.full(3, 0.5)
    counts, seconds, left = [], 0.0, 0.0
    for _ in trange(options.steps, disable=None):
        smoke[source] = 1.0
        sides = [np.pad(smoke, ((0, 0), (0, 0), pad), "edge") for pad in ((0, 1), (1, 0))]
        lift = 0.5 * (sides[0] + sides[1])
        moved = []
        for axis, u in enumerate(velocity):
            offset = centre.copy()
            offset[axis] = 0.0
            moved.append(advected(u, offset, velocity, h, dt))
        smoke = advected(smoke, centre, velocity, h, dt) * mask
        moved[2] += 4.0 * dt * lift
        start = time.perf_counter()
        velocity, count = projected(closed(moved, op), op, M, h, options.rtol)
        seconds += time.perf_counter() - start
        counts.append(count)
        left = float(np.abs(divergence(velocity, h)[mask]).max() * h / max(np.abs(u).max() for u in velocity))
    print(
        f"{options.steps} projections: {np.mean(counts):.1f} iterations, {seconds / options.steps:.2f} s; "
        f"divergence left in a cell, over the speed: {left:.0e}"
    )
    draw(smoke, mask, options.out)
    print(options.out)


def draw(smoke: np.ndarray, mask: np.ndarray, path: Path) -> None:
    """Draw the smoke along a line of sight, and in the middle with the obstacles."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, 2)
    middle = smoke.shape[1] // 2
    axes[0].imshow(smoke.mean(1).T, origin="lower", cmap="magma")
    axes[0].set_title("along y")
    axes[1].imshow(np.where(mask[:, middle], smoke[:, middle], np.nan).T, origin="lower", cmap="magma")
    axes[1].set_title("in the middle")
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
