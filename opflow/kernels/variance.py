r"""The variance of each channel of a field over points and slots, :math:`v = E (u - E u)^2`.

`variance_reference` defines the operation. `opflow.kernels.cpu.variance` reads the field and writes its gradient
where separate operations would pass two more fields of that size through memory.
"""

from typing import Any

import torch
from torch import Tensor

from opflow.kernels.backend import reference_gradients, runs_compiled
from opflow.kernels.memory import empty


def variance_reference(u: Tensor) -> Tensor:
    """Reduce `(batch, point, slot, c)` to `(batch, c)`."""
    return u.var((1, 2), correction=0)


def variance(u: Tensor) -> Tensor:
    """Evaluate `variance_reference`, with compiled kernels where they run; twice differentiable."""
    if not runs_compiled(u):
        return variance_reference(u)
    return _Variance.apply(u.contiguous())  # pyright: ignore[reportReturnType]


class _Variance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor):
        from opflow.kernels.cpu import variance as cpu

        mean, variance = cpu.moments(u)
        ctx.save_for_backward(u, mean)
        return variance

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        u, mean = ctx.saved_tensors
        if torch.is_grad_enabled() or not runs_compiled(grad, u):
            return reference_gradients(variance_reference, (u,), (True,), grad)[0]

        from opflow.kernels.cpu import variance as cpu

        scale = grad * (2 / (u.shape[1] * u.shape[2]))
        return cpu.scaled_offsets(u, mean, scale, out=empty(u.shape, u))
