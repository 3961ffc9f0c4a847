r"""Sum over the edges of a graph: :math:`\mathrm{out}_t = \sum_{e: s \to t} w_e \, \sigma(a_s + b_t)`, GELU.

The inside of a graph kernel, between the linear maps at its points (which come before, once for each point)
and at its nodes (which come after). There are several edges for each point; in `opflow.kernels.cpu.edge_sum`
their features exist for one edge at a time and are recomputed on the way back. `edge_sum_reference` defines
the operation.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu

from opflow.kernels.backend import reference_gradients, runs_compiled


def edge_sum_reference(
    a: Tensor, b: Tensor, source: Tensor, target: Tensor, weight: Tensor, n: int
) -> Tensor:
    """Sum `(batch, point, channel)` over edges to `(batch, n, channel)`, at least in single precision.

    Args:
        a: features of the points `(batch, point, channel)`.
        b: features of the nodes `(node, channel)`; node t of n takes row t modulo the number of rows.
        source: point of each edge `(edge,)`, int64.
        target: node of each edge `(edge,)`, int64, below n.
        weight: weight of each edge `(edge,)`.
        n: number of nodes.
    """
    messages = gelu(a.index_select(1, source) + b.index_select(0, target % len(b)))
    # Under autocast the features are of half precision, in which a sum over many edges stops growing.
    messages = messages * weight.to(torch.promote_types(weight.dtype, torch.float32))[:, None]
    out = messages.new_zeros(a.shape[0], n, a.shape[2])
    return out.index_add(1, target, messages).to(a.dtype)


def edge_sum(a: Tensor, b: Tensor, source: Tensor, target: Tensor, weight: Tensor, n: int) -> Tensor:
    """Evaluate `edge_sum_reference`, with compiled kernels where they run.

    Twice differentiable in a and b; the weights are constants there.
    """
    if weight.requires_grad or not runs_compiled(a, b, weight):
        return edge_sum_reference(a, b, source, target, weight, n)
    tensors = (t.contiguous() for t in (a, b, source, target, weight))
    return _EdgeSum.apply(*tensors, n)


class _EdgeSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, source: Tensor, target: Tensor, weight: Tensor, n: int):
        from opflow.kernels.cpu import edge_sum as cpu

        ctx.n = n
        ctx.save_for_backward(a, b, source, target, weight)
        return cpu.forward(a, b, source, target, weight, n)

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        from opflow.kernels.cpu import edge_sum as cpu

        a, b, source, target, weight = ctx.saved_tensors
        if torch.is_grad_enabled() or not runs_compiled(grad, a, b):
            grads = reference_gradients(
                lambda a, b: edge_sum_reference(a, b, source, target, weight, ctx.n),
                (a, b),
                ctx.needs_input_grad,
                grad,
            )
        else:
            grads = cpu.backward(grad.contiguous(), a, b, source, target, weight)
        return *grads, None, None, None, None
