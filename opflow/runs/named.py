"""The named runs, rows of a table."""

from dataclasses import replace

from opflow.runs.config import RunConfig
from opflow.runs.images import DIGITS
from opflow.training.config import TrainConfig

_UNET = {"class": "UNet", "config": {"hidden_channels": 32, "multipliers": [1, 2, 4]}}
_FLOW = TrainConfig(epochs=60, batch_size=32, learning_rate=2e-3, warmup=0.05, ema=0.999)

RUNS: dict[str, tuple[str, RunConfig]] = {
    "fno-navier-stokes": (
        "FNO that steps two-dimensional vorticity, unrolled in validation",
        RunConfig(
            options={"n_modes": [24, 24], "hidden_channels": 32, "n_layers": 4},
            train=TrainConfig(
                epochs=50, batch_size=16, learning_rate=2e-3, predict="increment", rollout_steps=10
            ),
        ),
    ),
    "gfno-navier-stokes": (
        "GFNO that steps two-dimensional vorticity, for a forcing that quarter turns leave as it is, or none",
        RunConfig(
            model="GFNO",
            options={
                "n_modes": [24, 24],
                "hidden_channels": 10,
                "n_layers": 4,
                "in_kinds": "pseudoscalar",
                "out_kinds": "pseudoscalar",
                "positional_embedding": "periodic",
            },
            train=TrainConfig(
                epochs=50, batch_size=16, learning_rate=2e-3, predict="increment", rollout_steps=10
            ),
        ),
    ),
    "fno-darcy": (
        "FNO from the coefficient of Darcy flow to its pressure",
        RunConfig(
            # 12 modes, fewer than 16 points resolve: nothing aliases when the grid changes.
            options={"n_modes": [12, 12], "hidden_channels": 24, "n_layers": 4},
            train=TrainConfig(
                epochs=60, batch_size=16, learning_rate=5e-3, schedule="onecycle", transpose=True
            ),
        ),
    ),
    "localno-kolmogorov": (
        "LocalNO that steps the vorticity of turbulent Kolmogorov flow on a box of side 2 pi",
        RunConfig(
            model="LocalNO",
            options={
                "n_modes": [16, 16],
                "hidden_channels": 32,
                "n_layers": 4,
                "domain_length": 6.283185307179586,
            },
            train=TrainConfig(
                epochs=50, batch_size=16, learning_rate=2e-3, predict="increment", rollout_steps=10
            ),
        ),
    ),
    "mino-darcy": (
        "MINO from permeability and source of Darcy flow on polygons to its pressure",
        RunConfig(
            distances=True,
            model="MINO",
            options={"hidden_channels": 48, "radius": 0.08, "latent": [11, 11], "n_layers": 4},
            train=TrainConfig(
                epochs=60,
                batch_size=8,
                learning_rate=2e-3,
                schedule="onecycle",
                loss="l2",
                query_points=256,
            ),
        ),
    ),
    "finc-digits": (
        "FInC Flow of scikit-learn's digits: images, their likelihood, samples",
        RunConfig(
            data=DIGITS,
            model="ImageFlow",
            options={"layer": "finc", "levels": 2, "steps": 8, "hidden_channels": 64},
            train=TrainConfig(epochs=100, batch_size=128, learning_rate=2e-3, warmup=0.05, ema=0.99),
        ),
    ),
    "inverse-mnist": (
        "Inverse-Flow of handwritten digits in an IDX file such as t10k-images-idx3-ubyte.gz",
        RunConfig(
            model="ImageFlow",
            options={"layer": "inverse", "levels": 2, "steps": 8, "hidden_channels": 64},
            train=TrainConfig(epochs=30, batch_size=128, learning_rate=2e-3, warmup=0.05, ema=0.99),
        ),
    ),
    "finc-vorticity": (
        "FInC Flow of vorticity fields: their density, samples, and scores of what lies outside",
        RunConfig(
            model="FieldFlow",
            options={"layer": "finc", "levels": 3, "steps": 6, "hidden_channels": 48},
            train=TrainConfig(epochs=30, batch_size=64, learning_rate=2e-3, warmup=0.05, ema=0.99),
        ),
    ),
    "symmflow-darcy": (
        "SymmFlow between the phases of a two-phase Darcy medium and the pressure in it",
        RunConfig(
            inputs=("u",),
            targets=("a",),
            classes=(3.0, 12.0),
            model="SymmFlow",
            options={"network": _UNET, "codec": {"class": "Palette", "depth": 1}},
            train=_FLOW,
        ),
    ),
    "semflow-darcy": (
        "SemFlow between the phases of a two-phase Darcy medium and the pressure in it",
        RunConfig(
            inputs=("u",),
            targets=("a",),
            classes=(3.0, 12.0),
            model="SemFlow",
            options={
                "network": _UNET,
                "codec": {"class": "Palette", "depth": 1, "perturbation": 1.0},
                "heads": "ends",
            },
            train=_FLOW,
        ),
    ),
    "symmflow-mnist": (
        "SymmFlow of handwritten digits in an IDX file: one network that classifies and draws them",
        RunConfig(
            model="SymmFlow",
            options={"network": _UNET, "codec": {"class": "OneHot"}},
            train=_FLOW,
        ),
    ),
    "functional-navier-stokes": (
        "functional flow matching with an FNO: the law of vorticity fields, on any grid",
        RunConfig(
            model="FunctionalFlow",
            options={
                "network": {"class": "FNO", "config": {"n_modes": [16, 16], "hidden_channels": 32}},
                "noise": {"class": "GaussianProcess", "length": 0.1, "nu": 1.5},
            },
            train=_FLOW,
        ),
    ),
    "functional-darcy-mesh": (
        "functional flow matching with MINO: pressures on meshes under given permeability and unknown source",
        RunConfig(
            inputs=("permeability",),
            targets=("pressure",),
            distances=True,
            model="FunctionalFlow",
            options={
                "network": {
                    "class": "MINO",
                    "config": {"hidden_channels": 48, "radius": 0.08, "latent": [11, 11], "n_layers": 4},
                },
                "noise": {"class": "GaussianProcess", "length": 0.2, "nu": 1.5, "box": 2.0, "highest": 16},
                "condition": "inputs",
            },
            train=replace(_FLOW, batch_size=8, ema=0.99),
        ),
    ),
    "quickstart": (
        "small FNO on Navier-Stokes data within 100 seconds",
        RunConfig(
            options={"n_modes": [12, 12], "hidden_channels": 20, "n_layers": 4},
            train=TrainConfig(
                batch_size=4,
                learning_rate=5e-3,
                schedule="onecycle",
                loss="h1",
                predict="increment",
                budget_seconds=100,
            ),
        ),
    ),
}
"""Named runs: what they are for, and their configuration, to be completed by `data`."""
