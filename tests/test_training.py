"""The training loop against the textbook loop, closed forms and bad input."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

import opflow
import opflow.training
import pde_data
from opflow.operators.base import Operator
from opflow.training import RelativeL2, TrainConfig, fit


class Scale(Operator):
    """u -> w u with one weight: every step of training can be followed by hand."""

    def __init__(self, in_channels=1, out_channels=1, weight=0.5):
        super().__init__(in_channels, out_channels, 1)
        self.config = {"in_channels": in_channels, "out_channels": out_channels, "weight": weight}
        self.weight = nn.Parameter(torch.tensor(weight))

    def operate(self, x, out_grid):
        return self.weight * x[:, -self.out_channels :]


def convolution(seed=0):
    torch.manual_seed(seed)
    layers = [nn.Conv1d(1, 6, 3, padding=1, padding_mode="circular"), nn.GELU(), nn.Conv1d(6, 1, 1)]
    return nn.Sequential(*layers)


def pairs(n=20, points=8, seed=0):
    x = torch.randn(n, 1, points, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, x.roll(1, 2) * 2 + 0.3)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_the_loop_is_the_textbook_loop():
    data, config = pairs(), TrainConfig(epochs=3, batch_size=8, learning_rate=1e-2, loss="l2", warmup=0.25)
    ours = fit(convolution(), data, config=config)

    model, loss, step, losses = convolution(), RelativeL2(), 0, []
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=1e-4)
    for epoch in range(3):
        order, total = np.random.default_rng((0, epoch)).permutation(20), 0.0
        for indices in (order[:8], order[8:16], order[16:]):
            done = (step + 0.5) / 9
            rate = done / 0.25 if done < 0.25 else 0.5 * (1 + math.cos(math.pi * (done - 0.25) / 0.75))
            optimizer.param_groups[0]["lr"] = 1e-2 * rate
            x, y = data[torch.as_tensor(indices)]
            value = loss(model(x), y)
            optimizer.zero_grad()
            value.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total, step = total + value.item() * len(indices), step + 1
        losses.append(total / 20)
    assert torch.allclose(weights(ours.model), weights(model), atol=1e-6)
    assert [row["train_loss"] for row in ours.history] == pytest.approx(losses, rel=1e-6)


def test_it_learns_a_shift_by_one_cell():
    config = TrainConfig(epochs=60, batch_size=5, learning_rate=0.05, loss="l2", schedule="onecycle")
    layer = nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular")
    result = fit(layer, pairs(), pairs(seed=1), config=config)
    assert result.history[-1]["valid_l2"] < 1e-3
    assert weights(result.model).tolist() == pytest.approx([2.0, 0.0, 0.0, 0.3], abs=2e-3)


@pytest.mark.parametrize("pieces", [2, 3, 20])
def test_accumulation_changes_nothing(pieces):
    config = TrainConfig(epochs=2, batch_size=8)  # 20 samples: the last batch has 4
    whole = fit(convolution(), pairs(), config=config)
    cut = fit(convolution(), pairs(), config=TrainConfig(epochs=2, batch_size=8, accumulate=pieces))
    assert torch.allclose(weights(whole.model), weights(cut.model), atol=1e-6)
    assert cut.history[-1]["train_loss"] == pytest.approx(whole.history[-1]["train_loss"], rel=1e-6)


@pytest.mark.parametrize("name", opflow.training.OPTIMIZERS)
@pytest.mark.parametrize("schedule", opflow.training.SCHEDULES)
def test_every_optimizer_and_schedule_lowers_the_loss(name, schedule):
    config = TrainConfig(epochs=4, batch_size=4, learning_rate=0.05, optimizer=name, schedule=schedule)
    history = fit(convolution(), pairs(), config=config).history
    assert history[-1]["train_loss"] < 0.95 * history[0]["train_loss"]


def test_schedules_end_where_their_description_says():
    ends = {name: schedule(1.0) for name, schedule in opflow.training.SCHEDULES.items()}
    assert ends == pytest.approx({"cosine": 0.0, "onecycle": 0.0, "step": 1 / 32, "constant": 1.0}, abs=1e-12)
    onecycle = opflow.training.SCHEDULES["onecycle"]
    assert (onecycle(0.0), onecycle(0.3)) == pytest.approx((1 / 25, 1.0))


def test_the_moving_average_is_what_is_evaluated_and_kept():
    # SGD on a constant gradient would be simpler, but no loss of ours has one: follow the weights instead.
    seen = []

    class Recording(Scale):
        def operate(self, x, out_grid):
            if self.training:
                seen.append(self.weight.item())
            return super().operate(x, out_grid)

    data = pairs()
    config = TrainConfig(epochs=2, batch_size=8, ema=0.9, learning_rate=0.1, schedule="constant", warmup=0.0)
    model = Recording()
    result = fit(model, data, data, config=config)
    plain = fit(Scale(), data, config=TrainConfig(**{**config.to_dict(), "ema": 0.0}))
    after = [*seen[1:], plain.model.weight.item()]
    average, epochs = 0.5, []
    for step, weight in enumerate(after):
        decay = min(0.9, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weight
        epochs.append(average)
    assert model.weight.item() == pytest.approx(epochs[3 * result.best_epoch - 1], rel=1e-5)
    model.eval()
    error = opflow.metrics.relative_l2(model(data.tensors[0]), data.tensors[1]).mean().item()
    assert result.history[result.best_epoch - 1]["valid_l2"] == pytest.approx(error, rel=1e-5)


def test_patience_stops_and_the_best_weights_return():
    # The validation targets have the opposite sign: what training improves, validation loses.
    x = pairs().tensors[0]
    train, valid = TensorDataset(x, 2 * x), TensorDataset(x, -2 * x)
    config = TrainConfig(
        epochs=50, batch_size=20, patience=3, learning_rate=0.05, warmup=0.0, schedule="constant"
    )
    model = nn.Conv1d(1, 1, 1)
    result = fit(model, train, valid, config=config)
    assert (result.best_epoch, len(result.history)) == (1, 4)
    error = RelativeL2()(model(x), -2 * x).item()
    assert error == pytest.approx(result.history[0]["valid_l2"], rel=1e-6)


def test_a_time_budget_ends_the_run_and_the_schedule():
    config = TrainConfig(budget_seconds=0.4, batch_size=4, epochs=1)
    history = fit(convolution(), pairs(), config=config).history
    assert len(history) > 1
    assert 0.4 <= history[-1]["seconds"] < 1.0
    assert history[-1]["learning_rate"] < 0.05 * config.learning_rate


def test_double_precision_stays():
    x = torch.randn(8, 1, 8, dtype=torch.float64)
    model = convolution().double()
    result = fit(model, TensorDataset(x, 2 * x), config=TrainConfig(epochs=1))
    assert weights(result.model).dtype == torch.float64


def test_bf16_trains_close_to_full_precision():
    full, half = (
        fit(
            convolution(), pairs(), config=TrainConfig(epochs=5, batch_size=4, precision=precision, loss="l2")
        )
        for precision in ("fp32", "bf16")
    )
    assert weights(half.model).dtype == torch.float32
    assert half.history[-1]["train_loss"] == pytest.approx(full.history[-1]["train_loss"], rel=0.02)
    assert half.history[-1]["train_loss"] != full.history[-1]["train_loss"]


def test_recomputed_activations_change_nothing():
    class Blocks(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([convolution(1), convolution(2)])
            self.calls = 0

        def forward(self, x):
            self.calls += 1
            for block in self.blocks:
                x = block(x)
            return x

    models = [Blocks(), Blocks()]
    for model, recompute in zip(models, (False, True)):
        fit(model, pairs(), config=TrainConfig(epochs=2, checkpoint_activations=recompute))
    assert torch.equal(weights(models[0]), weights(models[1]))
    assert "forward" not in models[1].blocks[0].__dict__
    with pytest.raises(ValueError, match="ModuleList; Sequential has none"):
        fit(convolution(), pairs(), config=TrainConfig(checkpoint_activations=True))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
def test_compiled_training_is_the_same():
    eager, compiled = (
        fit(
            convolution(),
            pairs(),
            pairs(seed=1),
            config=TrainConfig(epochs=2, batch_size=10, compile=compile),
        )
        for compile in (False, True)
    )
    assert torch.allclose(weights(eager.model), weights(compiled.model), atol=1e-5)
    assert isinstance(compiled.model, nn.Sequential)


def test_the_normaliser_is_fitted_to_the_training_set():
    x = 5 + 3 * torch.randn(30, 2, 16)
    y = 1e4 + 1e2 * torch.randn(30, 1, 16)
    config = TrainConfig(epochs=1, learning_rate=1e-9)
    statistics = fit(Scale(2, 1), TensorDataset(x, y), config=config).model.normalizer
    assert torch.allclose(statistics.input_mean, x.double().mean((0, 2)).float())
    assert torch.allclose(statistics.input_std, x.double().std((0, 2), correction=0).float())
    assert torch.allclose(statistics.output_mean, y.double().mean().float())
    assert torch.allclose(statistics.output_std, y.double().std(correction=0).float())
    fitted = Scale(2, 1)
    fitted.normalizer.set([0.0, 0.0], [2.0, 2.0], [0.0], [1.0])
    assert fit(fitted, TensorDataset(x, y), config=config).model.normalizer.input_std.tolist() == [2.0, 2.0]


@pytest.mark.parametrize("horizon", [1, 3])
def test_increments_are_normalised_from_frame_to_frame(horizon):
    frames = torch.randn(4, 9, 2, 8).cumsum(1)
    data = pde_data.FieldDataset.from_arrays(trajectories=frames, dim=1, window=2, horizon=horizon)
    model = fit(Scale(4, 2), data, config=TrainConfig(epochs=1, predict="increment")).model
    x, y = data.gather(range(len(data)))
    stack = torch.cat((x[:, -2:], y), 1).unflatten(1, (-1, 2)).double().diff(dim=1)
    assert bool(model.normalizer.increment)
    assert torch.allclose(model.normalizer.output_mean, stack.mean((0, 1, 3)).float(), atol=1e-5)
    assert torch.allclose(model.normalizer.output_std, stack.std((0, 1, 3), correction=0).float(), rtol=1e-5)


def geometric(ratio=2.0, samples=3, frames=6):
    start = torch.rand(samples, 1, 8, generator=torch.Generator().manual_seed(0)) + 1
    return torch.stack([start * ratio**t for t in range(frames)], 1)


def unnormalised(weight):
    model = Scale(weight=weight)
    model.normalizer.set([0.0], [1.0], [1e-30], [1.0])  # fitted, and the identity in float32
    return model


@pytest.mark.parametrize("pushforward", [False, True])
def test_unrolled_losses_and_their_gradients(pushforward):
    # Truth doubles, the model multiplies by w: frame k has the error |(w/2)^k - 1|. Of its derivative
    # k (w/2)^(k-1) / 2 the pushforward trick keeps the last factor: (w/2)^(k-1) / 2.
    data = pde_data.FieldDataset.from_arrays(trajectories=geometric(), dim=1, horizon=3)
    model, rate, q = unnormalised(3.0), 1e-3, 1.5
    config = TrainConfig(
        epochs=1, batch_size=100, optimizer="sgd", weight_decay=0.0, schedule="constant", warmup=0.0,
        learning_rate=rate, clip_norm=0.0, loss="l2", pushforward=pushforward,
    )  # fmt: skip
    row = fit(model, data, config=config).history[0]
    errors = [q**k - 1 for k in (1, 2, 3)]
    slopes = [k * q ** (k - 1) / 2 for k in (1, 2, 3)]
    assert row["train_loss"] == pytest.approx(errors[2] if pushforward else sum(errors) / 3, rel=1e-5)
    gradient = q**2 / 2 if pushforward else sum(slopes) / 3
    # Nesterov momentum 0.9 makes the first step 1.9 times as long.
    assert 3.0 - model.weight.item() == pytest.approx(1.9 * rate * gradient, rel=1e-3)


def test_rollout_error_against_time():
    data = pde_data.FieldDataset.from_arrays(trajectories=geometric(), dim=1)
    config = TrainConfig(epochs=1, learning_rate=1e-9, rollout_steps=4)
    row = fit(unnormalised(3.0), data, data, config=config).history[0]
    assert row["valid_rollout_l2"] == pytest.approx([1.5**k - 1 for k in (1, 2, 3, 4)], rel=1e-4)
    longer = TrainConfig(epochs=1, learning_rate=1e-9, rollout_steps=100)
    assert len(fit(unnormalised(3.0), data, data, config=longer).history[0]["valid_rollout_l2"]) == 5


def test_noise_has_the_spread_asked_for():
    seen = []

    class Listening(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x):
            seen.append(x.detach())
            return self.weight * x

    x = torch.zeros(50, 2, 400)
    x[:, 0], x[:, 1] = torch.randn(50, 400), 1 + 100 * torch.randn(50, 400)
    fit(
        Listening(),
        TensorDataset(x, x),
        TensorDataset(x, x),
        config=TrainConfig(epochs=1, batch_size=50, noise=0.1),
    )
    probe, trained, validated = seen
    order = np.random.default_rng((0, 0)).permutation(50)
    noise = (trained - x[order]).std((0, 2)) / x.std((0, 2))
    assert noise.tolist() == pytest.approx([0.1, 0.1], rel=0.03)
    assert torch.equal(validated, x)


def test_test_sets_of_other_resolutions(tmp_path):
    test = {"8": pairs(seed=2), "16": pairs(points=16, seed=3)}
    result = fit(
        convolution(), pairs(), pairs(seed=1), config=TrainConfig(epochs=2), folder=tmp_path, test=test
    )
    for name, data in test.items():
        x, y = data.tensors
        assert result.test[name]["l2"] == pytest.approx(RelativeL2()(result.model(x), y).item(), rel=1e-5)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows[:-1] == result.history
    assert rows[-1]["test_16_l2"] == result.test["16"]["l2"]


def test_a_run_folder_is_a_model(tmp_path):
    data = pde_data.FieldDataset.from_arrays(trajectories=geometric(), dim=1)
    model = opflow.FNO(n_modes=(4,), in_channels=1, out_channels=1, hidden_channels=4, n_layers=2)
    config = TrainConfig(epochs=2, predict="increment", ema=0.5)
    trained = fit(model, data, data, config=config, folder=tmp_path).model
    x, _ = data.gather([0, 3])
    assert torch.equal(opflow.load(tmp_path).predict(x), trained.predict(x))
    described = json.loads((tmp_path / "config.json").read_text())
    assert described["class"] == "FNO"
    assert TrainConfig.from_dict(described["run"]) == config
    other = opflow.FNO(n_modes=(4,), in_channels=1, out_channels=1, hidden_channels=6, n_layers=2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="the saved weights are those of another model"):
        fit(other, data, data, config=config, folder=tmp_path, resume=True)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_trackers_see_the_numbers_of_each_epoch(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = TrainConfig(epochs=2, tracker="tensorboard")
    history = fit(convolution(), pairs(), config=config, folder=tmp_path).history
    (events,) = tmp_path.rglob("events.out.tfevents.*.0")
    read = accumulator.EventAccumulator(str(events)).Reload()
    assert [e.value for e in read.Scalars("train_loss")] == pytest.approx([r["train_loss"] for r in history])


def test_workers_read_the_same_batches():
    with_workers = fit(convolution(), pairs(), config=TrainConfig(epochs=2, batch_size=8, workers=1))
    without = fit(convolution(), pairs(), config=TrainConfig(epochs=2, batch_size=8))
    assert torch.equal(weights(with_workers.model), weights(without.model))


class Items(Dataset):
    """A data set of given items."""

    def __init__(self, *items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        return self.items[i]


@pytest.mark.parametrize(
    ("model", "data", "error", "words"),
    [
        (convolution(), Items(), ValueError, "the data set is empty"),
        (convolution(), Items(torch.ones(1, 8)), TypeError, r"pairs \(input, target\).*got Tensor"),
        (convolution(), TensorDataset(torch.ones(4, 1, 8)), TypeError, "got tuple of 1"),
        (
            convolution(),
            Items(*[(torch.ones(1, n), torch.ones(1, n)) for n in (8, 8, 16)]),
            ValueError,
            r"a batch mixes samples of shapes \(1, 8\), \(1, 16\); bring them to one grid",
        ),
        (Scale(2, 2), TensorDataset(torch.ones(4, 3, 8), torch.ones(4, 2, 8)), ValueError, "in_channels=2"),
        (
            Scale(2, 2),
            TensorDataset(torch.ones(4, 2, 8), torch.ones(4, 3, 8)),
            ValueError,
            "multiple of 2 channels",
        ),
        (
            Scale(3, 2),
            TensorDataset(torch.ones(4, 3, 8), torch.ones(4, 4, 8)),
            ValueError,
            "2 frames of 2 channels, but the 3 input channels are not whole frames",
        ),
        (
            convolution(),
            TensorDataset(torch.ones(4, 1, 8), torch.full((4, 1, 8), torch.nan)),
            FloatingPointError,
            "not finite any more at step 1 .*lower learning_rate",
        ),
        (nn.Conv1d(1, 1, 1).requires_grad_(False), pairs(), ValueError, "no parameter to train"),
    ],
)
def test_bad_data_is_refused(model, data, error, words):
    with pytest.raises(error, match=words):
        fit(model, data, config=TrainConfig(epochs=1))


def test_divergence_stops_the_run():
    config = TrainConfig(epochs=1000, optimizer="sgd", learning_rate=1e30, clip_norm=0.0, loss="l2")
    with pytest.raises(FloatingPointError, match=r"epoch \d+, learning rate .*e\+"):
        fit(convolution(), pairs(), config=config)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"warmup": 1.0}, r"warmup must be in \[0, 1\)"),
        ({"noise": -1.0}, "noise must not be negative"),
        ({"schedule": "linear"}, "schedule must be one of cosine, onecycle, step, constant, got 'linear'"),
    ],
)
def test_bad_configurations_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        TrainConfig(**values)
    with pytest.raises(ValueError, match="has no field epoch; it has epochs, "):
        TrainConfig.from_dict({"epoch": 3})


def test_the_configuration_survives_json():
    config = TrainConfig(epochs=7, tracker="tensorboard", predict="increment", compile=True)
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("values", "valid", "words"),
    [
        ({"patience": 3}, None, "patience=3 waits for a better validation error, but there are no"),
        ({"rollout_steps": 2}, None, r"rollout_steps=2 needs trajectories as validation data.*there is none"),
        ({"rollout_steps": 2}, pairs(), "there is a TensorDataset without time; set rollout_steps=0"),
    ],
)
def test_validation_data_that_are_asked_for_must_be_there(tmp_path, values, valid, words):
    with pytest.raises(ValueError, match=words):
        fit(convolution(), pairs(), valid, config=TrainConfig(epochs=1, **values), folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_modes_that_the_data_cannot_train_are_refused():
    x = torch.randn(4, 1, 8, 6, generator=torch.Generator().manual_seed(0))
    data, config = TensorDataset(x, 2 * x), TrainConfig(epochs=1)
    model = opflow.FNO((8, 8), 1, 1, 4, n_layers=1)
    with pytest.raises(
        ValueError, match=r"n_modes=\(8, 8\).*\(8, 6\) points.*build it with n_modes=\(8, 6\)"
    ):
        fit(model, data, config=config)
    fit(opflow.FNO((8, 6), 1, 1, 4, n_layers=1), data, config=config)
    # Padding makes the fields that the modes see as large as that.
    fit(opflow.FNO((8, 8), 1, 1, 4, n_layers=1, domain_padding=0.25), data, config=config)
