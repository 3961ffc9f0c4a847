r"""The published G-FNO layer as a single autograd node.

.. math:: u' = \sigma(W_2\, \sigma(W_1 N(K(N u)) + b_1) + b_2 + S u)

N is the instance norm over points and slots, K a product of spectra, and the exact GELU :math:`\sigma` is
left out outside in a last layer. Dividing is the same on both sides of a transform; K(N u) is band-limited,
so that its variance is the sum of squares of its modes (Parseval), and that of u takes one look at u. The
mean of u would change nothing but the rounding of the other modes, which the second norm enlarges: it is
taken out before the transform. What follows the second norm is local to a point:
`opflow.kernels.cpu.normed_layer` does it tile by tile in cache, forth and back, and training keeps u and
spectra.

Fields are channels-last, `(batch, *space, slot * channel)`; the linear maps are those of
`opflow.kernels.blocks`. `normed_layer_reference` defines the operation.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu

from opflow.kernels import dft
from opflow.kernels.backend import reference_gradients, runs_compiled
from opflow.kernels.blocks import block_linear, walsh
from opflow.kernels.group_modes import GroupProduct
from opflow.kernels.memory import empty

_EPSILON = 1e-5  # that of torch's instance norm


def normed_layer_reference(
    u: Tensor,
    theta: Tensor,
    w1: Tensor,
    b1: Tensor,
    w2: Tensor,
    b2: Tensor,
    skip: Tensor,
    *,
    product: GroupProduct,
    slots: Sequence[dft.Slot],
    last: bool,
) -> Tensor:
    """Evaluate the layer operation by operation.

    Shapes:
        u `(batch, *space, c)`, theta as `product` takes it; for n blocks w1 `(n, h / n, c / n)`, b1 `(h,)`,
        w2 `(n, c / n, h / n)`, b2 `(c,)`, skip `(n, c / n, c / n)`; returns `(batch, *space, c)`.
    """
    y = normed_spectrum(u, theta, product=product, slots=slots)
    a = dft.synthesise(y, slots, u.shape[1:-1])
    o = block_linear(gelu(block_linear(a, w1, b1)), w2, b2) + block_linear(u, skip)
    return o if last else gelu(o)


def normed_spectrum(
    u: Tensor,
    theta: Tensor,
    *,
    product: GroupProduct,
    slots: Sequence[dft.Slot],
    analyse: Callable[[Tensor, Sequence[dft.Slot]], Tensor] = dft.analyse,
) -> Tensor:
    """Return the spectrum of N(K(N u)) for u `(batch, *space, slot * channel)`; `analyse` transforms it."""
    by_slot = u.unflatten(-1, (product.order, -1))
    x = (by_slot - by_slot.mean((*range(1, u.ndim - 1), -2), keepdim=True)).flatten(-2)
    squares = x.square().flatten(1, -2).unflatten(-1, (product.order, -1)).mean((1, 2))
    return normed_product(analyse(x, slots), squares, theta, product, slots)


def normed_product(
    spectrum: Tensor, variance: Tensor, theta: Tensor, product: GroupProduct, slots: Sequence[dft.Slot]
) -> Tensor:
    """Return the spectrum of N(K(N u)) from the spectrum and the variance of u, whose mean is zero."""
    x = spectrum.unflatten(-1, (product.order, -1)) * _scale(variance)
    y = product(x.flatten(-2), theta).unflatten(-1, (product.order, -1))  # (batch, 2, modes, slot, channel)
    constant, columns = dft.zero_mode(slots), slots[-1][1]
    # A mode of the half spectrum stands for its conjugate too, but for those of the first column.
    counts = y.new_full((2, y.shape[2] // columns, columns), 2.0)
    counts[:, :, 0] = 1.0
    counts = counts.flatten(1)
    counts[0, constant] = 0.0  # the mean of a slot: only its spread over slots counts
    total = (y.square() * counts[..., None, None]).sum((1, 2, 3))
    spread = y[:, 0, constant].var(1, correction=0)
    y = y * _scale(total / product.order + spread)
    y[:, 0, constant] -= y[:, 0, constant].mean(1, keepdim=True)
    return y.flatten(-2)


def _scale(variance: Tensor) -> Tensor:
    return torch.rsqrt(variance + _EPSILON)[:, None, None, None]


def normed_layer(*inputs: Tensor, product: GroupProduct, slots: Sequence[dft.Slot], last: bool) -> Tensor:
    """Evaluate `normed_layer_reference`, with compiled kernels where they run.

    Twice differentiable; the second derivative goes through the reference.
    """
    if not (runs_compiled(*inputs) and _fit(product, *inputs)):  # what does not fit, the reference refuses
        return normed_layer_reference(*inputs, product=product, slots=slots, last=last)
    return _NormedLayer.apply(product, tuple(slots), last, *(t.contiguous() for t in inputs))  # pyright: ignore


def _fit(product: GroupProduct, u: Tensor, theta: Tensor, *others: Tensor) -> bool:
    n, h, c = others[0].shape
    shapes = [(n, h, c), (n * h,), (n, c, h), (n * c,), (n, c, c)]
    fits = u.shape[-1] == n * c and product.fits(theta, n * c)
    return fits and n in (1, 2, 4) and [tuple(t.shape) for t in others] == shapes


def _lines(x: Tensor) -> Tensor:
    return x.view(-1, *x.shape[-2:])


class _NormedLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, product: GroupProduct, slots, last: bool, u: Tensor, theta: Tensor, *weights: Tensor
    ):
        from opflow.kernels.cpu import normed_layer as cpu
        from opflow.kernels.cpu.moments import squares_about

        ctx.product, ctx.slots, ctx.last = product, slots, last
        means = u.flatten(1, -2).mean(1).unflatten(-1, (product.order, -1))
        mean = means.mean(1).repeat(1, product.order)
        spectrum = dft.analyse(u - mean.view(len(u), *(1,) * len(slots), -1), slots)
        squares = squares_about(u.flatten(1, -2), mean).unflatten(-1, (product.order, -1)).sum(1)
        points = math.prod(u.shape[1:-1])
        variances, theta_leaf = squares / (product.order * points), theta.detach()
        # Between two transforms everything is small; there autograd differentiates.
        with torch.set_grad_enabled(any(ctx.needs_input_grad)):
            ctx.leaves = [
                t.requires_grad_(torch.is_grad_enabled()) for t in (spectrum, variances, theta_leaf)
            ]
            ctx.y = normed_product(spectrum, variances, theta_leaf, product, slots)
        *firsts, basis = dft.matrices("synthesise", u.shape[1:-1], slots, u)
        t = dft.expand(walsh(ctx.y.detach(), len(weights[0])), firsts, basis.shape[1])
        out = empty(u.shape, u)
        cpu.forward(_lines(u), _lines(t), basis, *weights, last=last, out=_lines(out))
        ctx.save_for_backward(u, theta, *weights, mean)
        return out

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        *inputs, mean = ctx.saved_tensors
        product, slots, last = ctx.product, ctx.slots, ctx.last
        if torch.is_grad_enabled() or not runs_compiled(grad, *inputs):
            reference = partial(normed_layer_reference, product=product, slots=slots, last=last)
            needed = ctx.needs_input_grad[3:]
            return None, None, None, *reference_gradients(reference, inputs, needed, grad)

        from opflow.kernels.cpu import normed_layer as cpu
        from opflow.kernels.cpu.moments import add_offsets
        from opflow.kernels.cpu.products import bmm

        u, _, *weights = inputs
        blocks = len(weights[0])
        *firsts, basis = dft.matrices("synthesise", u.shape[1:-1], slots, u)
        t = dft.expand(walsh(ctx.y.detach(), blocks), firsts, basis.shape[1])
        grad_t, grad_u = empty(t.shape, t), empty(u.shape, u)
        lines = [_lines(x) for x in (grad.contiguous(), u, t)]
        grads = cpu.backward(*lines, basis, *weights, last=last, grad_t=_lines(grad_t), grad_u=_lines(grad_u))
        grad_y = walsh(dft.contract(grad_t, [m.T for m in firsts]), blocks)
        grad_spectrum, grad_variance, grad_theta = torch.autograd.grad(
            ctx.y, ctx.leaves, grad_y, retain_graph=True
        )
        # The adjoints of analysis and variance, added in place to what is there.
        *firsts, basis = (m.T for m in dft.matrices("analyse", u.shape[1:-1], slots, u))
        t = dft.expand(grad_spectrum.contiguous(), firsts, basis.shape[1])
        bmm(basis, _lines(t), out=_lines(grad_u), accumulate=True)
        scale = grad_variance.repeat(1, product.order) * (2 / (product.order * math.prod(u.shape[1:-1])))
        add_offsets(u.flatten(1, -2), mean, scale, out=grad_u.flatten(1, -2))
        return None, None, None, grad_u, grad_theta, *grads
