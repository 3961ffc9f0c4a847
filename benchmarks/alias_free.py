"""Alias-free layers beside GELU: change between grids, time of a training step, error after training.

    python benchmarks/alias_free.py             # grids and times, 1 thread
    python benchmarks/alias_free.py --train     # and the error on Navier-Stokes, a few minutes

Both sides are `opflow.FNO` with equal parameters (within 1 %), modes and layers:
`non_linearity="polynomial", project=True` and the default. The error is the relative L2 of the vorticity of
freely decaying flow on 32 x 32 points, 4 time units ahead; 40 trajectories for training, 40 for the test.
Both are trained alike, for 800 steps of AdamW with one cycle of the learning rate, on random translations and
elements of p4m (`Symmetrize` in training mode), and tested as they are and averaged over p4m.
"""

import argparse
import tempfile

import harness

MODES, WIDTH, STEPS, BATCH = 17, 20, 800, 16
SEEDS = (0, 1)
PACKAGES = ("opflow-sciml",)


def build(kind: str, seed: int = 0):
    import torch

    from opflow import FNO

    torch.manual_seed(seed)
    options = {"non_linearity": "polynomial", "project": True} if kind == "polynomial" else {}
    return FNO((MODES, MODES), 1, 1, WIDTH, positional_embedding=None, **options)


def grids() -> None:
    """Change of the output when only the grid changes, against the finest: the largest of three networks."""
    from opflow import certify

    highest = MODES // 2
    ladder = [2 * highest + 1, 3 * highest, 4 * highest, 6 * highest, 16 * highest]

    def changes(kind: str) -> list[float]:
        certificates = [certify(build(kind, seed), grids=ladder) for seed in range(3)]
        return [
            max(row.value for row in rows)
            for rows in zip(*(c.rows for c in certificates))
            if rows[0].check == "grid"
        ]

    for n, ours, theirs in zip(ladder, changes("polynomial"), changes("gelu")):
        claim = f"change of the output, {n} points against {ladder[-1]}, polynomial and GELU FNO, relative L2"
        print(f"{claim}: {ours:.1e}, {theirs:.1e}")
        harness.record(claim, f"{ours:.1e}", f"{theirs:.1e}", threads=1, packages=PACKAGES)


def times() -> None:
    import torch

    ours, theirs = build("polynomial"), build("gelu")
    for n in (32, 64, 128):
        x = torch.randn(8, 1, n, n)

        def step(model, x=x):
            model.zero_grad(set_to_none=True)
            model(x).square().mean().backward()

        seconds = harness.interleave(lambda: step(ours), lambda: step(theirs), repeats=7)
        claim = f"training step of a polynomial FNO against GELU, {n}^2, batch 8, s CPU"
        harness.report(claim, *seconds, threads=1, packages=PACKAGES)


def pairs(folder: str):
    import torch

    import pde_data
    from opflow.nn import fourier_resample

    options = {"samples": 80, "resolution": 64, "viscosity": 1e-3, "t_end": 12, "records": 12, "seed": 0}
    file = pde_data.generate("navier_stokes", f"{folder}/ns.h5", forcing="none", processes=1, **options)
    with pde_data.open(file) as data:
        w = torch.from_numpy(data["vorticity"].values).double()
    w = fourier_resample(w, (32, 32)).float()  # (sample, time, x, y)
    return [
        (w[s, :-4].reshape(-1, 1, 32, 32), w[s, 4:].reshape(-1, 1, 32, 32))
        for s in (slice(40), slice(40, 80))
    ]


def errors(kind: str, seed: int, train, test) -> tuple[float, float]:
    """Test error after training, and averaged over the group."""
    import torch

    from opflow.equivariance import Symmetrize
    from opflow.metrics import relative_l2

    model = build(kind, seed)
    scale = train[0].std().item()
    model.normalizer.set([0.0], [scale], [0.0], [scale])
    wrapped = Symmetrize(model, "p4m", "pseudoscalar", "pseudoscalar").train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)
    for _ in range(STEPS):
        chosen, shift = torch.randint(len(train[0]), (BATCH,)), torch.randint(32, (2,)).tolist()
        x, y = (fields[chosen].roll(shift, (2, 3)) for fields in train)
        optimizer.zero_grad()
        relative_l2(wrapped(x), y).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    wrapped.eval()
    with torch.no_grad():
        return tuple(relative_l2(f(test[0]), test[1]).mean().item() for f in (model, wrapped))


def accuracy() -> None:
    with tempfile.TemporaryDirectory() as folder:
        train, test = pairs(folder)
    for seed in SEEDS:
        found = [errors(kind, seed, train, test) for kind in ("polynomial", "gelu")]
        for name, ours, theirs in zip(("as trained", "averaged over p4m"), *found):
            claim = f"relative L2 error on Navier-Stokes, polynomial and GELU FNO, {name}, seed {seed}"
            print(f"{claim}: {ours:.4f}, {theirs:.4f}")
            numbers = (f"{ours:.4f}", f"{theirs:.4f}", f"{theirs / ours:.3f}")
            harness.record(claim, *numbers, threads=1, packages=PACKAGES)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", action="store_true")
    arguments = parser.parse_args()
    harness.pin_threads(1)
    sizes = [sum(p.numel() for p in build(kind).parameters()) for kind in ("polynomial", "gelu")]
    print(f"parameters: polynomial {sizes[0]}, GELU {sizes[1]}")
    grids()
    times()
    if arguments.train:
        accuracy()
