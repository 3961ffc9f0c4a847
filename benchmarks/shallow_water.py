"""Shallow water on the sphere beside torch-harmonics' example solver: speed per trajectory, same scheme.

    python benchmarks/shallow_water.py            # the whole claim
    python benchmarks/shallow_water.py --quick    # fewer repeats and steps, no large grid

torch-harmonics 0.7.4, ``examples.shallow_water_equations.ShallowWaterSolver``: Adams-Bashforth of third order
after an Euler start, hyperdiffusion of vorticity and divergence after each step, a Gauss-Legendre grid of
n x 2n points, truncation n/3, 16 trajectories of balanced turbulence. It takes one trajectory at a time. Ours
runs the same steps of the same scheme on the same grid with the same truncation and dt, 16 trajectories in
batches, and both arrive at the same coefficients to rounding, which is checked first. The second row of each
size runs ours on the smallest grid on which products are exact for the truncation: the same solution again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import harness

THREADS = int(sys.argv[sys.argv.index("--threads") + 1]) if "--threads" in sys.argv else 1
harness.pin_threads(THREADS)

import torch  # noqa: E402
from torch_harmonics.examples.shallow_water_equations import ShallowWaterSolver as Peer  # noqa: E402

from pde_data.equations.shallow_water import ShallowWater  # noqa: E402
from pde_data.equations.shallow_water_dynamics import Advection, Planet, split  # noqa: E402
from pde_data.equations.shallow_water_states import turbulence  # noqa: E402
from pde_data.harmonics import Harmonics  # noqa: E402
from pde_data.sphere import SphereGrid  # noqa: E402

SAMPLES = 16
PLANET: Planet = ShallowWater().planet
SIZES = {64: (600.0, 20), 128: (300.0, 10), 256: (150.0, 2)}  # latitudes: dt in s, steps
CHUNK_BYTES = 400_000


class AdamsBashforth:
    """The peer's scheme on our transforms, for potentials and geopotential ``(3, sample, *shape)``."""

    def __init__(self, harmonics: Harmonics, dt: float):
        self.advection, self.dt = Advection(harmonics, PLANET), dt
        self.batch = max(1, CHUNK_BYTES // (harmonics.dtype.itemsize * harmonics.grid.sizes[0] ** 2 * 2))
        k = torch.from_numpy(PLANET.wavenumbers(harmonics))
        self.frequency = (k * PLANET.wave_speed).to(harmonics.complex_dtype)
        self.filter = torch.exp(-dt / 7200 * (k / k.max()) ** 8).to(harmonics.complex_dtype)

    def rates(self, x: torch.Tensor) -> torch.Tensor:
        """Right-hand side, gravity waves included."""
        rates = torch.stack(self.advection.tendencies(*x))
        rates[1].addcmul_(self.frequency, x[2])
        rates[2].addcmul_(self.frequency, x[1], value=-1)
        return rates

    def march(self, x: torch.Tensor, steps: int) -> torch.Tensor:
        """A few samples, together."""
        now = old = None
        for _ in range(steps):
            new = self.rates(x)
            # The peer's start: one value for all three, then the newest twice.
            old = new if now is None or old is None else old
            now = new if now is None else now
            x = x.add(new, alpha=self.dt * 23 / 12)
            x.add_(now, alpha=-self.dt * 16 / 12).add_(old, alpha=self.dt * 5 / 12)
            x[:2] *= self.filter
            now, old = new, (now if now is not new else None)
        return x

    def __call__(self, x: torch.Tensor, steps: int) -> torch.Tensor:
        """All samples, some at a time."""
        return torch.cat([self.march(part, steps) for part in x.split(self.batch, dim=1)], dim=1)


def to_peer(x: torch.Tensor, harmonics: Harmonics) -> torch.Tensor:
    """Geopotential, vorticity and divergence ``(sample, 3, l, m)`` of our coefficients."""
    n = harmonics.truncation + 1
    k = torch.from_numpy(PLANET.wavenumbers(harmonics))
    s, d, g = x.to(torch.complex128)
    geopotential = g * PLANET.wave_speed
    geopotential[:, 0, 0] += PLANET.wave_speed**2 * (4 * torch.pi) ** 0.5
    result = torch.zeros(len(s), 3, n, n, dtype=torch.complex128)
    m, l = torch.triu_indices(n, n)
    for i, field in enumerate((geopotential, s * k, d * k)):
        result[:, i, l, m] = field[:, m, l - m]
    return result.to(x.dtype)


def distance(found: torch.Tensor, reference: torch.Tensor) -> float:
    """Relative difference in the energy of linear waves, the mean depth left out."""
    l = torch.arange(1, reference.shape[2], dtype=torch.float64)[:, None]
    k = (l * (l + 1)).sqrt() / PLANET.radius

    def size(x: torch.Tensor) -> float:
        x = x[:, :, 1:].abs().double()
        return float(((x[:, 0] / PLANET.wave_speed) ** 2 + (x[:, 1:] / k).square().sum(1)).sum().sqrt())

    return size(found - reference) / size(reference)


def compare(latitudes: int, dtype: torch.dtype, quick: bool) -> None:
    dt, steps = SIZES[latitudes]
    truncation = -(-latitudes // 3) - 1
    peer = Peer(
        latitudes, 2 * latitudes, dt, truncation + 1, truncation + 1, grid="legendre-gauss",
        radius=PLANET.radius, omega=PLANET.rotation_rate, gravity=PLANET.gravity, havg=PLANET.mean_depth,
    )  # fmt: skip
    # It holds 1/l(l+1) of its vector transform in single precision; in double both agree to rounding.
    l = torch.arange(1, truncation + 1)
    correction = 1 / (l * (l + 1)).double() / (1.0 / l / (l + 1))
    peer.vsht.weights[:, :, 1:] *= correction[:, None]
    peer = peer.to(dtype)
    small = 2 * -(-(3 * truncation + 1) // 4)
    exact = Harmonics(SphereGrid.gauss(small, 2 * small), truncation, torch.float64, powers=(0, -2))
    first = torch.stack(split(turbulence(0, range(SAMPLES), PLANET, 20.0, exact)))
    theirs_first = to_peer(first, exact).to(dtype.to_complex())
    first = first.to(dtype.to_complex())

    def theirs() -> torch.Tensor:
        return torch.stack([peer.timestep(u, steps) for u in theirs_first])

    reference = theirs()
    for size, words in ((latitudes, "same grid"), (small, f"ours on {small}x{2 * small}")):
        grid = SphereGrid.gauss(size, 2 * size)
        solver = AdamsBashforth(Harmonics(grid, truncation, dtype, powers=(0, -2)), dt)
        found = to_peer(solver(first, steps), solver.advection.harmonics)
        difference, moved = distance(found, reference), distance(theirs_first, reference)
        print(f"{words}: relative difference {difference:.1e}, while the solution moved by {moved:.1e}")
        if difference > (1e-11 if dtype == torch.float64 else 1e-4):
            raise SystemExit("the two solvers do not compute the same thing")
        kind = str(dtype).removeprefix("torch.")
        clock = time.process_time if THREADS == 1 else time.perf_counter
        seconds = harness.interleave(lambda: solver(first, steps), theirs, 3 if quick else 9, clock)  # noqa: B023
        milliseconds = [[1e3 * s / SAMPLES / steps for s in side] for side in seconds]
        harness.report(
            f"shallow water AB3 {latitudes}x{2 * latitudes} T{truncation} {kind}, batch 16, {words}: "
            f"{'CPU' if THREADS == 1 else 'wall'} ms per trajectory-step, torch-harmonics example solver",
            *milliseconds,
            threads=THREADS,
            packages=("torch-harmonics",),
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer repeats and steps, no large grid")
    parser.add_argument("--threads", type=int, default=0, help="measure with so many threads only")
    options = parser.parse_args()
    if not options.threads:
        for threads in ("1", "2"):
            subprocess.run([sys.executable, *sys.argv, "--threads", threads], check=True)
        return
    for latitudes in SIZES:
        for dtype in (torch.float32, torch.float64):
            if not (options.quick and latitudes == 256):
                compare(latitudes, dtype, options.quick)


if __name__ == "__main__":
    main()
