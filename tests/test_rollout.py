"""Rollouts of models whose every step is known."""

import pytest
import torch
from torch import nn

from opflow import rollout


class Fibonacci(nn.Module):
    """The next frame is the sum of the last two, for two fields at once."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * (x[:, :2] + x[:, 2:])


def test_a_window_of_frames_slides():
    x0 = torch.tensor([1.0, 10.0, 1.0, 20.0]).reshape(1, 4, 1, 1).expand(3, 4, 5, 6)
    frames = rollout(Fibonacci(), x0, steps=5)
    assert frames.shape == (3, 5, 2, 5, 6)
    assert frames[1, :, 0, 2, 3].tolist() == [2, 3, 5, 8, 13]
    assert frames[2, :, 1, 0, 0].tolist() == [30, 50, 80, 130, 210]
    assert torch.equal(rollout(Fibonacci(), x0, steps=5, batch_size=2), frames)


def test_gradients_flow_through_all_steps_when_asked():
    model, x0 = Fibonacci(), torch.ones(1, 4, 3)
    assert not rollout(model, x0, 3).requires_grad
    # 2s, s(1 + 2s), s(2s + s + 2s^2): the derivative of the last at s = 1 is 12.
    rollout(model, x0, 3, grad=True)[0, -1, 0, 0].backward()
    assert model.scale.grad.item() == pytest.approx(12.0)


def test_the_model_is_evaluated_and_its_mode_comes_back():
    model = nn.Sequential(nn.Dropout(0.5)).train()
    assert torch.equal(rollout(model, torch.ones(1, 1, 4), 2), torch.ones(1, 2, 1, 4))
    assert model.training


@pytest.mark.parametrize(
    ("model", "x0", "options", "words"),
    [
        (nn.Conv1d(3, 2, 1), torch.ones(1, 3, 4), {"steps": 2}, r"maps \(1, 3, 4\) to \(1, 2, 4\).*window"),
        (nn.AvgPool1d(2), torch.ones(1, 1, 4), {"steps": 2}, "on one grid"),
        (nn.Identity(), torch.ones(1, 1, 4), {"steps": 0}, "at least one step, got steps=0"),
        (nn.Identity(), torch.ones(1, 1, 4), {"steps": 1, "batch_size": 0}, "batch_size must be at least 1"),
    ],
)
def test_what_cannot_be_rolled_out_is_refused(model, x0, options, words):
    with pytest.raises(ValueError, match=words):
        rollout(model, x0, **options)
