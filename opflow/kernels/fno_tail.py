r"""One Fourier layer as a single autograd node that keeps its temporaries in cache.

.. math::
    a = F^{-1}Y + S u, \quad h = W_1 \sigma(a) + b_1, \quad o = W_2 \sigma(h) + b_2 + g \odot u, \quad
    u' = \sigma(o)

with the exact GELU :math:`\sigma` (left out at :math:`a` and :math:`o` in a last layer). Y are the kept
Fourier coefficients of the spectral convolution.

Written as separate operations the layer allocates and walks through a dozen full-size tensors; on a CPU
that costs as much as the arithmetic (fresh pages have to be faulted in), and training keeps five of them.
Everything behind the spectrum is local to a row of pixels, so here it runs over blocks of samples or rows
that fit the cache, and training keeps a alone: the rest is recomputed, block by block, on the way back.

`fno_tail` is the operation; `fno_tail_reference` defines it, in plain differentiable torch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu

from opflow.kernels import dft
from opflow.kernels.blocks import add_product, blocks

Slots = Sequence[tuple[int, int]]


def fno_tail_reference(
    y: Tensor,
    slots: Slots,
    u: Tensor,
    skip: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    gate: Tensor,
    *,
    last: bool,
) -> Tensor:
    """Evaluate the layer behind the spectrum, operation by operation.

    Shapes:
        y `(batch, c, 2, modes)`, u `(batch, c, *space)`, skip `(c, c)`, w1 `(h, c)`, b1 `(h,)`,
        w2 `(c, h)`, b2 and gate `(c,)`; returns `(batch, c, *space)`.
    """
    space = u.shape[2:]
    a = dft.synthesise_grid(y, slots, space).flatten(2)
    flat = u.flatten(2)
    a = a + skip @ flat
    h = w1 @ (a if last else gelu(a)) + b1[:, None]
    o = w2 @ gelu(h) + b2[:, None] + gate[:, None] * flat
    return (o if last else gelu(o)).unflatten(2, space)


def fno_tail(
    y: Tensor,
    slots: Slots,
    u: Tensor,
    skip: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    gate: Tensor,
    *,
    last: bool,
) -> Tensor:
    """Evaluate `fno_tail_reference`, block by block on a CPU; under a compiler, which fuses by itself, as is.

    Twice differentiable; the second derivative goes through the reference.
    """
    if u.device.type != "cpu" or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return fno_tail_reference(y, slots, u, skip, w1, b1, w2, b2, gate, last=last)
    return _FNOTail.apply(tuple(slots), last, y, u.contiguous(), skip, w1, b1, w2, b2, gate)


class _FNOTail(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, slots: Slots, last: bool, y, u, skip, w1, b1, w2, b2, gate):
        batch, channels, *space = u.shape
        points, row = u[0, 0].numel(), u[0, 0, 0].numel()
        keep = any(ctx.needs_input_grad)
        u_flat = u.view(batch, channels, points)
        out = torch.empty_like(u_flat)
        kept = torch.empty_like(u_flat) if keep else None
        for b, r in blocks(batch, space[0], max(channels, len(w1)) * row * u.element_size()):
            p = slice(r.start * row, r.stop * row)
            ub = u_flat[b, :, p]
            a = _synthesise_rows(y[b], slots, space, r)
            a.baddbmm_(_batch(skip, ub), ub)
            if kept is not None:
                kept[b, :, p] = a
            h = torch.baddbmm(b1[:, None], _batch(w1, ub), a if last else gelu(a))
            o = torch.addcmul(b2[:, None], gate[:, None], ub)
            o.baddbmm_(_batch(w2, ub), gelu(h))
            if last:
                out[b, :, p] = o
            else:
                torch.ops.aten.gelu.out(o, out=out[b, :, p])
        ctx.save_for_backward(y, u, skip, w1, b1, w2, b2, gate, kept)
        ctx.slots, ctx.last = slots, last
        return out.view_as(u)

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        *inputs, kept = ctx.saved_tensors
        if torch.is_grad_enabled():  # a second derivative is asked for
            return None, None, *_reference_backward(ctx, inputs, grad)
        y, u, skip, w1, b1, w2, b2, gate = inputs
        slots, last = ctx.slots, ctx.last
        batch, channels, *space = u.shape
        row = u[0, 0, 0].numel()
        u_flat, grad = u.view(batch, channels, -1), grad.reshape(batch, channels, -1)
        grad_u = torch.empty_like(u_flat)
        grad_y, *grad_weights = (torch.zeros_like(t) for t in (y, skip, w1, b1, w2, b2, gate))
        g_skip, g_w1, g_b1, g_w2, g_b2, g_gate = grad_weights
        gelu_backward = torch.ops.aten.gelu_backward
        for b, r in blocks(batch, space[0], max(channels, len(w1)) * row * u.element_size()):
            p = slice(r.start * row, r.stop * row)
            ub, a, go = u_flat[b, :, p], kept[b, :, p], grad[b, :, p]
            z = a if last else gelu(a)
            h = torch.baddbmm(b1[:, None], _batch(w1, ub), z)
            g = gelu(h)
            if not last:
                o = torch.addcmul(b2[:, None], gate[:, None], ub)
                go = gelu_backward(go, o.baddbmm_(_batch(w2, ub), g))
            add_product(g_w2, go, g)
            g_b2 += go.sum((0, 2))
            g_gate += (go * ub).sum((0, 2))
            gh = gelu_backward(torch.bmm(_batch(w2.T, ub), go), h)
            add_product(g_w1, gh, z)
            g_b1 += gh.sum((0, 2))
            ga = torch.bmm(_batch(w1.T, ub), gh)
            if not last:
                ga = gelu_backward(ga, a)
            add_product(g_skip, ga, ub)
            torch.baddbmm(go * gate[:, None], _batch(skip.T, ub), ga, out=grad_u[b, :, p])
            _synthesise_rows_adjoint(ga, slots, space, r, grad_y[b])
        return None, None, grad_y, grad_u.view_as(u), *grad_weights


def _batch(matrix: Tensor, like: Tensor) -> Tensor:
    return matrix.expand(len(like), -1, -1)


def _reference_backward(ctx: Any, inputs: Sequence[Tensor], grad: Tensor) -> list[Tensor | None]:
    needed = [t for t, need in zip(inputs, ctx.needs_input_grad[2:]) if need]
    y, *rest = inputs
    out = fno_tail_reference(y, ctx.slots, *rest, last=ctx.last)
    grads = iter(torch.autograd.grad(out, needed, grad, create_graph=True))
    return [next(grads) if need else None for need in ctx.needs_input_grad[2:]]


def _synthesise_rows(y: Tensor, slots: Slots, space: Sequence[int], rows: slice) -> Tensor:
    """Inverse-transform `(b, c, 2, modes)` to some rows of the first axis: `(b, c, points)`."""
    if len(space) > 1:
        (first, count), n = slots[0], space[0]
        matrix = dft.matrix("synthesise", n, first, count, y)[2 * rows.start : 2 * rows.stop]
        y = matrix @ y.unflatten(-1, (count, -1)).flatten(2, 3)
        y = y.unflatten(2, (-1, 2))
        for (first, count), n in zip(slots[1:-1], space[1:]):
            y = dft.synthesise(y.unflatten(-1, (count, -1)), first, n)
        return dft.synthesise_real(y, slots[-1][0], space[-1]).flatten(2)
    matrix = dft.matrix("synthesise_real", space[0], *slots[0], y)
    return y.flatten(2) @ matrix[:, rows]


def _synthesise_rows_adjoint(
    g: Tensor, slots: Slots, space: Sequence[int], rows: slice, total: Tensor
) -> None:
    """Add the adjoint of `_synthesise_rows` at `(b, c, points)` to `total`, `(b, c, 2, modes)`."""
    last = dft.matrix("synthesise_real", space[-1], *slots[-1], g)
    if len(space) == 1:
        total += (g @ last[:, rows].T).view_as(total)
        return
    g = g.unflatten(2, (rows.stop - rows.start, *space[1:]))
    g = g @ last.T  # (b, c, rows, ..., 2 m)
    for (first, count), n in zip(slots[-2:0:-1], space[-2:0:-1]):
        matrix = dft.matrix("synthesise", n, first, count, g)
        g = matrix.T @ g.unflatten(-1, (2, -1)).flatten(-3, -2)  # (b, c, rows, ..., 2 m, r)
        g = g.unflatten(-2, (2, -1)).flatten(-2)
        g = g.flatten(-2)
    matrix = dft.matrix("synthesise", space[0], *slots[0], g)[2 * rows.start : 2 * rows.stop]
    g = g.unflatten(-1, (2, -1)).flatten(2, 3)
    total += (matrix.T @ g).view_as(total)
