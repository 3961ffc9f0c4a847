r"""Two channel-wise linear maps with a GELU between them, :math:`W_2 \sigma(W_1 x + b_1) + b_2`, as one node.

The hidden layer is the widest tensor of an FNO (lifting and projection). In `opflow.kernels.cpu.channel_mlp`
it exists for one tile of points at a time and is recomputed on the way back, so neither the pass nor training
stores it. `channel_mlp_reference` defines the operation. Fields are channels-last, `(..., channel)`.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear

from opflow.kernels.backend import reference_gradients, runs_compiled
from opflow.kernels.blocks import block_linear
from opflow.kernels.memory import empty


def channel_mlp_reference(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Map `(..., c)` to `(..., out)`; w1 `(h, c)`, b1 `(h,)`, w2 `(out, h)`, b2 `(out,)`.

    The first map may also be one of `opflow.kernels.blocks`, with w1 `(n, h / n, c / n)`.
    """
    return linear(gelu(block_linear(x, w1, b1)), w2, b2)


def channel_mlp(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Evaluate `channel_mlp_reference`, with compiled kernels where they run.

    Twice differentiable; the second derivative goes through the reference.
    """
    blocks, n_out = len(w1) if w1.ndim == 3 else 1, len(w2)
    hidden, columns = blocks * w1.shape[-2], w1.shape[-1]
    shapes = [tuple(t.shape) for t in (b1, w2, b2)]
    fit = shapes == [(hidden,), (n_out, hidden), (n_out,)] and x.shape[-1] == blocks * columns
    fit = fit and blocks in (1, 2, 4)
    if not (runs_compiled(x, w1, b1, w2, b2) and fit):  # what does not fit, the reference refuses
        return channel_mlp_reference(x, w1, b1, w2, b2)
    inputs = (t.contiguous() for t in (x.reshape(-1, x.shape[-1]), w1, b1, w2, b2))
    return _ChannelMLP.apply(*inputs).view(*x.shape[:-1], len(w2))


class _ChannelMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor):
        from opflow.kernels.cpu import channel_mlp as cpu

        x, *_, b2 = inputs
        out = empty((len(x), len(b2)), x)
        cpu.forward(*inputs, out=out)
        ctx.save_for_backward(*inputs)
        return out

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        from opflow.kernels.cpu import channel_mlp as cpu

        inputs = [t.contiguous() for t in ctx.saved_tensors]
        if torch.is_grad_enabled() or not runs_compiled(grad, *inputs):
            return reference_gradients(channel_mlp_reference, inputs, ctx.needs_input_grad, grad)
        grad_x = empty(inputs[0].shape, inputs[0]) if ctx.needs_input_grad[0] else None
        return grad_x, *cpu.backward(grad.contiguous(), *inputs, grad_x=grad_x)
