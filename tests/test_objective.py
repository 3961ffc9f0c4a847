"""What the training objective does to a batch before the loss."""

import pytest
import torch
from torch import nn

from opflow.training import RelativeL2
from opflow.training.objective import Objective


def test_transposition_takes_input_and_target_together():
    x = torch.randn(64, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    asymmetric = nn.Conv2d(1, 1, (3, 1), padding=(1, 0), bias=False)
    with torch.no_grad():
        same = Objective(nn.Identity(), RelativeL2(), 1, transpose=True).train()(x, x)
        image = Objective(asymmetric, RelativeL2(), 1).train()(x, asymmetric(x))
        moved = Objective(asymmetric, RelativeL2(), 1, transpose=True).train()(x, asymmetric(x))
    assert same == 0 and image == 0
    # Half of the samples are exchanged: for those, and only those, this map no longer fits.
    assert 0.1 < moved


def test_transposition_exchanges_about_half_and_only_in_training():
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(x)
            return x

    x = torch.arange(9.0).view(1, 1, 3, 3).repeat(400, 1, 1, 1)
    objective = Objective(Spy(), RelativeL2(), 1, transpose=True)
    torch.manual_seed(0)
    objective.train()(x, x)
    objective.eval()(x, x)
    exchanged = (seen[0] == x.mT).flatten(1).all(1)
    kept = (seen[0] == x).flatten(1).all(1)
    assert (exchanged ^ kept).all()
    assert 140 < exchanged.sum() < 260
    assert torch.equal(seen[1], x)


def test_transposition_wants_a_square():
    objective = Objective(nn.Identity(), RelativeL2(), 1, transpose=True).train()
    with pytest.raises(ValueError, match=r"two space axes of equal size, got inputs of shape \(2, 1, 4, 6\)"):
        objective(torch.ones(2, 1, 4, 6), torch.ones(2, 1, 4, 6))
