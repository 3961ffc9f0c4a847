r"""Two channel-wise linear maps with a GELU between them, :math:`W_2 \sigma(W_1 x + b_1) + b_2`, as one node.

The hidden layer is the widest tensor of an FNO (lifting and projection). Here it exists for one block of
points at a time and is recomputed on the way back, so neither the pass nor training stores it.
`channel_mlp_reference` defines the operation. Fields are channels-last, `(..., channel)`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear

from opflow.kernels.blocks import blocks, matrix_gradient, runs_in_blocks
from opflow.kernels.memory import empty


def channel_mlp_reference(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Map `(..., c)` to `(..., out)`; w1 `(h, c)`, b1 `(h,)`, w2 `(out, h)`, b2 `(out,)`."""
    return linear(gelu(linear(x, w1, b1)), w2, b2)


def channel_mlp(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Evaluate `channel_mlp_reference`: in blocks on a CPU, as is under a compiler.

    Twice differentiable; the second derivative goes through the reference.
    """
    if not runs_in_blocks(x):
        return channel_mlp_reference(x, w1, b1, w2, b2)
    y = _ChannelMLP.apply(x.reshape(-1, x.shape[-1]), w1, b1, w2, b2)
    return y.view(*x.shape[:-1], len(w2))


class _ChannelMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor):
        out = empty((len(x), len(w2)), x)
        parts = list(blocks(1, len(x), len(w1) * x.element_size()))
        hidden = empty((len(x[parts[0][1]]), len(w1)), x)
        for _, p in parts:
            h = torch.addmm(b1, x[p], w1.T, out=hidden[: len(x[p])])
            torch.addmm(b2, torch.ops.aten.gelu.out(h, out=h), w2.T, out=out[p])
        ctx.save_for_backward(x, w1, b1, w2, b2)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, w1, b1, w2, b2 = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is asked for
            inputs = [t for t, need in zip(ctx.saved_tensors, ctx.needs_input_grad) if need]
            out = channel_mlp_reference(x, w1, b1, w2, b2)
            grads = iter(torch.autograd.grad(out, inputs, grad, create_graph=True))
            return tuple(next(grads) if need else None for need in ctx.needs_input_grad)
        grad = grad.contiguous()
        grad_x = empty(x.shape, x) if ctx.needs_input_grad[0] else None
        g_w1, g_b1, g_w2, g_b2 = (torch.zeros_like(t) for t in (w1, b1, w2, b2))
        parts = list(blocks(1, len(x), len(w1) * x.element_size()))
        hidden, active = (empty((len(x[parts[0][1]]), len(w1)), x) for _ in range(2))
        for _, p in parts:
            h = torch.addmm(b1, x[p], w1.T, out=hidden[: len(x[p])])
            g = torch.ops.aten.gelu.out(h, out=active[: len(x[p])])
            g_w2 += matrix_gradient(grad[p], g)
            g_b2 += grad[p].sum(0)
            gh = torch.mm(grad[p], w2, out=g)
            torch.ops.aten.gelu_backward.grad_input(gh, h, grad_input=gh)
            g_w1 += matrix_gradient(gh, x[p])
            g_b1 += gh.sum(0)
            if grad_x is not None:
                torch.mm(gh, w1, out=grad_x[p])
        return grad_x, g_w1, g_b1, g_w2, g_b2
