"""Kernels of coupling layers against their references: values, every gradient, second derivatives."""

import pytest
import torch

from opflow.kernels.coupling import (
    affine_coupling,
    affine_coupling_reference,
    affine_uncoupling,
    affine_uncoupling_reference,
)
from opflow.kernels.relu_net import relu_net, relu_net_reference

SIZES = [(3, 12, 6, 16, 16), (2, 5, 2, 3, 7), (1, 1, 1, 1, 1), (2, 9, 7, 5, 30), (0, 4, 2, 3, 3)]


def close(actual, exact, tolerance: float = 1e-5) -> None:
    for a, b in zip(actual, exact, strict=True):
        scale = max(1.0, float(b.detach().abs().max())) if b.numel() else 1.0
        torch.testing.assert_close(a.double(), b, atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("batch, channels, moved, rows, columns", SIZES)
def test_couplings_and_gradients(batch, channels, moved, rows, columns, channels_last):
    torch.manual_seed(0)
    x = torch.randn(batch, channels, rows, columns)
    parameters = 3 * torch.randn(batch, 2 * moved, rows, columns)
    grads = torch.randn_like(x), torch.randn(batch)
    if channels_last:
        x, parameters = (t.contiguous(memory_format=torch.channels_last) for t in (x, parameters))
    inputs = x.requires_grad_(), parameters.requires_grad_()
    exact_inputs = [t.detach().double().requires_grad_() for t in inputs]
    found, exact = affine_coupling(*inputs), affine_coupling_reference(*exact_inputs)
    close(found, exact)
    close(
        torch.autograd.grad(found, inputs, grads),
        torch.autograd.grad(exact, exact_inputs, [g.double() for g in grads]),
    )
    with torch.no_grad():
        z = found[0].detach()
        close(affine_uncoupling(z, parameters), affine_uncoupling_reference(z.double(), exact_inputs[1]))
        close(affine_uncoupling(z, parameters), (x.double(), -exact[1]))


def test_extreme_parameters_stay_bounded():
    x, parameters = torch.ones(1, 2, 1, 4), torch.zeros(1, 2, 1, 4)
    parameters[0, 1, 0] = torch.tensor([1e4, -1e4, torch.inf, 0.0])
    with torch.no_grad():
        z, logdet = affine_coupling(x, parameters)
        back, _ = affine_uncoupling(z, parameters)
    expected = torch.tensor([2.0, -2.0, 2.0, 0.0]).exp()
    torch.testing.assert_close(z[0, 1, 0], expected)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(logdet, torch.tensor([2.0]))


def test_one_of_the_inputs_may_be_constant():
    x, parameters = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    for wanted in (x, parameters):
        live = [t.clone().requires_grad_(t is wanted) for t in (x, parameters)]
        z, logdet = affine_coupling(*live)
        (z.square().sum() + logdet.sum()).backward()
        exact = [t.double().requires_grad_(t is wanted) for t in (x, parameters)]
        z, logdet = affine_coupling_reference(*exact)
        (z.square().sum() + logdet.sum()).backward()
        close([t.grad for t in live if t.requires_grad], [t.grad for t in exact if t.requires_grad])


def penalty(function, inputs) -> list[torch.Tensor]:
    """Gradients of the squared norm of gradients."""
    outputs = function(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    loss = sum(output.square().sum() for output in outputs)
    first = torch.autograd.grad(loss, inputs, create_graph=True)
    return list(torch.autograd.grad(sum(g.square().sum() for g in first), inputs))


def test_second_derivatives_of_couplings():
    torch.manual_seed(0)
    inputs = [torch.randn(2, 4, 3, 5).requires_grad_(), (0.3 * torch.randn(2, 4, 3, 5)).requires_grad_()]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    close(penalty(affine_coupling, inputs), penalty(affine_coupling_reference, exact), 1e-4)


def net_inputs(bias: tuple[int, ...], n_in: int = 5, hidden: int = 16, out: int = 16) -> list[torch.Tensor]:
    torch.manual_seed(0)
    shapes = [
        (4, n_in, 6, 8),
        (hidden, n_in, 3, 3),
        bias,
        (hidden, hidden, 1, 1),
        (hidden,),
        (out, hidden, 3, 3),
    ]
    scales = (1, 0.2, 1, 0.2, 1, 0.2)
    tensors = [scale * torch.randn(shape) for shape, scale in zip(shapes, scales)]
    return [t.requires_grad_() for t in [*tensors, torch.randn(out)]]


@pytest.mark.parametrize("bias", [(16,), (1, 16, 1, 1), (4, 16, 1, 1), (4, 16, 6, 8)])
def test_relu_nets_and_gradients(bias):
    inputs = net_inputs(bias)
    exact = [t.detach().double().requires_grad_() for t in inputs]
    found, reference = relu_net(*inputs), relu_net_reference(*exact)
    close([found], [reference])
    grad = torch.randn_like(found)
    close(
        torch.autograd.grad(found, inputs, grad), torch.autograd.grad(reference, exact, grad.double()), 1e-5
    )


def test_relu_nets_with_constant_weights_give_the_gradient_of_the_field():
    x, *weights = net_inputs((16,))
    weights = [w.detach() for w in weights]
    relu_net(x, *weights).square().sum().backward()
    exact = x.detach().double().requires_grad_()
    relu_net_reference(exact, *(w.double() for w in weights)).square().sum().backward()
    close([x.grad], [exact.grad])


def test_second_derivatives_of_relu_nets():
    inputs = net_inputs((4, 16, 1, 1))
    exact = [t.detach().double().requires_grad_() for t in inputs]
    close(penalty(relu_net, inputs), penalty(relu_net_reference, exact), 1e-4)


def test_transforms_of_torch_see_the_references():
    inputs = [t.detach() for t in net_inputs((16,))]
    found = torch.func.vmap(lambda x: relu_net(x[None], *inputs[1:])[0])(inputs[0])
    torch.testing.assert_close(found, relu_net(*inputs), atol=1e-4, rtol=1e-4)
    x, parameters = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    z = torch.func.vmap(lambda x, p: affine_coupling(x[None], p[None])[0][0])(x, parameters)
    torch.testing.assert_close(z, affine_coupling(x, parameters)[0])
