"""The named runs of operators beyond FNO, in small, by the commands that a user types."""

import json

import pytest

import pde_data
from opflow import load
from opflow.cli import main

RUNS = {
    "gfno-navier-stokes": (
        ("navier_stokes", dict(resolution=16, viscosity=1e-2, forcing="sym", t_end=1.0, records=4)),
        "GFNO",
        "hidden_channels=3",
    ),
    "localno-kolmogorov": (
        ("kolmogorov_flow", dict(reynolds=10.0, resolution=16, solve_resolution=16, burn_in=0.2, t_end=0.4)),
        "LocalNO",
        "hidden_channels=6",
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_generate_train_evaluate_certify(name, tmp_path, capsys):
    (equation, options), model, width = RUNS[name]
    data, run = str(tmp_path / "flow.h5"), str(tmp_path / "run")
    pde_data.generate(equation, data, samples=10, seed=0, processes=1, **options)
    small = ["--options", "n_modes=[6,6]", width, "n_layers=2", "--epochs", "1", "--rollout-steps", "1"]
    assert main(["train", name, "--data", data, "--folder", run, *small]) == 0, capsys.readouterr().err
    assert main(["evaluate", run]) == 0
    assert type(load(run)).__name__ == model
    assert main(["certify", run]) == 0, capsys.readouterr().out
    rows = json.loads((tmp_path / "run" / "certificate.json").read_text())["rows"]
    judged = {row["check"] for row in rows if row["verdict"] == "pass"}
    assert judged == {"gradient", *(["equivariance"] if model == "GFNO" else [])}
