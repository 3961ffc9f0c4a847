"""Models of neuraloperator as baselines: built by name, trained, saved and read back by our pipeline."""

import warnings

import pytest
import torch
from torch.utils.data import TensorDataset

import opflow

COMMON = dict(in_channels=1, out_channels=1, hidden_channels=8)
MODELS = {
    "FNO": dict(n_modes=[4, 4], n_layers=1, **COMMON),
    "TFNO": dict(n_modes=[4, 4], n_layers=1, factorization="tucker", rank=0.5, **COMMON),
    "UNO": dict(
        n_layers=3,
        channel_mlp_skip="linear",  # its default refuses the horizontal skips of its own layers
        uno_out_channels=[8, 8, 8],
        uno_n_modes=[[4, 4], [4, 4], [4, 4]],
        uno_scalings=[[1, 1], [0.5, 0.5], [2, 2]],
        **COMMON,
    ),
    "LocalNO": dict(n_modes=[4, 4], n_layers=1, default_in_shape=[16, 16], **COMMON),
}


def build(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # neuraloperator's own
        torch.manual_seed(0)
        try:
            return opflow.build(f"neuralop:{name}", **MODELS[name])
        except ValueError as error:
            if "has no model" in str(error):
                pytest.skip(f"neuraloperator {name} needs torch-harmonics: {error}")
            raise


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore")  # neuraloperator's own
def test_two_steps_lower_the_loss_and_the_saved_model_is_the_trained_one(name, tmp_path):
    model = build(name)
    x = torch.randn(4, 1, 16, 16)
    pairs = TensorDataset(x, 2 * x.roll(1, -1) + 0.5)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    config = opflow.TrainConfig(epochs=2, batch_size=4, learning_rate=3e-3, schedule="constant")
    result = opflow.fit(model, pairs, config=config, folder=tmp_path / "run")
    losses = [record["train_loss"] for record in result.history]
    assert len(losses) == 2 and losses[1] < losses[0]
    assert any(not torch.equal(v, before[k]) for k, v in model.state_dict().items())
    again = opflow.load(tmp_path / "run")
    assert torch.equal(again.predict(x), model.predict(x))
