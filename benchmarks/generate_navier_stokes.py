"""Navier-Stokes data: speed beside exponax, temporal error, and the time of 1000 trajectories.

    python benchmarks/generate_navier_stokes.py            # the whole claim
    python benchmarks/generate_navier_stokes.py --quick    # fewer trajectories and steps

1. Trajectory-steps per CPU-second of float32 ETDRK4 at 64x64, both sides at the same fixed step, on one
   thread, in turn, after a check that both arrive at the same vorticity. exponax (JAX, jit, vmap) has the
   better of several batch sizes.
2. Temporal error of the steps that `pde_data.generate` takes: their float64 solution against one with every
   step at most a quarter as long.
3. Wall and CPU time of 1000 trajectories (viscosity 1e-3, forcing fno, t=50, 51 frames) on two processes.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from pathlib import Path

import harness

harness.pin_threads(1)

import exponax  # noqa: E402
import jax  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

import pde_data  # noqa: E402
from pde_data.equations import NavierStokes  # noqa: E402
from pde_data.equations.periodic import PeriodicSolver  # noqa: E402
from pde_data.grids import Grid  # noqa: E402
from pde_data.random_fields import GaussianRandomField  # noqa: E402

DT, VISCOSITY, N = 0.05, 1e-3, 64
PACKAGES = ("exponax", "jax")


def initial(samples: int) -> np.ndarray:
    """Initial vorticity without the modes that the 2/3 rule cuts."""
    grid = Grid((N, N))
    w0 = torch.from_numpy(GaussianRandomField().sample(0, range(samples), grid))
    solver = PeriodicSolver(NavierStokes(), grid, torch.float64)
    return solver.spectrum.to_values(solver.spectrum.project(w0)).float().numpy()


def ours(w0: np.ndarray, steps: int) -> np.ndarray:
    return pde_data.simulate(
        "navier_stokes", w0, times=[steps * DT], viscosity=VISCOSITY, forcing="none", dt=DT
    )[:, 0]


def exponax_solver(steps: int):
    # exponax takes the streamfunction with the opposite sign, which turns the flow around.
    stepper = exponax.stepper.NavierStokesVorticity(
        2, 1.0, N, DT, diffusivity=VISCOSITY, vorticity_convection_scale=-1.0, order=4
    )
    march = jax.jit(lambda w: jax.lax.scan(lambda c, _: (jax.vmap(stepper)(c), None), w, length=steps)[0])

    def solve(w0: np.ndarray, batch: int) -> np.ndarray:
        parts = [np.asarray(march(w0[i : i + batch, None])) for i in range(0, len(w0), batch)]
        return np.concatenate(parts)[:, 0]

    return solve


def speed(quick: bool) -> None:
    samples, steps = 32, 20 if quick else 100
    w0, theirs = initial(samples), exponax_solver(steps)
    a, b = ours(w0, steps), theirs(w0, 8)
    difference = np.linalg.norm(a - b) / np.linalg.norm(b)
    print(f"relative difference of the two solutions at t={steps * DT:g}: {difference:.1e}")
    if difference > 1e-5:
        raise SystemExit("the two solvers do not compute the same thing")
    cost = {}
    for batch in (1, 8, 32):
        theirs(w0, batch)
        start = time.process_time()
        theirs(w0, batch)
        cost[batch] = time.process_time() - start
    batch = min(cost, key=cost.__getitem__)
    print(f"exponax is fastest in batches of {batch}")
    seconds = harness.interleave(lambda: ours(w0, steps), lambda: theirs(w0, batch), 5 if quick else 15)
    rates = [[samples * steps / s for s in side] for side in seconds]
    harness.report(
        "ETDRK4 64x64 float32, trajectory-steps per CPU-second, exponax",
        *rates,
        threads=1,
        packages=PACKAGES,
        higher_is_better=True,
    )


def temporal_error(quick: bool) -> None:
    samples, t_end = (8, 10) if quick else (32, 50)
    settings = {"dtype": "float64", "t_end": float(t_end), "records": t_end}
    grid, times = Grid((N, N)), NavierStokes(**settings).times
    w0 = torch.from_numpy(GaussianRandomField().sample(0, range(samples), grid))

    def solve(dt: float | None):
        solver = PeriodicSolver(NavierStokes(dt=dt, **settings), grid, torch.float64)
        frames = torch.stack([frame["vorticity"] for frame, _ in solver({"vorticity": w0}, times)], dim=1)
        return frames, solver.integrator

    frames, integrator = solve(None)
    print(f"steps per trajectory: {integrator.steps.mean():.0f} on average, {integrator.steps.max()} at most")
    # The shortest step of any sample, divided by four, for all of them.
    exact, _ = solve(integrator.shortest.min() / 4)
    error = (frames - exact).flatten(2).norm(dim=2) / exact.flatten(2).norm(dim=2)
    worst, last = float(error.max()), float(error[:, -1].max())
    print(f"relative temporal error: at most {worst:.1e} in any frame, {last:.1e} in the last")
    claim = f"temporal error, largest over {samples} samples and t <= {t_end}, against dt/4 in float64"
    harness.record(claim, f"{worst:.2e}", threads=1)


def whole_set(samples: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        pde_data.generate(
            "navier_stokes",
            Path(folder) / "set",
            samples=samples,
            resolution=N,
            viscosity=VISCOSITY,
            processes=2,
        )
        seconds = time.perf_counter() - start
    print(f"{samples} trajectories to t=50 on 2 processes: {seconds:.1f} s")
    harness.record(
        f"{samples} trajectories, t=50, 64x64, 2 processes, wall seconds", f"{seconds:.1f}", threads=2
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer trajectories and steps")
    quick = parser.parse_args().quick
    speed(quick)
    temporal_error(quick)
    whole_set(32 if quick else 1000)


if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    main()
