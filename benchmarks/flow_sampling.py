"""What sampling from rectified flows costs, and what it keeps on other grids.

    python benchmarks/flow_sampling.py                     # all claims, 3 CPU minutes of training per flow
    python benchmarks/flow_sampling.py --claims prior loop # some of them

prior   A Gaussian process at 4,096 points, against a dense Cholesky factor (CPU seconds of one field).
loop    Euler by our loop with compiled steps, against torchdiffeq's, at equal steps (CPU seconds).
grids   Vorticity of Navier-Stokes flows, learned at 32 x 32 by an FNO, sampled at 32, 64 and 128 points with
        the same weights: sliced Wasserstein distance and distance of spectra in the band of the 32 x 32 grid,
        with function-space and with white noise, and the floor of two halves of the truth.
ladder  The same flow at 64 x 64, its early steps on 32 x 32: cost in points, and distance of spectra.
reflow  Two-phase Darcy flow (benchmarks/rectified.py): 1, 2, 4, 8, 25 and 100 Euler steps before and after
        one reflow.

Each figure is a row of results.csv.
"""

import argparse
import math

import harness
from rectified import train

FNO = {"class": "FNO", "config": {"n_modes": (16, 16), "hidden_channels": 32, "positional_embedding": None}}
PACKAGES = ("torchdiffeq",)


def prior(seconds: float) -> None:
    import torch

    from opflow.rectified import GaussianProcess

    points, length = torch.rand(4096, 2, dtype=torch.float64), 0.1
    noise = GaussianProcess(length=length, nu=1.5)

    def dense():
        r = math.sqrt(3) / length * torch.cdist(points, points)
        kernel = (1 + r) * (-r).exp() + 1e-6 * torch.eye(len(points))
        return torch.linalg.cholesky(kernel) @ torch.randn(len(points), 1, dtype=torch.float64)

    # Both have the same law.
    lag = torch.tensor([[0.0, 0.0], [0.05, 0.05], [0.2, 0.0]], dtype=torch.float64)
    r = math.sqrt(3) / length * lag.norm(dim=1)
    assert (noise.covariance(lag) - (1 + r) * (-r).exp()).abs().max() < 0.01
    times = harness.interleave(lambda: noise.sample(points, 1, dtype=torch.float64), dense, repeats=5)
    claim = "Gaussian process at 4,096 new points, one field, against dense Cholesky, CPU s"
    harness.report(claim, *times, threads=1, packages=())


def loop(seconds: float) -> None:
    import torch
    from protocol.pairs import GRID
    from protocol.pairs_models import UNET

    from opflow.rectified import FunctionalFlow, integrate

    for network, batch in ((FNO, 1), (FNO, 16), (UNET, 1), (UNET, 16)):
        torch.manual_seed(0)
        flow = FunctionalFlow(network).eval()
        noise, sampler = flow.draw_noise(batch, (GRID, GRID), seed=0), flow.fixed_steps(n_steps=25)

        def ours(sampler=sampler, noise=noise):
            return sampler(noise).samples

        def theirs(flow=flow, noise=noise):
            return integrate(flow.velocity(), noise, n_steps=25).samples

        torch.testing.assert_close(ours(), theirs(), atol=1e-4, rtol=1e-4)
        claim = f"25 Euler steps of a {network['class']}, 32 x 32, batch {batch}, against torchdiffeq, CPU s"
        harness.report(claim, *harness.interleave(ours, theirs, repeats=5), threads=1, packages=PACKAGES)


def vorticity(samples: int, resolution: int, seed: int):
    import torch

    from pde_data.equations.navier_stokes import NavierStokes

    equation = NavierStokes(resolution=resolution, t_end=2.0, records=1, viscosity=1e-3)
    return torch.as_tensor(equation.generate(seed, range(samples))["vorticity"][:, -1:])


def trained_on_vorticity(noise, seconds: float):
    import torch
    from protocol.pairs_scores import batches

    from opflow.nn import fourier_resample
    from opflow.rectified import FunctionalFlow

    fields = fourier_resample(vorticity(1024, 64, seed=0), (32, 32))
    torch.manual_seed(0)
    flow = FunctionalFlow(FNO, noise=noise, head="target")
    flow.fit_normalizer(fields)
    draw = batches(0, fields)

    def loss():
        x, generator = draw()
        return flow.loss(x, generator=generator)

    train(flow, loss, seconds)
    return flow


def function_noise():
    from opflow.rectified import GaussianProcess

    return GaussianProcess(length=0.2, nu=1.5)


