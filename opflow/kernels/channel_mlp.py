r"""Two channel-wise linear maps with a GELU between them, :math:`W_2 \sigma(W_1 x + b_1) + b_2`, as one node.

The hidden layer is the widest tensor of an FNO (lifting and projection). Here it exists for one block of
points at a time and is recomputed on the way back, so neither the pass nor training stores it.
`channel_mlp_reference` defines the operation.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu

from opflow.kernels.blocks import add_product, blocks


def channel_mlp_reference(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Map `(batch, c, *space)` to `(batch, out, *space)`; w1 `(h, c)`, b1 `(h,)`, w2 `(out, h)`, b2 `(out,)`."""
    hidden = w1 @ x.flatten(2) + b1[:, None]
    return (w2 @ gelu(hidden) + b2[:, None]).unflatten(2, x.shape[2:])


def channel_mlp(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Evaluate `channel_mlp_reference`, block by block on a CPU; under a compiler as is.

    Twice differentiable; the second derivative goes through the reference.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return channel_mlp_reference(x, w1, b1, w2, b2)
    return _ChannelMLP.apply(x.flatten(2).contiguous(), w1, b1, w2, b2).unflatten(2, x.shape[2:])


class _ChannelMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor):
        batch, _, points = x.shape
        out = x.new_empty(batch, len(w2), points)
        for b, p in blocks(batch, points, len(w1) * x.element_size()):
            xb = x[b, :, p]
            h = torch.baddbmm(b1[:, None], w1.expand(len(xb), -1, -1), xb)
            torch.baddbmm(b2[:, None], w2.expand(len(xb), -1, -1), gelu(h), out=out[b, :, p])
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
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        g_w1, g_b1, g_w2, g_b2 = (torch.zeros_like(t) for t in (w1, b1, w2, b2))
        for b, p in blocks(len(x), x.shape[-1], len(w1) * x.element_size()):
            xb, go = x[b, :, p], grad[b, :, p]
            h = torch.baddbmm(b1[:, None], w1.expand(len(xb), -1, -1), xb)
            add_product(g_w2, go, gelu(h))
            g_b2 += go.sum((0, 2))
            gh = torch.ops.aten.gelu_backward(torch.bmm(w2.T.expand(len(xb), -1, -1), go), h)
            add_product(g_w1, gh, xb)
            g_b1 += gh.sum((0, 2))
            if grad_x is not None:
                torch.bmm(w1.T.expand(len(xb), -1, -1), gh, out=grad_x[b, :, p])
        return grad_x, g_w1, g_b1, g_w2, g_b2
