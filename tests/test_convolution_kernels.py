"""The kernels of U-Nets against their definitions in float64: values, every gradient, any size."""

import numpy as np
import pytest
import torch
from numba import njit
from scipy.special import expit

from opflow.kernels.conv3x3 import conv3x3, conv3x3_reference
from opflow.kernels.cpu import silu as cpu_silu
from opflow.kernels.cpu import winograd
from opflow.kernels.linear import linear, linear_reference
from opflow.kernels.norm_silu import norm_silu, norm_silu_reference


def close(a, b, tolerance=2e-6):
    assert a.shape == b.shape
    assert (a - b).norm() <= tolerance * b.norm() + 1e-7


def agrees(function, reference, inputs, tolerance=2e-6, node=None):
    """Compare values and all gradients of a function in float32 with those of its reference in float64."""
    inputs = [t.detach().requires_grad_() for t in inputs]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    y, expected = function(*inputs), reference(*exact)
    close(y, expected, tolerance)
    if node is not None:
        assert type(y.grad_fn).__name__ == node  # the compiled kernel, not the reference
    direction = torch.randn_like(y)
    grads = torch.autograd.grad(y, inputs, direction, create_graph=False)
    for a, b in zip(grads, torch.autograd.grad(expected, exact, direction.double()), strict=True):
        close(a, b, tolerance)


def convolution_inputs(batch, n_in, n_out, grid):
    torch.manual_seed(0)
    return torch.randn(batch, n_in, *grid), torch.randn(n_out, n_in, 3, 3) / n_in**0.5, torch.randn(n_out)


