"""Resumed runs equal undisturbed ones, bit for bit."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import TensorDataset

from opflow.training import RelativeL2, TrainConfig, fit


class Stopped(Exception):
    """Stands in for a kill."""


class StopAt:
    """The relative L2 loss, until its call number `calls`."""

    __name__ = "l2-until-stopped"

    def __init__(self, calls=None):
        self.calls, self.loss = calls, RelativeL2()

    def __call__(self, prediction, target):
        if self.calls == 0:
            raise Stopped
        self.calls = None if self.calls is None else self.calls - 1
        return self.loss(prediction, target)


class Complex(nn.Module):
    """Real and complex weights, a buffer that moves, dropout: everything that a state may hold."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.spectral = nn.Parameter(torch.randn(1, 4, 5, dtype=torch.complex64))
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.2)
        self.out = nn.Conv1d(4, 1, 1)

    def forward(self, x):
        x = torch.fft.irfft(torch.fft.rfft(x) * self.spectral, n=8)
        return self.out(self.drop(self.norm(x)))


def pairs(seed=0, n=20):
    x = torch.randn(n, 1, 8, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, x.roll(1, 2) * 2 + 0.3)


def run(folder, config, calls=None, model=None):
    model = model or Complex()
    torch.manual_seed(99)  # what a program did before must not matter
    return fit(model, pairs(), pairs(1, 7), loss=StopAt(calls), config=config, folder=folder, resume=True)


def state(folder):
    tensors = load_file(folder / "last" / "state.safetensors")
    return tensors | {f"best.{k}": v for k, v in load_file(folder / "model.safetensors").items()}


def assert_same(first, second):
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


# An epoch calls the loss three times in training and once in validation: 7 stops in an epoch, 8 between
# epochs, 11 in a validation.
@pytest.mark.parametrize("calls", [1, 7, 8, 11])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(tmp_path, calls, optimizer):
    config = TrainConfig(epochs=4, batch_size=8, optimizer=optimizer, ema=0.9, noise=0.1, save_seconds=0.0)
    whole = run(tmp_path / "whole", config)
    with pytest.raises(Stopped):
        run(tmp_path / "parts", config, calls)
    parts = run(tmp_path / "parts", config)
    assert_same(state(tmp_path / "whole"), state(tmp_path / "parts"))
    assert_same(dict(whole.model.state_dict()), dict(parts.model.state_dict()))
    for one, other in zip(whole.history, parts.history, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_epochs_after_the_last_save_are_repeated_not_logged_twice(tmp_path):
    config = TrainConfig(epochs=3, batch_size=8, save_seconds=1e9)
    with pytest.raises(Stopped):
        run(tmp_path, config, calls=9)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "ste')  # a row cut off
    run(tmp_path, config)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]


def test_more_epochs(tmp_path):
    # With a constant learning rate, 2 epochs and 2 more are 4; other schedules stretch over the new total.
    options = {"batch_size": 8, "schedule": "constant", "warmup": 0.0}
    run(tmp_path / "parts", TrainConfig(epochs=2, **options))
    run(tmp_path / "parts", TrainConfig(epochs=4, **options))
    run(tmp_path / "whole", TrainConfig(epochs=4, **options))
    assert_same(state(tmp_path / "whole"), state(tmp_path / "parts"))
    options["schedule"] = "cosine"
    run(tmp_path / "cosine", TrainConfig(epochs=2, **options))
    history = run(tmp_path / "cosine", TrainConfig(epochs=4, **options)).history
    assert history[2]["learning_rate"] > history[1]["learning_rate"]
    assert len(history) == 4


def test_a_finished_run_stays_as_it_is(tmp_path):
    config = TrainConfig(epochs=2, batch_size=8)
    first = run(tmp_path, config)
    again = run(tmp_path, config)
    assert again.history == first.history
    assert_same(dict(first.model.state_dict()), dict(again.model.state_dict()))


def test_folders_that_cannot_be_resumed_are_refused(tmp_path):
    config = TrainConfig(epochs=1, batch_size=8)
    run(tmp_path, config)
    with pytest.raises(ValueError, match="holds a run already; pass resume=True"):
        fit(Complex(), pairs(), config=config, folder=tmp_path)
    with pytest.raises(ValueError, match=r"batch_size was 8, now 4\); only epochs, .* may change"):
        run(tmp_path, TrainConfig(epochs=1, batch_size=4))
    with pytest.raises(ValueError, match="another model"):
        run(tmp_path, config, model=nn.Conv1d(1, 1, 3, padding=1))

    path = tmp_path / "last" / "state.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"state\.safetensors is truncated or was not written by opflow"):
        run(tmp_path, config)
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="was not written by opflow"):
        run(tmp_path, config)

    torch.save({"weight": torch.zeros(3)}, tmp_path / "last" / "state.pt")
    with pytest.raises(ValueError, match=r"holds last/state\.pt: pickles, which can run any code"):
        run(tmp_path, config)


def test_no_temporary_files_are_left(tmp_path):
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    (tmp_path / "last").mkdir()
    (tmp_path / "last" / f".state.safetensors.{killed.pid}.tmp").write_bytes(b"half")
    run(tmp_path, TrainConfig(epochs=2, batch_size=8, save_seconds=0.0))
    files = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    expected = {"config.json", "env.json", "metrics.jsonl", "model.safetensors", "last/state.safetensors"}
    assert files == expected
