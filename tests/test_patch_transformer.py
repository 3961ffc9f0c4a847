"""The patch transformer: against torch's own layers, rotary positions, symmetry."""

import pytest
import torch
from torch import nn

from opflow import PatchTransformer
from opflow.nn.transformer import TransformerLayer, grid_angles, turn


def doubles(*shape):
    return torch.randn(shape, dtype=torch.float64)


def model(n_dim=2, **options):
    torch.manual_seed(0)
    sizes = dict(patch=4, hidden_channels=24, n_layers=2, heads=2)
    return PatchTransformer(2, 1, n_dim, **(sizes | options)).double()


def test_layers_without_positions_are_those_of_torch():
    layer = TransformerLayer(16, heads=4).double()
    theirs = nn.TransformerEncoderLayer(
        16, 4, 64, dropout=0, activation="gelu", norm_first=True, batch_first=True, dtype=torch.float64
    )
    names = {"self_attn.in_proj_": "qkv.", "self_attn.out_proj.": "out.", "linear1.": "mlp.first."}
    names |= {"linear2.": "mlp.second.", "norm1.": "norm1.", "norm2.": "norm2."}
    own = layer.state_dict()
    theirs.load_state_dict({a + k: own[b + k] for a, b in names.items() for k in ("weight", "bias")})
    u = doubles(3, 10, 16)
    torch.testing.assert_close(layer(u, torch.zeros(10, 2).double()), theirs(u), rtol=0, atol=1e-12)


def test_products_of_turned_vectors_depend_on_differences_alone():
    q, k = doubles(1, 11), doubles(1, 11)
    a, b, c = doubles(5), doubles(5), doubles(5)
    product = (turn(q, a) * turn(k, b)).sum()
    torch.testing.assert_close((turn(q, a + c) * turn(k, b + c)).sum(), product, rtol=0, atol=1e-12)
    torch.testing.assert_close(turn(q, a).norm(), q.norm())
    assert abs((turn(q, a) * turn(k, b + c)).sum() - product) > 1e-3


def test_periodic_angles_return_after_a_period_and_others_do_not():
    at = torch.tensor([0.25, 1.25], dtype=torch.float64)
    periodic, other = (grid_angles([at], 3, circular) for circular in (True, False))
    torch.testing.assert_close(periodic[0].cos(), periodic[1].cos(), rtol=0, atol=1e-12)
    torch.testing.assert_close(periodic[0].sin(), periodic[1].sin(), rtol=0, atol=1e-12)
    assert (other[0].cos() - other[1].cos()).abs().max() > 0.1
    grid = grid_angles([at, at * 2], 3, True)
    assert grid.shape == (4, 6)
    torch.testing.assert_close(grid[1], torch.cat([periodic[0], 2 * periodic[1]]))


@pytest.mark.parametrize("grid", [(16,), (8, 12), (4, 8, 12)])
def test_periodic_ones_commute_with_shifts_by_patches(grid):
    transformer, x = model(len(grid), circular=True), doubles(2, 2, *grid)
    axes = tuple(range(2, x.ndim))
    y = transformer(x)
    for shifts, equal in (((4, 8, 4), True), ((1, 1, 1), False)):
        shifts = shifts[: len(grid)]
        again = transformer(x.roll(shifts, axes)).roll(tuple(-s for s in shifts), axes)
        assert ((again - y).abs().max() <= 1e-11) == equal
    walls = model(len(grid))
    again = walls(x.roll(4, -1)).roll(-4, -1)
    assert (again - walls(x)).abs().max() > 1e-4


def test_a_grid_of_whole_patches_is_neither_filled_up_nor_cut():
    """Patches are then cut out, mapped and put back: with one patch, no attention has anywhere to look."""
    transformer, x = model(n_layers=1), doubles(1, 2, 4, 4)
    near = torch.autograd.functional.jacobian(transformer, x)
    assert near.abs().min() > 0  # all points of a patch see all
    transformer, x = model(n_layers=1), doubles(1, 2, 4, 8)
    for p in (transformer.layers[0].out.weight, transformer.layers[0].out.bias):
        p.data.zero_()
    far = torch.autograd.functional.jacobian(transformer, x)[0, 0, :, :4, 0, :, :, 4:]
    assert (far == 0).all()


@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (4, 9)])
def test_other_grids_are_filled_up_and_cut(grid):
    for circular in (False, True):
        y = model(circular=circular)(doubles(2, 2, *grid))
        assert y.shape == (2, 1, *grid) and y.isfinite().all()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"patch": 0}, "patch must be at least 1, got 0"),
        ({"n_dim": 0}, "n_dim must be 1, 2 or 3, got 0"),
        ({"heads": 5}, "hidden_channels=24 must be a multiple of heads=5, and at least 4 times as many"),
        ({"heads": 8}, "hidden_channels=24 must be a multiple of heads=8, and at least 4 times as many"),
    ],
)
def test_sizes_that_do_not_fit_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        model(**options)


def test_another_output_grid_is_refused():
    with pytest.raises(ValueError, match=r"PatchTransformer is evaluated on the grid of its input, \(8, 8\)"):
        model()(doubles(1, 2, 8, 8), out_grid=(16, 16))
