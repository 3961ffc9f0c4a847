"""Complex weights and complex fields through training, saving and prediction."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import opflow
from opflow.operators.base import Operator
from opflow.training import TrainConfig, fit


@pytest.mark.parametrize("name", ["FNO", "neuralop:FNO"])
@pytest.mark.parametrize("factorization", [None, "cp"])
def test_complex_weights_are_read_back_from_a_run(tmp_path, name, factorization):
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    data = TensorDataset(x, 2 * x)
    options = {"n_modes": (4, 4), "hidden_channels": 4, "n_layers": 1, "factorization": factorization}
    config = TrainConfig(epochs=1, optimizer="adam", ema=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # neuraloperator's own
        model = opflow.build(name, in_channels=1, out_channels=1, rank=0.5, **options)
        trained = fit(model, data, data, config=config, folder=tmp_path).model
        assert torch.equal(opflow.load(tmp_path).predict(x), trained.predict(x))
        again = opflow.build(name, in_channels=1, out_channels=1, rank=0.5, **options)
        longer = fit(again, data, data, config=replace(config, epochs=2), folder=tmp_path, resume=True)
        assert len(longer.history) == 2
        assert torch.equal(opflow.load(tmp_path).predict(x), longer.model.predict(x))


class Turn(Operator):
    """u -> w u with one complex weight."""

    def __init__(self):
        super().__init__(1, 1, 1)
        self.config = {}
        self.weight = nn.Parameter(torch.tensor([1.0, 0.0]))

    def operate(self, x, out_grid):
        return torch.view_as_complex(self.weight) * x


@pytest.mark.parametrize("dtype", [torch.complex64, torch.complex128])
def test_complex_fields_stay_complex(dtype):
    x = torch.randn(20, 1, 8, dtype=dtype, generator=torch.Generator().manual_seed(0)) + (3 + 1j)
    data, model = TensorDataset(x, 2j * x), Turn()
    if dtype == torch.complex128:
        model.double()
    config = TrainConfig(epochs=100, batch_size=10, learning_rate=0.05, schedule="onecycle", weight_decay=0.0)
    result = fit(model, data, data, config=config)
    # Normalised by the root mean square alone, the map that is left is the rotation by i.
    statistics = model.normalizer
    assert statistics.input_mean.abs() < 1e-6 and statistics.output_mean.abs() < 1e-6
    assert statistics.input_std.item() == pytest.approx(x.abs().square().mean().sqrt().item(), rel=1e-5)
    assert model.weight.tolist() == pytest.approx([0.0, 1.0], abs=1e-3)
    assert model.predict(x).dtype == dtype
    torch.testing.assert_close(model.predict(x), 2j * x, rtol=1e-2, atol=1e-2)
    assert result.history[-1]["valid_l2"] < 1e-2


def test_complex_operators_predict_what_they_compute():
    model = opflow.FNO((4,), 1, 1, 4, n_layers=1, complex_data=True)
    x = torch.randn(3, 1, 9, dtype=torch.complex64)
    with torch.no_grad():
        expected = model(x)
    assert torch.equal(model.predict(x), expected)
    torch.testing.assert_close(model.predict(x.to(torch.complex128).numpy()), expected)
    torch.testing.assert_close(model.predict(x[0]), expected[0])
    config = TrainConfig(epochs=20, learning_rate=1e-2, schedule="constant")
    losses = [row["train_loss"] for row in fit(model, TensorDataset(x, 1j * x), config=config).history]
    assert losses[-1] < 0.9 * losses[0]
