"""Speed of flows: a training step, log_prob and sampling, beside normflows' multi-scale Glow.

    python benchmarks/flows.py                # (32, 3, 32, 32), 2 levels, 8 steps, one and two threads
    python benchmarks/flows.py --threads 1    # each side at so many threads only

Ours and theirs have the same structure, data, preprocessing and number of parameters within 5 %. Each side is
timed in turn with the other at one and at two threads, and the report is of the thread count at which each is
fastest. Before timing, the script checks what it times: samples of each side decode and encode back, and the
densities of both are finite and of one size.

The layers with inverse convolutions are then timed beside our own Glow: Inverse-Flow samples by convolving,
FInC Flow by solving.
"""

import argparse
import statistics
import time

import harness

SHAPE, LEVELS, STEPS, WIDTH, BATCH = (3, 32, 32), 2, 8, 64, 32


def models(layers, small: bool):
    """Return the flows by name, trained for three steps, at equal parameters."""
    import torch
    from protocol import flow_models

    levels, steps, width = (1, 1, 8) if small else (LEVELS, STEPS, WIDTH)

    def make(name: str, width: int):
        return flow_models.build(name, SHAPE, levels, steps, width, 256)

    # Our Glow has the parameters of theirs, our other layers those of our Glow.
    chosen = flow_models.widths(("normflows", "glow"), make, width)
    chosen |= flow_models.widths(layers, make, chosen["glow"], reference="glow")
    made = {}
    for name, at in chosen.items():
        torch.manual_seed(0)
        made[name] = make(name, at)
    return made


def actions(flow, images):
    """Return what is timed: a training step with Adamax, log_prob and sampling of a batch."""
    import torch

    x = (images + torch.rand(images.shape)) / 256
    optimizer = torch.optim.Adamax(flow.parameters(), 1e-3, foreach=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        (-flow.log_prob(x).mean()).backward()
        optimizer.step()

    @torch.no_grad()
    def log_prob():
        flow.log_prob(x)

    @torch.no_grad()
    def sample():
        flow.sample(len(x))

    for _ in range(3):
        step()
    return {"training step": step, "log_prob": log_prob, "sampling": sample}


def check(flows, images) -> None:
    """Stop unless densities are finite and of one size, and samples of ours come back."""
    import torch

    x = (images + 0.5) / 256
    bits = {
        name: float(-flow.log_prob(x).mean().detach()) / x[0].numel() / 0.6931 + 8
        for name, flow in flows.items()
    }
    print("  bits/dim before training: " + ", ".join(f"{name} {value:.2f}" for name, value in bits.items()))
    assert max(bits.values()) - min(bits.values()) < 4, bits
    for name, flow in flows.items():
        if name != "normflows":
            with torch.no_grad():
                z = 0.7 * torch.randn(8, x[0].numel())
                error = float((flow.body(flow.body.inverse(z)[0])[0] - z).abs().max())
            assert error < 1e-3, (name, error)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--small", action="store_true", help="tiny flows, to try the script; records nothing")
    options = parser.parse_args()
    harness.pin_threads(max(options.threads))
    import torch
    from protocol.flow_models import LAYERS
    from protocol.matching import count_parameters

    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.randn(BATCH, 3, 8, 8), SHAPE[1:], mode="bicubic")
    images = (128 + 40 * smooth + 5 * torch.randn(BATCH, *SHAPE)).clamp(0, 255).round()
    flows = models(LAYERS, options.small)
    sizes = {name: count_parameters(flow) for name, flow in flows.items()}
    print("parameters: " + ", ".join(f"{name} {size:,}" for name, size in sizes.items()))
    work = {name: actions(flow, images) for name, flow in flows.items()}
    for flow in flows.values():
        flow.eval()
    check(flows, images)

    def best(what: str, ours: str, theirs: str) -> None:
        """Time two flows in turn at each thread count, and report each at its best."""
        series = []
        for threads in options.threads:
            torch.set_num_threads(threads)
            pair = harness.interleave(
                work[ours][what], work[theirs][what], options.repeats, clock=time.perf_counter
            )
            series.append((threads, *pair))
        (at, mine, _) = min(series, key=lambda s: statistics.median(s[1]))
        (_, _, other) = min(series, key=lambda s: statistics.median(s[2]))
        claim = (
            f"{what} of {ours} beside {theirs}, ({BATCH}, {', '.join(map(str, SHAPE))}), {LEVELS} levels, "
            f"{STEPS} steps, hidden {WIDTH}, {sizes[ours] / 1e3:.0f}k and {sizes[theirs] / 1e3:.0f}k "
            "parameters, each at its best of "
            f"{' and '.join(map(str, options.threads))} threads: milliseconds"
        )
        milliseconds = [[1e3 * seconds for seconds in s] for s in (mine, other)]
        if options.small:
            print(claim, [statistics.median(m) for m in milliseconds])
        else:
            harness.report(claim, *milliseconds, threads=at, packages=("normflows", "opflow-sciml"))

    for what in ("training step", "log_prob", "sampling"):
        best(what, "glow", "normflows")
    for layer in LAYERS[1:]:
        best("sampling", layer, "glow")
        best("training step", layer, "glow")


if __name__ == "__main__":
    main()
