r"""One Fourier layer as a single autograd node.

.. math::
    a = F^{-1}(R \cdot F u) + \beta + S u + v, \quad h = W_1 \sigma(a) + b_1, \quad
    o = W_2 \sigma(h) + b_2 + g \odot u, \quad u' = \sigma(o)

with the exact GELU :math:`\sigma`, left out at :math:`a` and :math:`o` in a last layer, and optionally a
field v, which is what local kernels make of u.

Written as separate operations the layer allocates and walks through a dozen full-size tensors, and training
keeps five of them; on a CPU, where fresh pages have to be faulted in, that costs as much as the arithmetic.
Everything behind the spectrum is local to a point, so `opflow.kernels.cpu.fno_layer` does it tile by tile in
cache. Training keeps u, a and the spectrum; the rest is recomputed on the way back, and the gradient of u
takes the place of a.

Fields are channels-last, `(batch, *space, channel)`: every step is then one tall matrix product.
`fno_layer_reference` defines the operation in plain differentiable torch.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear

from opflow.kernels import dft
from opflow.kernels.backend import reference_gradients, runs_compiled
from opflow.kernels.memory import empty
from opflow.kernels.modes import ModeProduct, PlainProduct

_POINTWISE = 6  # skip, w1, b1, w2, b2, gate


def fno_layer_reference(
    u: Tensor,
    weight: Tensor,
    bias: Tensor,
    skip: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    gate: Tensor,
    local: Tensor | None = None,
    *,
    slots: Sequence[dft.Slot],
    last: bool,
    product: ModeProduct = PlainProduct(),  # noqa: B008 (has no state)
) -> Tensor:
    """Evaluate the layer operation by operation.

    Shapes:
        u `(batch, *space, c)`, weight `(modes, c, 2, c)` or what `product` takes, skip `(c, c)`, w1 `(h, c)`,
        b1 `(h,)`, w2 `(c, h)`, bias, b2 and gate `(c,)`, local as u; returns `(batch, *space, c)`.
    """
    y = product(dft.analyse(u, slots), weight)
    y[:, 0, dft.zero_mode(slots)] += bias  # a constant is the coefficient of mode zero
    a = dft.synthesise(y, slots, u.shape[1:-1]) + linear(u, skip)
    if local is not None:
        a = a + local
    h = linear(a if last else gelu(a), w1, b1)
    o = linear(gelu(h), w2, b2) + gate * u
    return o if last else gelu(o)


def fno_layer(
    *inputs: Tensor,
    slots: Sequence[dft.Slot],
    last: bool,
    product: ModeProduct = PlainProduct(),  # noqa: B008
) -> Tensor:
    """Evaluate `fno_layer_reference`, with compiled kernels where they run.

    Twice differentiable; the second derivative goes through the reference.
    """
    if not (runs_compiled(*inputs) and _fit(product, *inputs)):  # what does not fit, the reference refuses
        return fno_layer_reference(*inputs, slots=slots, last=last, product=product)
    inputs = tuple(t.contiguous() for t in inputs)
    if torch.is_grad_enabled() and any(t.requires_grad for t in inputs):
        return _FNOLayer.apply(tuple(slots), last, product, *inputs)
    with torch.no_grad():
        return _forward(slots, last, product, *inputs, kept=None)[0]


def _fit(product: ModeProduct, u: Tensor, weight: Tensor, *others: Tensor) -> bool:
    c, h = u.shape[-1], len(others[2])
    shapes = [tuple(t.shape) for t in others]
    expected = [(c,), (c, c), (h, c), (h,), (c, h), (c,), (c,), tuple(u.shape)]
    return product.fits(weight, c) and shapes == expected[: len(shapes)]


def _forward(
    slots, last: bool, product: ModeProduct, u: Tensor, weight: Tensor, bias: Tensor, *others: Tensor, kept
):
    """Return the result and the spectrum of u; write a to `kept`."""
    from opflow.kernels.cpu import fno_layer as cpu

    spectrum = dft.analyse(u, slots)
    y = product(spectrum, weight)
    y[:, 0, dft.zero_mode(slots)] += bias
    *firsts, basis = dft.matrices("synthesise", u.shape[1:-1], slots, u)
    t = dft.expand(y, firsts, 2 * slots[-1][1])
    out = empty(u.shape, u)
    *pointwise, local = others if len(others) > _POINTWISE else (*others, None)
    local = None if local is None else _lines(local)
    cpu.forward(_lines(u), _lines(t), basis, *pointwise, local=local, last=last, out=out, kept=kept)
    return out, spectrum


def _lines(x: Tensor) -> Tensor:
    return x.view(-1, *x.shape[-2:])


class _FNOLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, slots, last: bool, product: ModeProduct, u: Tensor, *weights: Tensor):
        kept = empty(u.shape, u)
        out, spectrum = _forward(slots, last, product, u, *weights, kept=kept)
        ctx.save_for_backward(u, *weights, kept, spectrum)
        ctx.slots, ctx.last, ctx.product, ctx.used = slots, last, product, False
        return out

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        *inputs, kept, spectrum = (t.contiguous() for t in ctx.saved_tensors)
        slots, last, product, needed = ctx.slots, ctx.last, ctx.product, ctx.needs_input_grad[3:]
        used, ctx.used = ctx.used, True  # the first pass writes over what was kept
        if torch.is_grad_enabled() or used or not runs_compiled(grad, *inputs):
            reference = partial(fno_layer_reference, slots=slots, last=last, product=product)
            return None, None, None, *reference_gradients(reference, inputs, needed, grad)

        from opflow.kernels.cpu import fno_layer as cpu
        from opflow.kernels.cpu.products import bmm

        u, weight, _, *others = inputs
        pointwise, local = others[:_POINTWISE], others[_POINTWISE:]
        grad_local = [empty(u.shape, u) for _ in local]
        *firsts, basis = dft.matrices("synthesise", u.shape[1:-1], slots, u)
        grad_t = empty((*u.shape[:-2], basis.shape[1], u.shape[-1]), u)
        grads = cpu.backward(
            *(grad.contiguous(), _lines(u), kept, basis, *pointwise),
            last=last,
            grad_t=grad_t,
            grad_local=grad_local[0] if local else None,
        )
        grad_y = dft.contract(grad_t, [m.T for m in firsts])
        grad_spectrum, grad_weight = product.backward(grad_y, spectrum, weight)
        # The adjoint of the analysis, added in place to what is there.
        *firsts, basis = (m.T for m in dft.matrices("analyse", u.shape[1:-1], slots, u))
        t = dft.expand(grad_spectrum, firsts, basis.shape[1])
        bmm(basis, _lines(t), out=_lines(kept), accumulate=True)
        grad_bias = grad_y[:, 0, dft.zero_mode(slots)].sum(0)
        return None, None, None, kept, grad_weight, grad_bias, *grads, *grad_local