def test_the_matrices_multiply_polynomials():
    """The transpose of the product of polynomials: y_i = sum_j w_j x_(i + j), to rounding."""
    a, b, g = winograd.matrices()
    x, w = torch.randn(6, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    expected = torch.stack([(w * x[i : i + 3]).sum() for i in range(4)])
    torch.testing.assert_close(a.T @ ((g @ w) * (b.T @ x)), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "batch, n_in, n_out, grid, pad",
    [
        (1, 16, 16, (32, 32), 1),
        (2, 16, 40, (17, 14), 1),
        (3, 33, 21, (9, 31), 0),
        (5, 20, 70, (7, 8), 1),
        (40, 16, 17, (3, 2), 1),
        (8, 64, 12, (16, 16), 1),
        (16, 9, 60, (9, 8), 1),
    ],
)
def test_convolution(batch, n_in, n_out, grid, pad):
    inputs = convolution_inputs(batch, n_in, n_out, grid)
    agrees(
        lambda *t: conv3x3(*t, pad), lambda *t: conv3x3_reference(*t, pad), inputs, node="_Conv3x3Backward"
    )


def test_convolution_of_any_memory_layout():
    x, weight, bias = convolution_inputs(2, 18, 16, (12, 20))
    y = conv3x3(x, weight, bias, 1)
    for other in (x.to(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        assert torch.equal(conv3x3(other, weight.to(memory_format=torch.channels_last), bias, 1), y)


def test_what_does_not_pay_or_fit_goes_to_the_reference():
    x, weight, bias = convolution_inputs(2, 3, 16, (32, 32))
    assert torch.equal(conv3x3(x, weight, bias, 1), conv3x3_reference(x, weight, bias, 1))
    x, weight, bias = (t.requires_grad_() for t in convolution_inputs(64, 16, 16, (2, 2)))
    assert type(conv3x3(x, weight, bias, 1).grad_fn).__name__ == "ConvolutionBackward0"
    with pytest.raises(RuntimeError, match="channels"):
        conv3x3(torch.zeros(8, 17, 16, 16), weight, bias, 1)
    with pytest.raises(RuntimeError, match=r"size|shape|channels"):
        norm_silu(torch.zeros(2, 6, 4), torch.ones(2, 5), torch.ones(2, 5), groups=2)
    with pytest.raises(RuntimeError, match=r"size|shape|multiplied"):
        linear(torch.zeros(5, 3), torch.zeros(2, 4), torch.zeros(2))


@pytest.mark.parametrize("activate", [True, False])
@pytest.mark.parametrize(
    "batch, channels, groups, grid",
    [(1, 8, 4, (2,)), (3, 12, 2, (65,)), (2, 64, 32, (9, 14)), (2, 20, 1, (3, 4, 5))],
)
def test_group_norm(batch, channels, groups, grid, activate):
    torch.manual_seed(0)
    u, gain, offset = torch.randn(batch, channels, *grid), *torch.randn(2, batch, channels)
    agrees(
        lambda *t: norm_silu(*t, groups=groups, activate=activate),
        lambda *t: norm_silu_reference(*t, groups=groups, activate=activate),
        (u, gain, offset),
        1e-5 if grid == (2,) else 2e-6,  # of four numbers, the norm magnifies their rounding
        node="_NormSiluBackward",
    )


def test_group_norm_far_from_zero_keeps_its_digits():
    """The sum of squares less the square of the sum would lose all of them."""
    torch.manual_seed(0)
    u, gain, offset = 1000 + torch.randn(2, 16, 40, 50), *torch.randn(2, 2, 16)
    inputs = [t.double().requires_grad_() for t in (u, gain, offset)]
    expected = norm_silu_reference(*inputs, groups=4)
    singles = [t.clone().requires_grad_() for t in (u, gain, offset)]
    y = norm_silu(*singles, groups=4)
    close(y, expected, 1e-4)  # the mean itself is a float: half of its last digit is 3e-5
    direction = torch.randn_like(y)
    for a, b in zip(
        torch.autograd.grad(y, singles, direction), torch.autograd.grad(expected, inputs, direction.double())
    ):
        close(a, b, 1e-4)


@njit
def _map(values, y, slopes):
    for i in range(values.size):
        y[i], slopes[i] = cpu_silu.silu(values[i]), cpu_silu.silu_slope(values[i])


def test_silu_and_its_slope_to_the_last_digits():
    x = np.concatenate([np.linspace(-30, 30, 60001), [0, 1e4, -1e4, np.nan, np.inf]]).astype(np.float32)
    y, slopes = np.empty_like(x), np.empty_like(x)
    _map(x, y, slopes)
    s = expit(x[:-2].astype(float))
    np.testing.assert_allclose(y[:-2], x[:-2] * s, rtol=4e-7, atol=1e-30)
    np.testing.assert_allclose(slopes[:-2], s + x[:-2] * s * (1 - s), rtol=0, atol=4e-7)
    assert np.isnan(y[-2]) and y[-1] == np.inf


@pytest.mark.parametrize(
    "points, n_in, n_out", [((32, 1024), 20, 30), ((7, 1000), 129, 65), ((3001,), 64, 128)]
)
def test_linear(points, n_in, n_out):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(*points, n_in), torch.randn(n_out, n_in), torch.randn(n_out)
    agrees(linear, linear_reference, (x, weight, bias), node="_LinearBackward")
    agrees(lambda x, w: linear(x, w, None), lambda x, w: linear_reference(x, w, None), (x, weight))


def kernels():
    torch.manual_seed(0)
    x, weight, bias = convolution_inputs(2, 16, 18, (12, 13))
    yield lambda *t: conv3x3(*t, 1), (x, weight, bias)
    yield lambda *t: norm_silu(*t, groups=4), (x, *torch.randn(2, 2, 16))
    yield linear, (torch.randn(4096, 32), torch.randn(24, 32), torch.randn(24))


@pytest.mark.parametrize("function, inputs", list(kernels()), ids=["conv3x3", "norm_silu", "linear"])
def test_second_derivatives(function, inputs):
    """Of the squared gradient, in float32 through the kernel and in float64 through the reference."""
    found = []
    for dtype in (torch.float32, torch.float64):
        leaves = [t.detach().to(dtype).requires_grad_() for t in inputs]
        grads = torch.autograd.grad(function(*leaves).square().sum(), leaves, create_graph=True)
        found.append(torch.autograd.grad(sum(g.square().sum() for g in grads), leaves))
    for a, b in zip(*found):
        close(a, b, 1e-5)


@pytest.mark.parametrize("function, inputs", list(kernels()), ids=["conv3x3", "norm_silu", "linear"])
def test_results_do_not_depend_on_the_number_of_threads(function, inputs):
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            leaves = [t.detach().requires_grad_() for t in inputs]
            y = function(*leaves)
            found.append([y, *torch.autograd.grad(y.square().sum(), leaves)])
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # TorchScript is on its way out
@pytest.mark.parametrize("function, inputs", list(kernels()), ids=["conv3x3", "norm_silu", "linear"])
def test_forward_derivatives_see_the_reference(function, inputs):
    direction = [torch.randn_like(t) for t in inputs]
    _, slope = torch.func.jvp(function, tuple(inputs), tuple(direction))
    double = [t.double() for t in inputs]
    step = [1e-6 * d.double() for d in direction]
    ahead, behind = (function(*(t + sign * d for t, d in zip(double, step))) for sign in (1, -1))
    close(slope, (ahead - behind) / 2e-6, 1e-5)


@pytest.mark.parametrize("function, inputs", list(kernels()), ids=["conv3x3", "norm_silu", "linear"])
def test_only_the_gradients_asked_for(function, inputs):
    leaves = [t.detach() for t in inputs]
    leaves[1].requires_grad_()
    everything = [t.detach().requires_grad_() for t in inputs]
    one = torch.autograd.grad(function(*leaves).square().sum(), leaves[1])[0]
    assert torch.equal(one, torch.autograd.grad(function(*everything).square().sum(), everything)[1])