def grids(seconds: float) -> None:
    import torch

    from opflow import metrics
    from opflow.nn import fourier_resample
    from opflow.rectified import White

    n = 256
    truth = fourier_resample(vorticity(2 * n, 64, seed=1), (32, 32))
    lot = torch.Generator().manual_seed(0)

    def distances(a, b) -> tuple[float, float]:
        scale = float(truth.std()) * 32
        swd = metrics.sliced_wasserstein(a, b, 256, generator=lot) / scale
        return swd, float(metrics.spectrum_distance(a, b, shells=15))

    floor = distances(truth[:n], truth[n:])
    record("vorticity, floor of two halves at 32 x 32", floor)
    for name, noise in (("function-space", function_noise()), ("white", White())):
        flow, first = trained_on_vorticity(noise, seconds), None
        for size in (32, 64, 128):
            drawn = flow.sample(n, (size, size), seed=0, chunk=32, method="midpoint", n_steps=12).samples
            found = distances(fourier_resample(drawn, (32, 32)), truth[:n])
            first = first or found
            ratios = tuple(a / b for a, b in zip(found, first))
            record(f"vorticity, {name} noise, learned at 32 x 32, sampled at {size} x {size}", found, ratios)


def ladder(seconds: float) -> None:
    import torch

    from opflow import metrics
    from opflow.rectified import coarse_to_fine

    n, steps = 256, 40
    truth = vorticity(n, 64, seed=1)
    flow = trained_on_vorticity(function_noise(), seconds)
    noise = flow.draw_noise(n, (64, 64), seed=0)
    plain = flow.transport(noise, n_steps=steps, chunk=32).samples
    parts = [
        coarse_to_fine(flow.velocity(), part, [(32, 32), (64, 64)], [0.6], flow.path, n_steps=steps)
        for part in noise.split(32)
    ]
    found = flow.denormalize(torch.cat([p.samples for p in parts]))
    ours, theirs = (float(metrics.spectrum_distance(x, truth)) for x in (found, plain))
    claim = f"coarse to fine, vorticity 64 x 64, {parts[0].nfe} of {steps} evaluations: distance of spectra"
    harness.record(claim, f"{ours:.4g}", f"{theirs:.4g}", f"{theirs / ours:.3f}", threads=1)
    print(f"{claim}: {ours:.4g}, on one grid {theirs:.4g}, cost 1 / {steps / parts[0].nfe:.2f}", flush=True)


def reflow(seconds: float) -> None:
    import torch
    from protocol.pairs_media import Darcy
    from protocol.pairs_models import UNET
    from protocol.pairs_scores import batches, conditional_scores

    from opflow.rectified import Palette, SymmFlow, straightness

    task, draws = Darcy(masks=64, draws=16), 16
    fields, labels = task.training
    torch.manual_seed(0)
    flow = SymmFlow(UNET, Palette(2, 1))
    flow.fit_normalizer(fields)
    true = batches(0, fields, labels)

    def table(name: str) -> None:
        tested = task.tests[1].repeat_interleave(draws, 0)
        for n in (1, 2, 4, 8, 25, 100):
            drawn = flow.synthesise(tested, seed=0, chunk=128, n_steps=n).samples
            crps, swd, spread = conditional_scores(drawn.unflatten(0, (-1, draws)), task)
            record(
                f"Darcy given phases, {name} reflow, {n} Euler steps (SWD, CRPS, spread)", (swd, crps, spread)
            )

        def along(x, t):
            code = flow.codec.encode(task.tests[1])
            one = torch.ones(len(x))
            return flow.velocity(x, code, t * one, one)[0]

        start = torch.randn(task.tests[0].shape, generator=torch.Generator().manual_seed(1))
        record(
            f"Darcy given phases, {name} reflow, straightness", (float(straightness(along, start).mean()),)
        )

    train(flow, lambda: flow.loss(*true()), seconds)
    table("before")
    again = labels.repeat(2, 1, 1)
    noise, made = flow.reflow_pairs(again, seed=1, chunk=128, method="midpoint", n_steps=16, power=2.0)
    pairs = batches(1, made, again, noise)

    def loss():
        x, y, x0, generator = pairs()
        return flow.loss(x, y, generator, noise=x0) + flow.loss(*true())

    flow.train()
    train(flow, loss, seconds)
    table("after one")


def record(claim: str, values: tuple[float, ...], ratios: tuple[float, ...] = ()) -> None:
    texts = [", ".join(f"{v:.4g}" for v in series) for series in (values, ratios)]
    harness.record(claim, texts[0], "", texts[1], threads=1)
    print(f"{claim}: {texts[0]}" + (f"; over the first {texts[1]}" if ratios else ""), flush=True)


CLAIMS = {"prior": prior, "loop": loop, "grids": grids, "ladder": ladder, "reflow": reflow}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--claims", nargs="+", choices=tuple(CLAIMS), default=tuple(CLAIMS))
    parser.add_argument("--seconds", type=float, default=180.0, help="CPU seconds of training per flow")
    options = parser.parse_args()
    for claim in options.claims:
        CLAIMS[claim](options.seconds)


if __name__ == "__main__":
    harness.pin_threads(1)
    main()
