"""Normalisation: exact inverses, physical units, increments on any grid, errors."""

import pytest
import torch

from opflow import FNO
from opflow.nn import Normalizer

MEAN, STD = [3.0, -1.0, 0.5], [2.0, 0.25, 10.0]


def fitted(increment=False):
    normalizer = Normalizer(3, 2).double()
    normalizer.set(MEAN, STD, [1.0, 2.0], [5.0, 0.5], increment=increment)
    return normalizer


def test_given_statistics_become_zero_mean_and_unit_variance():
    torch.manual_seed(0)
    x = torch.randn(8, 3, 32, 31, dtype=torch.float64)
    x = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)
    raw = x * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    z = fitted().normalize(raw)
    torch.testing.assert_close(z, x, rtol=0, atol=1e-13)


@pytest.mark.parametrize("space", [(7,), (4, 9), (2, 3, 5)])
def test_denormalize_inverts_what_the_targets_were_standardised_by(space):
    normalizer = fitted()
    y = torch.randn(2, 2, *space, dtype=torch.float64)
    shape = (2, *(1,) * len(space))
    standard = (y - normalizer.output_mean.view(shape)) / normalizer.output_std.view(shape)
    torch.testing.assert_close(normalizer.denormalize(standard, torch.randn_like(y)), y, rtol=0, atol=1e-13)


def test_increments_add_the_last_frame():
    y, last = torch.randn(2, 2, 4, dtype=torch.float64), torch.randn(2, 2, 4, dtype=torch.float64)
    plain, increment = fitted(), fitted(increment=True)
    torch.testing.assert_close(
        increment.denormalize(y, last), plain.denormalize(y, last) + last, rtol=0, atol=0
    )


def test_an_unfitted_normalizer_is_the_identity():
    normalizer = Normalizer(2, 2)
    x = torch.randn(1, 2, 5)
    assert not normalizer.fitted and fitted().fitted
    assert torch.equal(normalizer.normalize(x), x) and torch.equal(normalizer.denormalize(x, 7 * x), x)


@pytest.mark.parametrize("grid, out_grid", [((8, 8), (12, 9)), ((8, 9), (8, 9)), ((9, 12), (6, 12))])
def test_an_increment_model_that_learned_nothing_is_persistence_on_any_grid(grid, out_grid):
    model = FNO((4, 4), 3, 2, 4, n_layers=1).double()
    for p in model.projection.second.parameters():
        p.data.zero_()
    model.normalizer.set(MEAN, STD, [0.0, 0.0], [5.0, 0.5], increment=True)

    def wave(h, w):
        y, x = torch.meshgrid(torch.arange(h) / h, torch.arange(w) / w, indexing="ij")
        modes = [
            torch.sin(2 * torch.pi * (x + y)),
            1 + torch.cos(2 * torch.pi * y),
            torch.cos(4 * torch.pi * x),
        ]
        return torch.stack(modes)[None].double()

    y = model(wave(*grid), out_grid=out_grid)
    torch.testing.assert_close(y, wave(*out_grid)[:, 1:], rtol=0, atol=1e-6)


def test_normalisation_commutes_with_units():
    """The same field in other units, with statistics in those units, gives the same prediction."""
    torch.manual_seed(0)
    model, x = FNO((4,), 3, 2, 4, n_layers=1).double(), torch.randn(2, 3, 9, dtype=torch.float64)
    model.normalizer.set(MEAN, STD, [1.0, 2.0], [5.0, 0.5])
    y = model(x)
    scale, unit = torch.tensor([10.0, 0.1, 3.0]), torch.tensor([100.0, 7.0])
    model.normalizer.set(
        scale * torch.tensor(MEAN),
        scale * torch.tensor(STD),
        unit * torch.tensor([1.0, 2.0]),
        unit * torch.tensor([5.0, 0.5]),
    )
    again = model(x * scale.view(3, 1))
    torch.testing.assert_close(again, y * unit.view(2, 1), rtol=1e-6, atol=1e-6)


def test_a_constant_channel_is_not_divided_by_zero():
    normalizer = Normalizer(1, 1)
    normalizer.set([4.0], [0.0], [4.0], [0.0])
    assert torch.equal(normalizer.normalize(torch.full((1, 1, 3), 4.0)), torch.zeros(1, 1, 3))


def test_statistics_follow_the_model():
    model = FNO((4,), 3, 2, 4, n_layers=1)
    model.normalizer.set(MEAN, STD, [1.0, 2.0], [5.0, 0.5], increment=True)
    other = FNO((4,), 3, 2, 4, n_layers=1)
    other.load_state_dict(model.state_dict())
    x = torch.randn(1, 3, 8)
    assert torch.equal(other(x), model(x)) and other.normalizer.fitted
    assert model.double().normalizer.input_mean.dtype == torch.float64
    assert not any("normalizer" in name for name, _ in model.named_parameters())


def test_errors_name_the_channel_counts_and_values():
    normalizer = Normalizer(1, 2)
    with pytest.raises(ValueError, match="increments of 2 output channels from 1 input channels"):
        normalizer.set([0.0], [1.0], [0.0, 0.0], [1.0, 1.0], increment=True)
    with pytest.raises(ValueError, match="input_std needs one number per channel, 1, got 3"):
        normalizer.set([0.0], [1.0, 1.0, 1.0], [0.0, 0.0], [1.0, 1.0])
    with pytest.raises(ValueError, match=r"output_mean holds a value that is not finite: \[0.0, nan\]"):
        normalizer.set([0.0], [1.0], [0.0, float("nan")], [1.0, 1.0])
