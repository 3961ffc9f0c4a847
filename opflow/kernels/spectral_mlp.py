r"""A channel MLP of a field given by its spectrum, beside a linear map of another field, as one node.

.. math:: a = F^{-1} y, \qquad u' = \sigma(W_2 \sigma(W_1 a + b_1) + b_2 + S u)

with the exact GELU :math:`\sigma`, the outer one left out in a last layer. That is the pointwise part of the
published G-FNO layer; its linear maps come as those of `opflow.kernels.blocks`. In `opflow.kernels.cpu.spectral_mlp` all of it happens to a tile of points in cache, and
again on the way back, from y and u: no field between them exists as a whole.

Fields are channels-last, `(batch, *space, channel)`, spectra as in `opflow.kernels.dft`.
`spectral_mlp_reference` defines the operation.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu

from opflow.kernels import dft
from opflow.kernels.backend import reference_gradients, runs_compiled
from opflow.kernels.blocks import block_linear, walsh
from opflow.kernels.memory import empty


def spectral_mlp_reference(
    y: Tensor,
    u: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    skip: Tensor,
    *,
    slots: Sequence[dft.Slot],
    last: bool,
) -> Tensor:
    """Evaluate the layer operation by operation.

    Shapes:
        y `(batch, 2, modes, c)`, u `(batch, *space, c)`; for n blocks w1 `(n, h / n, c / n)`, b1 `(h,)`, w2
        `(n, c / n, h / n)`, b2 `(c,)`, skip `(n, c / n, c / n)`; returns `(batch, *space, c)`.
    """
    a = dft.synthesise(y, slots, u.shape[1:-1])
    o = block_linear(gelu(block_linear(a, w1, b1)), w2, b2) + block_linear(u, skip)
    return o if last else gelu(o)


def spectral_mlp(*inputs: Tensor, slots: Sequence[dft.Slot], last: bool) -> Tensor:
    """Evaluate `spectral_mlp_reference`, with compiled kernels where they run.

    Twice differentiable; the second derivative goes through the reference.
    """
    if not (runs_compiled(*inputs) and _fit(*inputs)):  # what does not fit, the reference refuses
        return spectral_mlp_reference(*inputs, slots=slots, last=last)
    return _SpectralMLP.apply(tuple(slots), last, *(t.contiguous() for t in inputs))  # pyright: ignore


def _fit(y: Tensor, u: Tensor, *others: Tensor) -> bool:
    n, h, c = others[0].shape
    shapes = [(n, h, c), (n * h,), (n, c, h), (n * c,), (n, c, c)]
    return n in (1, 2, 4) and y.shape[-1] == u.shape[-1] == n * c and [tuple(t.shape) for t in others] == shapes


def _lines(x: Tensor) -> Tensor:
    return x.view(-1, *x.shape[-2:])


class _SpectralMLP(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, slots, last: bool, y: Tensor, u: Tensor, *weights: Tensor):
        from opflow.kernels.cpu import spectral_mlp as cpu

        ctx.slots, ctx.last = slots, last
        *firsts, basis = dft.matrices("synthesise", u.shape[1:-1], slots, u)
        t = dft.expand(walsh(y, len(weights[0])), firsts, basis.shape[1])
        ctx.save_for_backward(y, u, *weights)
        out = empty(u.shape, u)
        cpu.forward(_lines(u), _lines(t), basis, *weights, last=last, out=_lines(out))
        return out

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        y, u, *weights = ctx.saved_tensors
        slots, last = ctx.slots, ctx.last
        if torch.is_grad_enabled() or not runs_compiled(grad, y, u, *weights):
            reference = partial(spectral_mlp_reference, slots=slots, last=last)
            needed = ctx.needs_input_grad[2:]
            return None, None, *reference_gradients(reference, (y, u, *weights), needed, grad)

        from opflow.kernels.cpu import spectral_mlp as cpu

        *firsts, basis = dft.matrices("synthesise", u.shape[1:-1], slots, u)
        t = dft.expand(walsh(y, len(weights[0])), firsts, basis.shape[1])
        grad_t, grad_u = empty(t.shape, t), empty(u.shape, u)
        into = {"grad_t": _lines(grad_t), "grad_u": _lines(grad_u)}
        grads = cpu.backward(
            _lines(grad.contiguous()), _lines(u), _lines(t), basis, *weights, last=last, **into
        )
        grad_y = walsh(dft.contract(grad_t, [m.T for m in firsts]), len(weights[0]))
        return None, None, grad_y, grad_u, *grads
