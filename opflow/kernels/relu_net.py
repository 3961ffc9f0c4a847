"""Three convolutions with ReLUs between them, as one node: the networks of coupling layers.

The gain is in memory: the ReLUs and their gradients overwrite what the convolutions made, where separate
nodes write new memory for each.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from opflow.kernels.backend import is_eager, reference_gradients
from opflow.kernels.conv3x3 import Conv3x3, conv3x3, conv3x3_gradients

_gradients = torch.ops.aten.convolution_backward
_mask_ = torch.ops.aten.threshold_backward.grad_input


def relu_net_reference(
    x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, w3: Tensor, b3: Tensor
) -> Tensor:
    """Convolve with 3x3, 1x1 and 3x3 points, zeros around the field.

    `b1` is a bias `(channel,)`, or one that depends on the sample `(batch, channel, 1 or row, 1 or column)`.
    """
    return conv2d(torch.relu(conv2d(torch.relu(_first(x, w1, b1)), w2, b2)), w3, b3, padding=1)


def relu_net(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, w3: Tensor, b3: Tensor) -> Tensor:
    """Evaluate `relu_net_reference`; twice differentiable, the second derivative by the reference."""
    tensors = (x, w1, b1, w2, b2, w3, b3)
    if not is_eager(*tensors) or torch.is_autocast_enabled(x.device.type):
        return relu_net_reference(*tensors)
    if not torch.is_grad_enabled():
        return hidden_layers(x, w1, b1, w2, b2, Conv3x3(w3, b3, 1))
    return _ReluNet.apply(*tensors)


def hidden_layers(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, last: Conv3x3) -> Tensor:
    """Evaluate `relu_net` with a last convolution that is there, while no gradients are recorded."""
    first = _first(x, w1, b1).relu_()
    return last(conv2d(first, w2, b2).relu_())


def _first(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if bias.ndim == 1:
        return conv2d(x, weight, bias, padding=1)
    return conv2d(x, weight, padding=1).add_(bias)


class _ReluNet(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, w3: Tensor, b3: Tensor):
        first = _first(x, w1, b1).relu_()
        second = conv2d(first, w2, b2).relu_()
        ctx.save_for_backward(x, w1, b1, w2, b2, w3, b3, first, second)
        return conv3x3(second, w3, b3, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        *inputs, first, second = ctx.saved_tensors
        needs = ctx.needs_input_grad
        if torch.is_grad_enabled():
            return reference_gradients(relu_net_reference, inputs, needs, grad)
        x, w1, b1, w2, _, w3, b3 = inputs
        inner, w3, b3 = conv3x3_gradients(grad, second, w3, b3, 1, (True, *needs[5:]))
        grad = cast(Tensor, inner)
        grad, w2, b2 = _back(_mask_(grad, second, 0, grad_input=grad), first, w2, [True, *needs[3:5]])
        grad = _mask_(grad, first, 0, grad_input=grad)
        if b1.ndim == 1:
            x, w1, b1 = _back(grad, x, w1, list(needs[:3]))
        else:
            b1 = grad.sum_to_size(b1.shape) if needs[2] else None
            x, w1, _ = _back(grad, x, w1, [*needs[:2], False])
        return x, w1, b1, w2, b2, w3, b3


def _back(grad: Tensor, x: Tensor, weight: Tensor, needed: list[bool]) -> list[Tensor]:
    """Return the gradients of input, weight and bias of a convolution of the size of its input."""
    one, pad = [1, 1], [n // 2 for n in weight.shape[2:]]
    return _gradients(grad, x, weight, [len(weight)], one, pad, one, False, [0, 0], 1, needed)
