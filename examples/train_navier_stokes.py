"""Train an FNO to step two-dimensional turbulence, and let it run free: a script to copy and change.

python examples/train_navier_stokes.py            # about ten minutes on two cores
python examples/train_navier_stokes.py --smoke    # seconds, to see that everything works
"""

import argparse
from pathlib import Path

import torch

import opflow
import pde_data
from opflow import metrics, plot


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/navier-stokes"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--smoke", action="store_true")
    args = parser.parse_args()
    small = args.smoke

    # Data: vorticity of forced flows, one frame per unit of time.
    data = args.folder / "ns.h5"
    data.parent.mkdir(parents=True, exist_ok=True)
    pde_data.generate(
        "navier_stokes",
        data,
        samples=20 if small else 250,
        resolution=16 if small else 64,
        viscosity=1e-3,
        t_end=5 if small else 20,
        records=5 if small else 20,
        seed=0,
    )
    train, valid, test = (pde_data.FieldDataset(data, split=part) for part in ("train", "valid", "test"))
    print(f"{len(train)} pairs for training, {len(valid)} for validation, {len(test)} for the test")

    # Model: from the vorticity now to the vorticity one unit of time later.
    torch.manual_seed(0)
    model = opflow.FNO(
        n_modes=(8, 8) if small else (24, 24),
        in_channels=train.in_channels,
        out_channels=train.out_channels,
        hidden_channels=8 if small else 32,
        n_layers=4,
    )

    # Training: the best weights by validation error are in `model` afterwards, and in the run folder.
    config = opflow.TrainConfig(
        epochs=1 if small else args.epochs,
        batch_size=16,
        learning_rate=2e-3,
        predict="increment",
    )
    opflow.fit(model, train, valid, config=config, folder=args.folder / "run", resume=True)

    # Rollout: from the first frame of unseen trajectories, each prediction is the next input.
    truth = torch.stack([test.trajectory(i) for i in range(test.n_samples)])
    prediction = opflow.rollout(model, truth[:, 0], steps=truth.shape[1] - 1)
    truth = truth[:, 1:]
    times = [test.time_step * (n + 1) for n in range(truth.shape[1])]
    for time, error in zip(times, metrics.rollout_error(prediction, truth).mean(0).tolist()):
        print(f"t = {time:4g}: relative L2 error {error:.4f}")

    # Pictures.
    plot.rollout_strip(truth[0], prediction[0], times, name="vorticity").savefig(args.folder / "rollout.png")
    wavenumbers, target = metrics.energy_spectrum(truth[:, -1])
    _, predicted = metrics.energy_spectrum(prediction[:, -1])
    curves = {"truth": target, "FNO": predicted}
    plot.spectra(wavenumbers, curves).savefig(args.folder / "spectrum.png")
    print(f"pictures in {args.folder}")


if __name__ == "__main__":
    main()
