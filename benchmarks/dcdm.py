"""The Deep Conjugate Direction Method on its own terms, against CG and IC(0)-CG.

    python benchmarks/dcdm.py                  # iterations and time at 32^3 and 64^3
    python benchmarks/dcdm.py --data           # sampled modes against Lanczos vectors as training data
    python benchmarks/dcdm.py --train dcdm3d   # train the weights of the package anew; also dcdm2d
    python benchmarks/dcdm.py --published      # what the published network gets from the same training

The network has seen boxes up to 32^3 without obstacles. The test is to 1e-4 from a random right-hand side,
with faces of the box at zero, without obstacles and with eight balls that nothing flows through. Times are
CPU time of one thread, and the set-up of IC(0) is not counted.
"""

import argparse
import time
from pathlib import Path

import harness

TOLERANCE = 1e-4
SIZES = (32, 64)  # the first is that of the training
PACKAGES = ("scipy",)
FOLDER = Path(__file__).parents[1] / "solvers" / "pretrained"
STAGES = {
    "dcdm2d": [{"sizes": (64, 64), "samples": 1500, "rounds": 3, "seconds": 200}],
    "dcdm3d": [
        {"sizes": (32, 32, 32), "samples": 600, "rounds": 3, "seconds": 660},
        {"sizes": (16, 16, 16), "samples": 2000, "rounds": 2, "seconds": 190},
        {
            "sizes": (32, 32, 32),
            "samples": 400,
            "rounds": 2,
            "seconds": 270,
            "learning_rate": 5e-3,
            "batch_size": 2,
        },
    ],
}
NETWORK = {"pairs": (0, 2, 1), "levels": None, "bias": False, "smooth": True}


def balls(n, ndim, count=8, seed=0):
    """A box with round obstacles."""
    import numpy as np

    rng = np.random.default_rng(seed)
    x = np.stack(np.meshgrid(*[(np.arange(n) + 0.5) / n] * ndim, indexing="ij"), -1)
    mask = np.ones((n,) * ndim, bool)
    for _ in range(count):
        centre, radius = rng.uniform(0.15, 0.85, ndim), rng.uniform(0.06, 0.14)
        mask &= ((x - centre) ** 2).sum(-1) > radius**2
    return mask


def solved(op, b, M, m):
    """Iterations, and milliseconds of each, of the second of two solves."""
    from solvers import fcg

    fcg(op, b, M=M, m=m, maxiter=2)
    start = time.process_time()
    result = fcg(op, b, M=M, m=m, rtol=TOLERANCE, maxiter=1000, fallback=False)
    seconds = time.process_time() - start
    assert result.converged, result.reason
    return result.iterations, 1e3 * seconds / result.iterations


def compare(M, name, seeds=(1, 2, 3)):
    """Print and record the iterations of the three methods; return those of M by case."""
    import numpy as np
    from incomplete_cholesky import IncompleteCholesky

    from solvers import GridPoisson

    found = {}
    for n in SIZES:
        for obstacles in (False, True):
            op = GridPoisson(balls(n, 3) if obstacles else np.ones((n,) * 3, bool))
            methods = {
                "CG": (None, 1),
                "IC(0)-CG": (IncompleteCholesky(op.to_csr()), 1),
                name: (M.setup(op), 2),
            }
            runs = {}
            for method, (preconditioner, m) in methods.items():
                draws = (np.random.default_rng(seed).standard_normal(op.shape[0]) for seed in seeds)
                # Projected: balls that touch may enclose a pocket of fluid.
                cases = [solved(op, op.project(b), preconditioner, m) for b in draws]
                runs[method] = [float(np.median(values)) for values in zip(*cases)]
            where = f"{n}^3 {'with' if obstacles else 'without'} obstacles"
            print(where + "".join(f"  {key} {k:.0f} ({ms:.1f} ms each)" for key, (k, ms) in runs.items()))
            ours, theirs = runs[name], runs["IC(0)-CG"]
            harness.record(
                f"{name}: iterations of fcg(m=2) to {TOLERANCE:g} from random b, {where}, IC(0)-CG "
                f"(CG takes {runs['CG'][0]:.0f})",
                f"{ours[0]:.0f}",
                f"{theirs[0]:.0f}",
                f"{theirs[0] / ours[0]:.3f}",
                threads=1,
                packages=PACKAGES,
            )
            harness.record(
                f"{name}: CPU milliseconds per iteration, {where}, IC(0)-CG without its set-up "
                f"(CG takes {runs['CG'][1]:.2g})",
                f"{ours[1]:.3g}",
                f"{theirs[1]:.3g}",
                f"{theirs[1] / ours[1]:.3f}",
                threads=1,
                packages=PACKAGES,
            )
            found[n, obstacles] = ours[0]
    for obstacles in (False, True):
        growth = found[64, obstacles] / found[32, obstacles]
        print(f"iterations at 64^3 over those at 32^3, obstacles {obstacles}: {growth:.2f}")
    return found


