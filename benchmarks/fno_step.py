"""One training step and one inference of an FNO, against neuraloperator's with the same weights.

    python benchmarks/fno_step.py              # three sizes, 2 threads, eager and compiled
    python benchmarks/fno_step.py --sizes 64   # one of them

Both sides get the same input and weights (converted by `opflow.interop`), eager and compiled; what does not
give the same output to 1e-5 is left out (neuraloperator under `torch.compile`), and the faster of the rest
counts. A step is forward, mean square, backward, as a user would write it, without the optimiser, which is
the same on both sides. Peak memory is the growth of the resident set over one process per side that does
nothing but a few steps.
"""

import argparse
import statistics
import subprocess
import sys
import time
import warnings

import harness

SIZES = {  # grid: batch, channels, modes
    64: (16, 32, 24),
    256: (4, 64, 32),
    16: (8, 24, 16),
}
PACKAGES = ("neuraloperator", "opflow-sciml")


def build(grid: int):
    import torch
    from neuralop.models import FNO as TheirFNO

    from opflow.interop import from_neuralop

    torch.manual_seed(0)
    batch, channels, modes = SIZES[grid]
    theirs = TheirFNO(
        n_modes=(modes, modes), in_channels=1, out_channels=1, hidden_channels=channels, n_layers=4
    )
    return from_neuralop(theirs).train(), theirs.train(), torch.randn(batch, 1, grid, grid)


def step(model, x):
    model.zero_grad(set_to_none=True)
    model(x).square().mean().backward()


def infer(model, x):
    import torch

    with torch.no_grad():
        model(x)


def peak_memory(side: str, grid: int) -> float:
    """Growth of the resident set (MiB) by training steps, in a process of its own."""
    out = subprocess.run(
        [sys.executable, __file__, "--memory", side, str(grid)], capture_output=True, text=True
    )
    return float(out.stdout.split()[-1])


def grow(side: str, grid: int) -> None:
    ours, theirs, x = build(grid)
    model = ours if side == "ours" else theirs
    del ours, theirs
    step(model, x[:1, :, :16, :16])  # libraries and thread pools
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the peak so far
    before = memory_status("VmRSS")
    for _ in range(3):
        step(model, x)
    print(memory_status("VmHWM") - before)


def memory_status(name: str) -> float:
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"the system does not tell {name}")


def timed(function, pair, x, repeats: int) -> tuple[list[float], list[float]]:
    ours, theirs = pair
    return harness.interleave(
        lambda: function(ours, x), lambda: function(theirs, x), repeats, time.perf_counter
    )


def agreeing(model, reference, x, compiled: bool) -> dict:
    """Return the model, eager and compiled, as far as it is the reference to 1e-5."""
    import torch

    torch._dynamo.reset()  # sizes seen before would be made symbolic
    variants = {"eager": model} | ({"compiled": torch.compile(model)} if compiled else {})
    with torch.no_grad():
        exact = reference(x)
        errors = {mode: float((m(x) - exact).norm() / exact.norm()) for mode, m in variants.items()}
    assert errors["eager"] < 1e-5, f"the two models differ: {errors['eager']}"
    for mode, error in errors.items():
        if error >= 1e-5:
            print(f"  {type(model).__module__} {mode} is another function, by {error:.1e}: left out")
            del variants[mode]
    return variants


def median_seconds(function, model, x, repeats: int) -> float:
    function(model, x)
    seconds = []
    for _ in range(1 + repeats // 3):
        start = time.perf_counter()
        function(model, x)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def compare(grid: int, threads: int, repeats: int, compiled: bool) -> None:
    ours, theirs, x = build(grid)
    sides = [agreeing(model, theirs, x, compiled) for model in (ours, theirs)]
    batch, channels, n_modes = SIZES[grid]
    sizes = f"FNO {grid}x{grid}, batch {batch}, {channels} channels, {n_modes} modes, 4 layers"
    for name, function in (("training step", step), ("inference", infer)):
        best = []
        for side, variants in zip(("ours", "theirs"), sides):
            medians = {mode: median_seconds(function, model, x, repeats) for mode, model in variants.items()}
            for mode, seconds in medians.items():
                print(f"  {name}, {side} {mode}: {seconds * 1e3:.1f} ms", flush=True)
            best.append(min(medians, key=lambda mode: medians[mode]))
        pair = sides[0][best[0]], sides[1][best[1]]
        modes = f"best of eager and compiled (ours {best[0]}, theirs {best[1]})" if compiled else "both eager"
        harness.report(
            f"{name} of {sizes}: seconds, {modes}",
            *timed(function, pair, x, repeats),
            threads=threads,
            packages=PACKAGES,
        )
    memory = [peak_memory(side, grid) for side in ("ours", "theirs")]
    share = memory[0] / memory[1]
    print(f"  peak memory: ours {memory[0]:.0f} MiB, theirs {memory[1]:.0f} MiB, {share:.2f} of it")
    harness.record(
        f"peak memory of a training step of {sizes}: MiB",
        *(f"{m:.0f}" for m in memory),
        f"{1 / share:.3f}",
        threads=threads,
        packages=PACKAGES,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, help="timed calls of each side; by default as the size needs")
    parser.add_argument("--eager-only", action="store_true", help="skip torch.compile")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    harness.pin_threads(options.threads)
    warnings.simplefilter("ignore")  # neuraloperator's and the compiler's
    if options.memory:
        return grow(options.memory[0], int(options.memory[1]))
    for grid in options.sizes:
        repeats = options.repeats or {16: 51, 64: 21, 256: 5}[grid]
        compare(grid, options.threads, repeats, not options.eager_only)


if __name__ == "__main__":
    main()
