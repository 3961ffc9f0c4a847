"""A training step of a G-FNO, against the published structure and against our FNO.

    python benchmarks/gfno_step.py               # all comparisons, 2 threads
    python benchmarks/gfno_step.py --repeats 5   # a rehearsal

(a) The published network, p4 and p4m: ours against a plain implementation of it (`published_gfno.py`: kernels
turned and stacked for every group element at each step, full FFTs), the same weights, the same numbers to
1e-5. (b) Our GFNO in its default form, p4, against our FNO of as many parameters, to 5 %.

64 x 64 points, batch 16, 23 modes, widths 10 (p4), 7 (p4m) and 20 (FNO). A step is forward, mean square,
backward, without the optimiser, eagerly.
"""

import argparse
import time

import harness

WIDTHS = {"p4": 10, "p4m": 7}
MODES, GRID, BATCH = 23, 64, 16
PACKAGES = ("opflow-sciml",)


def step(model, x):
    model.zero_grad(set_to_none=True)
    model(x).square().mean().backward()


def timed(ours, theirs, x, repeats: int) -> tuple[list[float], list[float]]:
    return harness.interleave(lambda: step(ours, x), lambda: step(theirs, x), repeats, time.perf_counter)


def against_published(group: str, threads: int, repeats: int) -> None:
    import torch
    from published_gfno import PublishedGFNO

    from opflow.interop import from_gfno

    torch.manual_seed(0)
    theirs = PublishedGFNO((MODES + 1) // 2, 1, WIDTHS[group], {"p4": 4, "p4m": 8}[group])
    ours = from_gfno(theirs.state_dict()).train()
    x = torch.randn(BATCH, 1, GRID, GRID)
    with torch.no_grad():
        expected = theirs(x)
        error = float((ours(x) - expected).norm() / expected.norm())
    assert error < 1e-5, f"the two models differ: {error}"
    harness.report(
        f"training step of the published G-FNO, {group}, {GRID}x{GRID}, batch {BATCH}, "
        f"width {WIDTHS[group]}, {MODES} modes: seconds, a plain implementation",
        *timed(ours, theirs, x, repeats),
        threads=threads,
        packages=PACKAGES,
    )


def against_fno(threads: int, repeats: int) -> None:
    import torch

    from opflow import FNO, GFNO

    torch.manual_seed(0)
    ours = GFNO((MODES, MODES), 1, 1, WIDTHS["p4"])
    theirs = FNO((MODES, MODES), 1, 1, 20)
    counts = [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]
    assert abs(counts[0] / counts[1] - 1) < 0.05, f"not as many parameters: {counts}"
    x = torch.randn(BATCH, 1, GRID, GRID)
    ratio = harness.report(
        f"training step of GFNO p4, {GRID}x{GRID}, batch {BATCH}, width {WIDTHS['p4']}, {MODES} modes, "
        f"{counts[0]} parameters: seconds, our FNO of width 20, {counts[1]} parameters",
        *timed(ours, theirs, x, repeats),
        threads=threads,
        packages=PACKAGES,
    )
    print(f"  {1 / ratio:.2f} times the step of that FNO")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=21, help="timed steps of each side")
    options = parser.parse_args()
    harness.pin_threads(options.threads)
    for group in WIDTHS:
        against_published(group, options.threads, options.repeats)
    against_fno(options.threads, options.repeats)


if __name__ == "__main__":
    main()