def train(name):
    """Train the weights of the package: as many seconds as `STAGES` says, on one core that is half busy."""
    import numpy as np
    import torch

    from solvers import DCDMNetwork, DCDMPreconditioner, GridPoisson, train_dcdm

    torch.manual_seed(0)
    stages = STAGES[name]
    network, M = DCDMNetwork(len(stages[0]["sizes"]), **NETWORK), None
    for seed, stage in enumerate(stages):
        options = {key: value for key, value in stage.items() if key != "sizes"}
        M = train_dcdm(network, GridPoisson(np.ones(stage["sizes"], bool)), seed=10 * seed, **options)
        print(stage, "loss", M.trained["loss"])
    # Trained as it is, and made odd afterwards: the same weights at half the cost of the training.
    odd = DCDMNetwork(network.ndim, odd=True, **NETWORK)
    odd.load_state_dict(network.state_dict())
    record = {**M.trained, "stages": stages}
    DCDMPreconditioner(odd, trained=record).save(FOLDER / name, half=True)


def published(seconds):
    """The published network and data with a training of minutes."""
    import numpy as np
    import torch

    from solvers import DCDMNetwork, GridPoisson, train_dcdm

    torch.manual_seed(0)
    op = GridPoisson(np.ones((32, 32, 32), bool))
    M = train_dcdm(
        DCDMNetwork(3), op, data="lanczos", samples=600, rounds=1, seconds=seconds, learning_rate=1e-3
    )
    print("loss", M.trained["loss"])
    residuals(M, op, "published network, 32^3")


def residuals(M, op, name, steps=(5, 10, 20), seed=7):
    """Print and return the residual that is left after some steps, a mean over right-hand sides."""
    import numpy as np

    from solvers import fcg

    left = []
    for k in range(4):
        b = np.random.default_rng(seed + k).standard_normal(op.shape[0])
        history = fcg(op, b, M=M, m=2, rtol=0, maxiter=max(steps), fallback=False).residuals
        left.append([history[min(step, len(history) - 1)] / history[0] for step in steps])
    mean = np.exp(np.mean(np.log(left), axis=0))
    print(name, " ".join(f"{step}: {value:.1e}" for step, value in zip(steps, mean)))
    return mean


def compare_data(seconds, seeds=(0, 1, 2)):
    """Train the same network on sampled modes and on Lanczos vectors, for the same time."""
    import numpy as np
    import torch

    from solvers import DCDMNetwork, GridPoisson, train_dcdm

    op = GridPoisson(np.ones((32, 32), bool))
    left = {}
    for data in ("modes", "lanczos"):
        every = []
        for seed in seeds:
            torch.manual_seed(seed)
            network = DCDMNetwork(2, **NETWORK)
            M = train_dcdm(network, op, data=data, samples=600, rounds=1, seconds=seconds, seed=seed)
            every.append(residuals(M, op, f"{data}, seed {seed}, residual after", steps=(5, 10)))
        left[data] = np.exp(np.mean(np.log(every), axis=0))
    for k, step in enumerate((5, 10)):
        a, b = left["modes"][k], left["lanczos"][k]
        harness.record(
            f"DCDM 32^2 trained {seconds:g} s on sampled modes, residual after {step} steps; Lanczos vectors",
            f"{a:.2e}",
            f"{b:.2e}",
            f"{b / a:.3f}",
            threads=1,
            packages=PACKAGES,
        )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="store_true")
    parser.add_argument("--published", action="store_true")
    parser.add_argument("--train", choices=STAGES)
    parser.add_argument("--seconds", type=float, help="time of a training of --data or --published")
    arguments = parser.parse_args()
    harness.pin_threads(1)
    if arguments.train:
        train(arguments.train)
    elif arguments.data:
        compare_data(arguments.seconds or 10)
    elif arguments.published:
        published(arguments.seconds or 300)
    else:
        from solvers import DCDMPreconditioner

        compare(DCDMPreconditioner.from_pretrained("dcdm3d"), "DCDM")


if __name__ == "__main__":
    main()
