"""Flows in the common training loop: what is minimised, selected, resumed, refused."""

import json

import pytest
import torch
from torch.utils.data import TensorDataset

from opflow import TrainConfig, fit, load
from opflow.flows import FieldFlow, ImageFlow

SMALL = dict(levels=1, steps=1, hidden_channels=4)


def fields(n=48, seed=0):
    noise = torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    u = 5 * (noise + noise.roll(1, 3)) + 2
    return TensorDataset(torch.zeros(n, 1), u)


def flow(seed=0, **options):
    torch.manual_seed(seed)
    return FieldFlow((1, 8, 8), **SMALL | options)


def test_it_minimises_what_it_reports_and_keeps_the_best_epoch():
    model, data = flow(), fields()
    config = TrainConfig(epochs=20, batch_size=8, learning_rate=2e-2)
    result = fit(model, data, fields(seed=1), config=config)
    losses = [row["valid_loss"] for row in result.history]
    assert losses[-1] < losses[0] - 0.015
    assert result.best_epoch == 1 + losses.index(min(losses))
    x, y = fields(seed=1).tensors
    assert model.eval().losses(x, y).mean().item() == pytest.approx(min(losses), abs=1e-5)
    assert model.door.mean.item() == pytest.approx(data.tensors[1].mean().item(), rel=1e-4)


def test_labels_and_fields_are_conditions():
    x = torch.randint(3, (48, 1)).float()
    y = torch.randn(48, 1, 8, 8) + 4 * x[:, :, None, None]
    model = flow(condition=3)
    config = TrainConfig(epochs=30, batch_size=48, learning_rate=2e-2)
    fit(model, TensorDataset(x, y), config=config)
    means = [model.eval().sample(200, cond=torch.tensor(label)).mean().item() for label in range(3)]
    assert means[2] - means[0] > 4
    inputs = torch.randn(16, 2, 8, 8)
    fit(flow(condition=(2, 8, 8)), TensorDataset(inputs, inputs[:, :1]), config=TrainConfig(epochs=1))
    with pytest.raises(ValueError, match=r"has 3 classes: pairs begin with one label, got \(2, 8, 8\)"):
        fit(flow(condition=3), TensorDataset(inputs, inputs[:, :1]), config=TrainConfig(epochs=1))


def test_noise_of_validation_is_the_same_every_epoch():
    images = torch.randint(5, (40, 1, 8, 8)).float()
    data = TensorDataset(torch.zeros(40, 1), images)
    torch.manual_seed(0)
    model = ImageFlow((1, 8, 8), **SMALL, bins=5)
    config = TrainConfig(epochs=3, learning_rate=1e-30, weight_decay=0.0, batch_size=40)
    losses = [row["valid_loss"] for row in fit(model, data, data, config=config).history]
    assert losses[1] == pytest.approx(losses[2], abs=1e-6)


def test_stopped_and_resumed_is_undisturbed(tmp_path):
    config = dict(epochs=4, batch_size=16, learning_rate=1e-2, ema=0.9)
    half = TrainConfig(**config | {"epochs": 2}, schedule="constant", warmup=0.0)
    whole = TrainConfig(**config, schedule="constant", warmup=0.0)
    straight = fit(flow(), fields(), fields(seed=1), config=whole, folder=tmp_path / "b").model
    fit(flow(), fields(), fields(seed=1), config=half, folder=tmp_path / "c")
    again = fit(flow(seed=5), fields(), fields(seed=1), config=whole, folder=tmp_path / "c", resume=True)
    resumed = again.model
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values()):
        assert torch.equal(a, b), name
    assert json.loads((tmp_path / "c" / "config.json").read_text())["class"] == "FieldFlow"
    y = fields(3, seed=2).tensors[1]
    assert torch.equal(load(tmp_path / "c").log_prob(y), resumed.eval().log_prob(y))


def test_options_about_predictions_are_refused():
    with pytest.raises(ValueError, match="makes no predictions: leave out noise, transpose"):
        fit(flow(), fields(), config=TrainConfig(noise=0.1, transpose=True))


def test_a_constant_channel_has_no_density():
    data = TensorDataset(torch.zeros(8, 1), torch.ones(8, 1, 8, 8))
    with pytest.raises(ValueError, match=r"channels \[0\] are constant"):
        fit(flow(), data, config=TrainConfig(epochs=1))
