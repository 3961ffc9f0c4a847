r"""One Fourier layer as a single autograd node that keeps its temporaries in cache.

.. math::
    a = F^{-1}(R \cdot F u) + \beta + S u, \quad h = W_1 \sigma(a) + b_1, \quad
    o = W_2 \sigma(h) + b_2 + g \odot u, \quad u' = \sigma(o)

with the exact GELU :math:`\sigma`, left out at :math:`a` and :math:`o` in a last layer.

Written as separate operations the layer allocates and walks through a dozen full-size tensors, and training
keeps five of them; on a CPU, where fresh pages have to be faulted in, that costs as much as the arithmetic.
Everything behind the spectrum is local to a point, so here it runs over blocks of rows that fit the cache.
Training keeps u, a and the spectrum; the rest is recomputed, block by block, on the way back, and the
gradient of u takes the place of a.

Fields are channels-last, `(batch, *space, channel)`: every step is then one tall matrix product.
`fno_layer_reference` defines the operation in plain differentiable torch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, linear

from opflow.kernels import dft
from opflow.kernels.blocks import blocks, matrix_gradient, runs_in_blocks
from opflow.kernels.memory import empty
from opflow.kernels.modes import multiply_modes, multiply_modes_backward

_gelu = torch.ops.aten.gelu.out
_gelu_backward = torch.ops.aten.gelu_backward.grad_input


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
    *,
    slots: Sequence[dft.Slot],
    last: bool,
) -> Tensor:
    """Evaluate the layer operation by operation.

    Shapes:
        u `(batch, *space, c)`, weight `(modes, c, 2, c)`, skip `(c, c)`, w1 `(h, c)`, b1 `(h,)`,
        w2 `(c, h)`, bias, b2 and gate `(c,)`; returns `(batch, *space, c)`.
    """
    y = multiply_modes(dft.analyse(u, slots), weight)
    y[dft.zero_mode(slots), 0] += bias  # a constant is the coefficient of mode zero
    a = dft.synthesise(y, slots, u.shape[1:-1]) + linear(u, skip)
    h = linear(a if last else gelu(a), w1, b1)
    o = linear(gelu(h), w2, b2) + gate * u
    return o if last else gelu(o)


def fno_layer(
    u: Tensor,
    weight: Tensor,
    bias: Tensor,
    skip: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    gate: Tensor,
    *,
    slots: Sequence[dft.Slot],
    last: bool,
    inplace: bool = False,
) -> Tensor:
    """Evaluate `fno_layer_reference`: in blocks on a CPU, as is under a compiler, which fuses by itself.

    Twice differentiable; the second derivative goes through the reference. `inplace` allows the result to
    take the place of u when no gradient is asked for.
    """
    inputs = (u, weight, bias, skip, w1, b1, w2, b2, gate)
    if not runs_in_blocks(u):
        return fno_layer_reference(*inputs, slots=slots, last=last)
    inputs = [t.contiguous() for t in inputs]
    if u.ndim == 3:  # a line is a plane with one row
        inputs[0], slots = inputs[0][:, None], [(0, 1), *slots]
        u = fno_layer(*inputs, slots=slots, last=last, inplace=inplace)
        return u[:, 0]
    if torch.is_grad_enabled() and any(t.requires_grad for t in inputs):
        return _FNOLayer.apply(tuple(slots), last, *inputs)
    out = inputs[0] if inplace else empty(u.shape, u)
    _forward(slots, last, *inputs, out=out, kept=None)
    return out


def _forward(slots, last: bool, u, weight, bias, skip, w1, b1, w2, b2, gate, *, out, kept) -> Tensor:
    """Write the layer to `out` and a to `kept`; return the spectrum of u."""
    batch, rows, *_, channels = u.shape
    spectrum = dft.analyse(u, slots)
    y = multiply_modes(spectrum, weight)
    y[dft.zero_mode(slots), 0] += bias
    *firsts, basis = dft.matrices("synthesise", u.shape[1:-1], slots, u)
    t = dft.expand(dft.spread(y), firsts, 2 * slots[-1][1])
    b2_row, gate_row = (t.repeat(u[0, 0].numel() // channels) for t in (b2, gate))
    parts = list(blocks(batch, rows, u[0, 0].numel() * u.element_size()))
    n = _most_points(parts, u)
    a, z, h, o = (empty((n, size), u) for size in (channels, channels, len(b1), channels))
    for b, r in parts:
        ub, ob = u[b, r].view(-1, channels), out[b, r].view(-1, channels)
        n = len(ub)
        ab = a[:n] if kept is None else kept[b, r].view(-1, channels)
        tb = t[b, r].view(-1, *t.shape[-2:])
        torch.bmm(basis.expand(len(tb), -1, -1), tb, out=ab.view(len(tb), len(basis), channels))
        ab.addmm_(ub, skip.T)
        zb = ab if last else _gelu(ab, out=z[:n])
        hb = torch.addmm(b1, zb, w1.T, out=h[:n])
        result = _gated(ub, b2_row, gate_row, out=o[:n]).addmm_(_gelu(hb, out=hb), w2.T)
        ob.copy_(result) if last else _gelu(result, out=ob)
    return spectrum


def _most_points(parts: Sequence[tuple[slice, slice]], u: Tensor) -> int:
    """Return the points of the largest block, the first."""
    b, r = parts[0]
    return u[b, r, ..., 0].numel()


def _gated(ub: Tensor, b2_row: Tensor, gate_row: Tensor, out: Tensor) -> Tensor:
    """Return b2 + g u; rows of points at a time, for short rows of channels are slow to broadcast over."""
    shape = -1, len(gate_row)
    torch.addcmul(b2_row, ub.view(shape), gate_row, out=out.view(shape))
    return out


class _FNOLayer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, slots, last: bool, u: Tensor, *weights: Tensor):
        out, kept = empty(u.shape, u), empty(u.shape, u)
        spectrum = _forward(slots, last, u, *weights, out=out, kept=kept)
        ctx.save_for_backward(u, *weights)
        ctx.slots, ctx.last, ctx.kept = slots, last, (kept, spectrum)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        inputs, slots, last = ctx.saved_tensors, ctx.slots, ctx.last
        if torch.is_grad_enabled() or ctx.kept is None:  # a second derivative, or a second pass
            needed = [t for t, need in zip(inputs, ctx.needs_input_grad[2:]) if need]
            create_graph = torch.is_grad_enabled()
            with torch.enable_grad():
                out = fno_layer_reference(*inputs, slots=slots, last=last)
            grads = iter(torch.autograd.grad(out, needed, grad, create_graph=create_graph))
            return None, None, *(next(grads) if need else None for need in ctx.needs_input_grad[2:])

        u, weight, bias, skip, w1, b1, w2, b2, gate = inputs
        batch, rows, *_, channels = u.shape
        *firsts, basis = dft.matrices("synthesise", u.shape[1:-1], slots, u)
        b2_row, gate_row = (t.repeat(u[0, 0].numel() // channels) for t in (b2, gate))
        grad = grad.contiguous()
        (kept, spectrum), ctx.kept = ctx.kept, None
        grad_t = empty((*u.shape[:-2], basis.shape[1], channels), u)
        g_skip, g_w1, g_b1, g_w2, g_b2, g_gate = (torch.zeros_like(t) for t in (skip, w1, b1, w2, b2, gate))
        parts = list(blocks(batch, rows, u[0, 0].numel() * u.element_size()))
        n = _most_points(parts, u)
        sizes = (channels, len(b1), len(b1), channels, channels)
        memory = [empty((n, size), u) for size in sizes]
        for b, r in parts:
            ub, a, go = (t[b, r].view(-1, channels) for t in (u, kept, grad))
            z, h, g, o, product = (t[: len(ub)] for t in memory)
            z = a if last else _gelu(a, out=z)
            h = torch.addmm(b1, z, w1.T, out=h)
            g = _gelu(h, out=g)
            if not last:
                o = _gated(ub, b2_row, gate_row, out=o).addmm_(g, w2.T)
                go = _gelu_backward(go, o, grad_input=o)
            g_w2 += matrix_gradient(go, g)
            g_b2 += go.sum(0)
            g_gate += torch.mul(go, ub, out=product).sum(0)
            gh = torch.mm(go, w2, out=g)
            gh = _gelu_backward(gh, h, grad_input=gh)
            g_w1 += matrix_gradient(gh, z)
            g_b1 += gh.sum(0)
            ga = torch.mm(gh, w1, out=product)
            if not last:
                ga = _gelu_backward(ga, a, grad_input=ga)
            g_skip += matrix_gradient(ga, ub)
            torch.mul(go.view(-1, len(gate_row)), gate_row, out=a.view(-1, len(gate_row)))
            a.addmm_(ga, skip)
            gt = grad_t[b, r].view(-1, *grad_t.shape[-2:])
            torch.bmm(basis.T.expand(len(gt), -1, -1), ga.view(len(gt), -1, channels), out=gt)
        grad_y = dft.gather(dft.contract(grad_t, [m.T for m in firsts]))
        grad_spectrum, grad_weight = multiply_modes_backward(grad_y, spectrum, weight)
        # The adjoint of the analysis, added in place to what is there.
        *firsts, basis = (m.T for m in dft.matrices("analyse", u.shape[1:-1], slots, u))
        t = dft.expand(dft.spread(grad_spectrum), firsts, len(basis.T)).flatten(0, -3)
        kept.view(len(t), -1, channels).baddbmm_(basis.expand(len(t), -1, -1), t)
        return (
            None,
            None,
            kept,
            grad_weight,
            grad_y[dft.zero_mode(slots), 0].sum(0),
            g_skip,
            g_w1,
            g_b1,
            g_w2,
            g_b2,
            g_gate,
        )
