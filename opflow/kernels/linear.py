"""A linear map of the channels at many points, as one node.

The matrix is small and the points are many. General libraries reach half of the peak or less there, on some
processors far less; the register tiles of `opflow.kernels.cpu.gemm` come close to it.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from opflow.kernels.backend import reference_gradients, runs_compiled
from opflow.kernels.memory import empty

_LEAST_WORK = 1 << 21  # multiplications, which take as long as reaching the kernel


def linear_reference(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Map `(..., in)` to `(..., out)`; weight `(out, in)`, bias `(out,)` or None."""
    return F.linear(x, weight, bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Evaluate `linear_reference`, with compiled kernels where they run and pay.

    Twice differentiable; the second derivative goes through the reference.
    """
    n_out, n_in = weight.shape
    tensors = (x, weight) if bias is None else (x, weight, bias)
    fits = x.shape[-1] == n_in and (bias is None or bias.shape == (n_out,))
    if not (runs_compiled(*tensors) and fits and x.numel() * n_out >= _LEAST_WORK):
        return linear_reference(x, weight, bias)  # it refuses what does not fit
    return _Linear.apply(x, weight, bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None):
        from opflow.kernels.cpu import linear as cpu

        out = empty((*x.shape[:-1], len(weight)), x)
        points = x.reshape(-1, x.shape[-1]).contiguous()
        cpu.forward(points, weight.T.contiguous(), None if bias is None else bias.contiguous(), out)
        ctx.save_for_backward(x, weight, bias)
        return out

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        from opflow.kernels.cpu import linear as cpu

        x, weight, bias = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        if torch.is_grad_enabled() or not runs_compiled(grad, x, weight):
            inputs = (x, weight) if bias is None else (x, weight, bias)
            grads = reference_gradients(F.linear, inputs, ctx.needs_input_grad[: len(inputs)], grad)
            return *grads, *(() if bias is not None else (None,))
        grad = grad.reshape(-1, len(weight)).contiguous()
        grad_x = grad_weight = grad_bias = None
        if needs_x:
            grad_x = empty(x.shape, x)
            cpu.forward(grad, weight.contiguous(), None, grad_x)
        if needs_weight or needs_bias:
            grad_weight, grad_bias = cpu.weight_gradient(grad, x.reshape(-1, x.shape[-1]).contiguous())
        return grad_x, grad_weight, grad_bias if needs_bias else None
