"""Losses against closed forms, the metrics of the package and neuraloperator's."""

import math

import pytest
import torch
from neuralop.losses import H1Loss, LpLoss

import pde_data
from opflow.metrics import relative_h1, relative_l2
from opflow.training import RelativeH1, RelativeL2
from opflow.training.losses import make_loss

SHAPES = [(3, 2, 17), (2, 3, 12, 20), (1, 2, 8, 6, 10)]


def fields(shape, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2)]


@pytest.mark.parametrize("shape", SHAPES)
def test_losses_are_the_means_of_the_metrics(shape):
    prediction, target = fields(shape)
    assert torch.allclose(
        RelativeL2()(prediction, target), relative_l2(prediction, target).mean(), rtol=1e-12
    )
    for periodic in (True, False):
        metric = relative_h1(prediction, target, periodic=periodic).mean()
        assert torch.allclose(RelativeH1(periodic=periodic)(prediction, target), metric, rtol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
def test_neuraloperator_sums_the_same_ratios(shape):
    prediction, target = fields(shape)
    n_dim, ratios = len(shape) - 2, shape[0] * shape[1]
    theirs = LpLoss(d=n_dim, p=2).rel(prediction, target) / ratios
    assert torch.allclose(RelativeL2()(prediction, target), theirs, rtol=1e-6)
    theirs = H1Loss(d=n_dim).rel(prediction, target, quadrature=[1 / n for n in shape[2:]]) / ratios
    assert torch.allclose(RelativeH1()(prediction, target), theirs, rtol=1e-6)


def test_h1_of_sines_has_the_symbol_of_the_central_difference():
    n, length, epsilon, k = 48, 3.0, 0.1, 5
    x = torch.arange(n, dtype=torch.float64) / n
    target = torch.sin(2 * torch.pi * x).reshape(1, 1, n)
    prediction = target + epsilon * torch.sin(2 * torch.pi * k * x).reshape(1, 1, n)

    def slope(mode):
        return math.sin(2 * math.pi * mode / n) / (length / n)

    expected = epsilon * math.sqrt((1 + slope(k) ** 2) / (1 + slope(1) ** 2))
    assert float(RelativeH1(lengths=length)(prediction, target)) == pytest.approx(expected, rel=1e-12)


def test_h1_on_a_bounded_axis_converges_with_second_order():
    # e = x^2 and y = exp(x) on [0, 1], cells: |e|^2 = 1/5 + 4/3, |y|^2 = e^2 - 1.
    exact = math.sqrt((1 / 5 + 4 / 3) / (math.exp(2) - 1))
    errors = []
    for n in (32, 64, 128):
        x = ((torch.arange(n, dtype=torch.float64) + 0.5) / n).reshape(1, 1, n)
        errors.append(abs(float(RelativeH1(periodic=False)(x.exp() + x**2, x.exp())) - exact))
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:])]
    assert all(abs(order - 2) < 0.1 for order in orders)


def test_h1_takes_box_and_boundaries_from_the_grid_of_the_data():
    grid = pde_data.Grid((9, 12), lengths=(2.0, 3.0), periodic=(False, True), location="node")
    data = pde_data.FieldDataset.from_arrays(
        inputs=torch.zeros(2, 9, 12), targets=torch.ones(2, 9, 12), grid=grid
    )
    prediction, target = fields((2, 1, 9, 12))
    expected = relative_h1(prediction, target, spacing=(2 / 8, 3 / 12), periodic=(False, True)).mean()
    assert torch.allclose(make_loss("h1", data)(prediction, target), expected, rtol=1e-12)


@pytest.mark.parametrize("loss", [RelativeL2(), RelativeH1()])
def test_units_do_not_matter(loss):
    prediction, target = fields((2, 2, 8, 8))
    scale = torch.tensor([1e-9, 1e9], dtype=torch.float64).reshape(1, 2, 1, 1)
    assert torch.allclose(loss(scale * prediction, scale * target), loss(prediction, target), rtol=1e-12)


@pytest.mark.parametrize("loss", [RelativeL2(), RelativeH1(), RelativeH1(periodic=False)])
@pytest.mark.parametrize("shape", [(2, 2, 7), (2, 1, 5, 4), (1, 1, 3, 4, 5)])
def test_gradients(loss, shape):
    prediction, target = fields(shape)
    assert torch.autograd.gradcheck(lambda p: loss(p, target), prediction.requires_grad_())
    assert torch.autograd.gradcheck(lambda p: loss(p, 0 * target), prediction)
    perfect = target.clone().requires_grad_()
    loss(perfect, target).backward()
    assert torch.equal(perfect.grad, torch.zeros(shape, dtype=perfect.dtype))
    with pytest.raises(ValueError, match="detach the target"):
        loss(target, perfect)


def test_a_vanishing_target_counts_the_absolute_error():
    prediction = torch.full((1, 2, 4), 0.5)
    target = torch.stack((torch.zeros(4), torch.ones(4)))[None]
    assert float(RelativeL2()(prediction, target)) == pytest.approx((1.0 + 0.5) / 2)


def test_wrong_number_of_axes_and_unknown_names():
    with pytest.raises(ValueError, match=r"one entry per space axis, got a field of shape \(1, 1, 8\)"):
        RelativeH1(lengths=(1.0, 1.0))(torch.ones(1, 1, 8), torch.ones(1, 1, 8))
    with pytest.raises(ValueError, match="no loss 'h2'; choose one of l2, h1"):
        make_loss("h2")
