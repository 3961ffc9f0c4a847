"""The benchmarks of rectified flows: their tasks are what they say, and their rows resume."""

import argparse
import csv
import math
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

import rectified  # noqa: E402
from protocol import pairs_flow, pairs_media, pairs_models  # noqa: E402


@pytest.fixture
def small(monkeypatch):
    for module in (pairs_media, pairs_flow):
        monkeypatch.setattr(module, "TRAINING", 16)


def test_regions_of_a_cellular_flow():
    """Of psi = cos(2 pi x) + cos(2 pi y) the Okubo-Weiss parameter is -4 (2 pi)^4 cos(2 pi x) cos(2 pi y)."""
    x = 2 * torch.pi * torch.arange(32) / 32
    a, b = x.cos()[:, None], x.cos()[None]
    vorticity = (a + b)[None, None]
    regions = pairs_flow.okubo_weiss(vorticity)[0]
    exact = -a * b / (a * b).std()
    assert torch.equal(regions == 1, exact > 0.2)
    assert torch.equal(regions == 2, (exact < -0.2) & (a + b > 0))
    assert torch.equal(regions == 3, (exact < -0.2) & (a + b <= 0))


def test_media_have_their_law(small):
    task = pairs_media.Darcy(masks=3, draws=40)
    assert task.law is not None and task.perfect is not None
    assert task.law.shape == (3, 80, 1, 32, 32) and task.perfect.shape == (3, 40, 1, 32, 32)
    # Stratified or not, both are drawn from one law.
    apart = (task.law.mean(1) - task.perfect.mean(1)).norm() / task.law.mean(1).norm()
    assert apart < 0.15
    assert task.turns and task.tests[1].unique().tolist() == [0, 1]


def test_flows_round_obstacles_are_linear_in_the_force(small):
    task = pairs_flow.Obstacles(masks=2, draws=200)
    assert task.law is not None and task.perfect is not None
    # E[size cos(angle)] = 3 sqrt(3) / (2 pi), and E[size sin(angle)] = 0: the mean flow is that along x.
    equation = pairs_flow.Stokes(resolution=32, setting="periodic", obstacles=3, permeability=1e-3)
    mask = task.tests[1][0].numpy() == 0
    along = task._solve(equation, mask)[0] * 3 * math.sqrt(3) / (2 * math.pi)
    mean = task.law[0].mean(0)
    scale = task.moments[1][0]
    assert ((mean - along) / scale).norm() / (along / scale).norm() < 0.1
    assert (
        task.known(task.tests[0])["divergence"].max()
        < 0.1
        < task.known(torch.randn(4, 3, 32, 32))["divergence"].min()
    )


def test_slices_of_rock_are_unseen(real_data, monkeypatch, small):
    monkeypatch.setenv("OPFLOW_DATA", str(real_data))
    task = pairs_media.Rock(masks=4, draws=1)
    share = task.training[1].float().mean()
    assert 0.05 < share < 0.3  # of pores; 0.17 in the whole volume


def test_rows_are_kept_and_columns_added(small, tmp_path, monkeypatch, capsys):
    rows = tmp_path / "rows.csv"
    monkeypatch.setattr(rectified, "ROWS", rows)
    old = {"task": "darcy", "model": "fno-ce", "seed": "0", "seconds": "0.3", "miou_1": "0.5"}
    with rows.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(old))
        writer.writeheader()
        writer.writerow(old)
    options = argparse.Namespace(masks=8, draws=2, seconds=0.3, seeds=[0])
    models = ["fno-ce", "unet-mse", "turned-symmflow", "semflow-published"]
    rectified.run("darcy", models, options)
    with rows.open(newline="") as file:
        reader = csv.DictReader(file)
        found = {row["model"]: row for row in reader}
    assert tuple(reader.fieldnames or ()) == rectified.COLUMNS and found["fno-ce"]["miou_1"] == "0.5"
    assert {"truth", "majority", "any-labels", "mean", *models} == set(found)
    assert float(found["truth"]["crps"]) < float(found["any-labels"]["crps"])
    assert float(found["unet-mse"]["mean"]) > float(found["truth"]["mean"])
    assert found["turned-symmflow"]["spread"] and not found["unet-mse"]["spread"]
    capsys.readouterr()
    rectified.run("darcy", models, options)
    assert capsys.readouterr().out == ""


def test_models_that_fit_a_task(small):
    on_maps = pairs_models.models_for(pairs_media.Darcy(masks=1, draws=1))
    assert on_maps == tuple(pairs_models.MODELS)
    whole = pairs_models.models_for(pairs_flow.Vortices(masks=4, draws=1))
    assert not [name for name in whole if name.startswith("turned") or "mse" in name] and "semflow" in whole
