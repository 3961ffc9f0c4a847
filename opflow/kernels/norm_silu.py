r"""Group norm with a gain and an offset of each sample, and SiLU, as one node.

.. math:: y = \sigma(g \odot N u + o), \qquad \sigma(z) = \frac{z}{1 + e^{-z}}

The norm N subtracts the mean of a group of channels and divides by its standard deviation. Written as
separate operations this walks through memory a dozen times, forward and backward, for a few sums each; in
`opflow.kernels.cpu.group_norm` a sample passes through cache once, and the gradient needs only u.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import group_norm, silu

from opflow.kernels.backend import reference_gradients, runs_compiled
from opflow.kernels.memory import empty


def norm_silu_reference(
    u: Tensor, gain: Tensor, offset: Tensor, *, groups: int, activate: bool = True
) -> Tensor:
    """Map `(batch, c, *space)`; gain and offset are `(batch, c)`. Without `activate` there is no SiLU."""
    there = (*gain.shape, *(1,) * (u.ndim - 2))
    z = group_norm(u, groups) * gain.view(there) + offset.view(there)
    return silu(z) if activate else z


def norm_silu(u: Tensor, gain: Tensor, offset: Tensor, *, groups: int, activate: bool = True) -> Tensor:
    """Evaluate `norm_silu_reference`, with compiled kernels where they run.

    Twice differentiable; the second derivative goes through the reference.
    """
    if not (runs_compiled(u, gain, offset) and _fit(u, gain, offset, groups)):
        return norm_silu_reference(u, gain, offset, groups=groups, activate=activate)
    return _NormSilu.apply(u, gain.contiguous(), offset.contiguous(), groups, activate)


def _fit(u: Tensor, gain: Tensor, offset: Tensor, groups: int) -> bool:
    """Whether there is something to do; what does not fit, the reference refuses."""
    return gain.shape == offset.shape == u.shape[:2] and u.numel() > 0 and u.shape[1] % groups == 0


def _by_point(u: Tensor) -> Tensor:
    return u.movedim(1, -1).reshape(len(u), -1, u.shape[1]).contiguous()


class _NormSilu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, gain: Tensor, offset: Tensor, groups: int, activate: bool):
        from opflow.kernels.cpu import group_norm as cpu

        points = _by_point(u)
        out = empty((len(u), *u.shape[2:], u.shape[1]), u)
        mean, rate = cpu.forward(points, gain, offset, groups, activate, out)
        ctx.save_for_backward(u, gain, offset, mean, rate)
        ctx.options = groups, activate
        return out.movedim(-1, 1)

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        from opflow.kernels.cpu import group_norm as cpu

        u, gain, offset, mean, rate = ctx.saved_tensors
        groups, activate = ctx.options
        if torch.is_grad_enabled() or not runs_compiled(grad, u, gain, offset):
            reference = partial(norm_silu_reference, groups=groups, activate=activate)
            return (
                *reference_gradients(reference, (u, gain, offset), ctx.needs_input_grad[:3], grad),
                None,
                None,
            )
        grad_u = empty((len(u), *u.shape[2:], u.shape[1]), u)
        grads = cpu.backward(
            _by_point(grad), _by_point(u), gain, offset, mean, rate, groups, activate, grad_u
        )
        return grad_u.movedim(-1, 1), *grads, None, None
