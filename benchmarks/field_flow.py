"""A flow over vorticity fields: spectrum and values of its samples, and scores of fields of other laws.

    python benchmarks/field_flow.py                       # 300 s of training, one thread
    python benchmarks/field_flow.py --layer cinc --seconds 600

Fields are of decaying two-dimensional turbulence on 32 x 32 points, at time 2, viscosity 1e-3: 2,000 to train
on, each shifted and turned at random when it is drawn, which are symmetries of the law. Then

- the energy spectrum of 2,000 samples beside that of 2,000 other fields of the law: the largest relative
  difference over all shells with more than a thousandth of the peak's energy, and what two halves of the true
  fields differ by;
- the area under the curve (AUROC) of `OODScore`, fitted to 1,000 further fields, between 500 unseen fields
  and 500 of another viscosity or with a forcing.
"""

import argparse
import tempfile

import harness

LAW = {"resolution": 32, "viscosity": 1e-3, "t_end": 2.0, "records": 1, "forcing": "none"}
OTHERS = {
    "viscosity 5e-4": {"viscosity": 5e-4},
    "viscosity 2e-3": {"viscosity": 2e-3},
    "viscosity 1e-4": {"viscosity": 1e-4},
    "the usual forcing": {"forcing": "fno"},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layer", default="finc", help="glow, cinc, finc or inverse")
    parser.add_argument("--coupling", default="affine", help="affine, quad or spline")
    parser.add_argument("--seconds", type=float, default=300.0, help="seconds of training")
    parser.add_argument("--samples", type=int, default=2000)
    options = parser.parse_args()
    harness.pin_threads(1)
    import torch

    import opflow
    from opflow.flows import FieldFlow
    from opflow.trust import OODScore

    torch.manual_seed(0)
    n = options.samples
    train, other, reference, unseen = fields(n, 0), fields(n, 1), fields(n // 2, 2), fields(n // 4, 3)
    flow = FieldFlow(
        (1, 32, 32), levels=3, steps=6, hidden_channels=48, layer=options.layer, coupling=options.coupling
    )
    config = opflow.TrainConfig(
        budget_seconds=options.seconds, batch_size=64, learning_rate=2e-3, warmup=0.05, ema=0.998
    )
    history = opflow.fit(flow, Turned(train), config=config).history
    flow.eval()
    print(f"{history[-1]['step']} steps, {history[-1]['train_loss']:.3f} nats per value in the last epoch")

    name = f"flow of 32^2 vorticity ({options.layer}, {options.coupling}, {options.seconds:g} s)"
    samples = flow.sample(n)
    worst, floor = difference(samples, other), difference(train, other)
    print(f"spectrum: samples differ by {100 * worst:.1f} %, two sets of true fields by {100 * floor:.1f} %")
    harness.record(f"{name}, largest error of the spectrum", f"{worst:.4f}", f"{floor:.4f}", threads=1)
    score = OODScore(flow, reference)
    usual = score(unseen)
    for number, (label, law) in enumerate(OTHERS.items()):
        found = auroc(usual, score(fields(n // 4, 10 + number, **law)))
        print(f"{label}: AUROC {found:.4f}")
        harness.record(f"{name}, AUROC against {label}", f"{found:.4f}", threads=1)


def fields(samples: int, seed: int, **law):
    """Return fields `(sample, 1, 32, 32)` of a law at time 2."""
    import torch

    import pde_data

    with tempfile.TemporaryDirectory() as folder:
        path = pde_data.generate(
            "navier_stokes", f"{folder}/flow.h5", samples=samples, seed=seed, **(LAW | law)
        )
        return torch.from_numpy(pde_data.open(path)["vorticity"].values[:, 1:])


class Turned:
    """Fields as pairs with nothing, each under a random element of the symmetry group of the law."""

    def __init__(self, fields):
        self.fields = fields

    def __len__(self) -> int:
        return len(self.fields)

    def gather(self, indices):
        """Return pairs of zeros and fields, shifted, turned by quarters, mirrored with a change of sign."""
        import torch

        found = []
        for i in indices:
            shift, turn, mirror = (
                torch.randint(32, (2,)),
                int(torch.randint(4, ())),
                int(torch.randint(2, ())),
            )
            u = self.fields[i].roll(tuple(shift.tolist()), (1, 2)).rot90(turn, (1, 2))
            found.append(-u.flip(1) if mirror else u)
        return torch.zeros(len(found), 1), torch.stack(found)


def difference(samples, true) -> float:
    """Return the largest relative difference of mean energy spectra over the shells that count."""
    from opflow.metrics import energy_spectrum

    ours, theirs = (energy_spectrum(u)[1].mean(0) for u in (samples, true))
    counts = theirs > 1e-3 * theirs.max()
    return ((ours - theirs).abs() / theirs)[counts].max().item()


def auroc(usual, unusual) -> float:
    """Return the probability that an unusual field scores higher than a usual one."""
    pairs = unusual[:, None] - usual
    return ((pairs > 0).double() + 0.5 * (pairs == 0).double()).mean().item()


if __name__ == "__main__":
    main()
