"""Differential kernels: analytic derivatives, orders of convergence, units, symmetry, derivatives."""

import itertools
import math

import pytest
import torch

from opflow.nn.differential import DifferentialConv, derivatives


def layer_of(alpha, **options):
    """The operator that is one derivative."""
    layer = DifferentialConv(1, 1, n_dim=len(alpha), **options).double()
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, 0, layer.derivatives.index(alpha)] = 1.0
    return layer


def points(grid, lengths, periodic):
    axes = [
        torch.arange(n, dtype=torch.float64) * (length / (n if wraps else n - 1))
        for n, length, wraps in zip(grid, lengths, periodic)
    ]
    return torch.meshgrid(*axes, indexing="ij")


def wave(order, t):
    """A derivative of sin(t + 0.3)."""
    return torch.sin(t + 0.3 + order * math.pi / 2)


def error(alpha, grid, lengths, periodic, **options):
    """Largest error of a derivative of a product of waves, and the largest value."""
    x = points(grid, lengths, periodic)
    wavenumbers = [2 * math.pi * (1 + axis) / length for axis, length in enumerate(lengths)]
    u, exact = torch.ones(grid, dtype=torch.float64), torch.ones(grid, dtype=torch.float64)
    for order, k, t in zip(alpha, wavenumbers, x):
        u, exact = u * wave(0, k * t), exact * k**order * wave(order, k * t)
    layer = layer_of(alpha, domain_length=lengths, periodic=periodic, **options)
    y = layer(u[None, None])[0, 0]
    return ((y - exact).abs().max() / exact.abs().max()).item()


CASES = [
    *((alpha, 3, 2) for alpha in derivatives(2, 2)),
    *((alpha, 5, 2) for alpha in derivatives(2, 2)),
    ((3, 0), 5, 3),
    ((2, 1), 5, 3),
    ((0, 4), 5, 4),
    ((1, 0), 7, 2),
]


@pytest.mark.parametrize("periodic", [(True, True), (False, False), (True, False)])
@pytest.mark.parametrize("alpha, size, order", CASES)
def test_derivatives_converge_at_the_stated_order(alpha, size, order, periodic):
    """On cells of aspect ratio 3, odd by even; the largest error counts, boundaries included."""
    lengths, grids = (1.0, 2.0), ((41, 28), (81, 56), (161, 112))
    options = dict(kernel_size=size, order=order)
    errors = [error(alpha, grid, lengths, periodic, **options) for grid in grids]
    expected = min(size - 1 - 2 * ((m - 1) // 2) for m in alpha if m)
    measured = math.log2(errors[-2] / errors[-1])
    assert measured > expected - 0.3, (errors, expected)
    assert errors[-1] < 0.05


@pytest.mark.parametrize("n_dim", [1, 3])
def test_other_dimensions(n_dim):
    for alpha in derivatives(n_dim, 2):
        grids = [(17, 20, 24)[:n_dim], (34, 40, 48)[:n_dim]]
        for periodic in ((True,) * n_dim, (False,) * n_dim):
            coarse, fine = (error(alpha, g, (1.0, 2.0, 3.0)[:n_dim], periodic) for g in grids)
            assert math.log2(coarse / fine) > 1.6


@pytest.mark.parametrize("size", [3, 5])
def test_polynomials_are_differentiated_exactly_up_to_the_boundary(size):
    for alpha in derivatives(2, 2):
        x, y = points((9, 12), (1.0, 3.0), (False, False))
        layer = layer_of(alpha, kernel_size=size, domain_length=(1.0, 3.0), periodic=False)
        for a, b in itertools.product(range(size), repeat=2):
            (p, q) = alpha
            factor = math.perm(a, p) * math.perm(b, q)
            exact = factor * x ** max(a - p, 0) * y ** max(b - q, 0)
            y_hat = layer((x**a * y**b)[None, None])[0, 0]
            torch.testing.assert_close(y_hat, exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("grid", [(8, 8), (31, 64)])
def test_taps_sum_to_zero_and_constants_vanish(grid):
    layer = DifferentialConv(3, 4, kernel_size=5, order=3, periodic=(True, False), domain_length=(2.0, 1.0))
    layer = layer.double()
    kernel = layer.kernel(grid)
    assert (kernel.sum((2, 3)).abs() <= 1e-12 * kernel.abs().sum((2, 3))).all()
    y = layer(torch.full((1, 3, *grid), 7.0, dtype=torch.float64))
    assert y.abs().max() <= 1e-11 * kernel.abs().sum()


def test_the_length_scale_makes_weights_dimensionless():
    x = torch.randn(1, 2, 12, 10, dtype=torch.float64)
    small = DifferentialConv(2, 2, domain_length=1.0, length_scale=0.1).double()
    large = DifferentialConv(2, 2, domain_length=30.0, length_scale=3.0).double()
    large.load_state_dict(small.state_dict())
    torch.testing.assert_close(large(x), small(x), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_commutes_with_translations_on_periodic_axes(dtype, tolerance):
    layer = DifferentialConv(2, 3, periodic=(False, True), kernel_size=5).to(dtype)
    x = torch.randn(2, 2, 9, 14, dtype=dtype)
    a, b = layer(x.roll(5, -1)), layer(x).roll(5, -1)
    assert (a - b).norm() <= tolerance * b.norm()


def test_groups_are_blocks_of_the_full_kernel():
    grouped = DifferentialConv(4, 6, groups=2).double()
    full = DifferentialConv(4, 6).double()
    with torch.no_grad():
        full.weight.zero_()
        full.weight[:3, :2], full.weight[3:, 2:] = grouped.weight[:3], grouped.weight[3:]
    x = torch.randn(1, 4, 7, 8, dtype=torch.float64)
    torch.testing.assert_close(grouped(x), full(x))


@pytest.mark.parametrize("periodic", [True, False])
def test_gradients(periodic):
    layer = DifferentialConv(2, 2, periodic=periodic).double()
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)

    def apply(x, weight):
        return torch.func.functional_call(layer, {"weight": weight}, x)

    assert torch.autograd.gradcheck(apply, (x, layer.weight))
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), layer.weight)
    assert (gradient != 0).all()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"kernel_size": 4}, "kernel_size=4 must be odd and at least 3"),
        ({"order": 3}, "order=3 must be at least 1 and below kernel_size=3: higher derivatives take more"),
        ({"groups": 3}, "groups=3 must divide in_channels=2 and out_channels=2"),
        ({"n_dim": 4}, "n_dim=4 is not one of 1, 2, 3"),
        (
            {"domain_length": (1.0,)},
            r"domain_length=\(1.0,\) needs one positive number, or one per space axis, 2",
        ),
        ({"domain_length": -1}, "domain_length=-1 needs one positive number"),
        ({"periodic": (True,) * 3}, "needs one bool, or one per space axis, 2 of them"),
    ],
)
def test_wrong_arguments_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        DifferentialConv(2, 2, **options)


def test_a_grid_that_is_too_coarse_is_named():
    layer = DifferentialConv(1, 1, kernel_size=5, periodic=False)
    with pytest.raises(ValueError, match="a grid with 5 points on an axis is too coarse .* which takes 6"):
        layer(torch.zeros(1, 1, 5, 9))
