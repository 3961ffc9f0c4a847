"""Convolution of images with 3x3 kernels, as one node.

Winograd's algorithm takes a quarter of the multiplications of the definition, forward and for both gradients.
It pays where tiles stay in a core's cache between its steps, which `opflow.kernels.cpu.winograd` sees to.
Rounding errors are a few times those of the direct sum, 1e-6 and less of the result.
"""

from collections.abc import Sequence
from functools import partial
from math import ceil
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from opflow.kernels.backend import reference_gradients, runs_compiled
from opflow.kernels.memory import empty

_FEWEST_CHANNELS, _FEWEST_TILES = 16, 16  # below, transforms cost more than they save
_FEW_BESIDE_MANY, _PRODUCT = 8, 512  # but for fewer channels on one side when there are many on the other


def conv3x3_reference(x: Tensor, weight: Tensor, bias: Tensor, pad: int) -> Tensor:
    """Convolve `(batch, in, row, column)`, `pad` zeros around it, with `(out, in, 3, 3)`; add `(out,)`."""
    return conv2d(x, weight, bias, padding=pad)


def conv3x3(x: Tensor, weight: Tensor, bias: Tensor, pad: int) -> Tensor:
    """Evaluate `conv3x3_reference` for pad 0 or 1, with compiled kernels where they run and pay.

    Twice differentiable; the second derivative goes through the reference.
    """
    if not torch.is_grad_enabled():
        return Conv3x3(weight, bias, pad)(x)
    if not (runs_compiled(x, weight, bias) and _pays(x, weight, bias, pad)):
        return conv3x3_reference(x, weight, bias, pad)
    return _Conv3x3.apply(x, weight, bias, pad)


class Conv3x3:
    """`conv3x3` for many fields with one weight, while no gradients are recorded: its transform is kept.

    Args:
        weight: as for `conv3x3`.
        bias: as for `conv3x3`.
        pad: as for `conv3x3`.

    Example:
        >>> weight, bias, x = torch.randn(4, 3, 3, 3), torch.randn(4), torch.randn(2, 3, 5, 6)
        >>> with torch.no_grad():
        ...     torch.equal(Conv3x3(weight, bias, 1)(x), conv3x3(x, weight, bias, 1))
        True
    """

    def __init__(self, weight: Tensor, bias: Tensor, pad: int):
        self.weight, self.bias, self.pad = weight, bias, pad
        self._transformed: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """Convolve."""
        weight, bias, pad = self.weight, self.bias, self.pad
        if not (runs_compiled(x, weight, bias) and _pays(x, weight, bias, pad)):
            return conv3x3_reference(x, weight, bias, pad)
        if self._transformed is None:
            self._transformed = _transform(weight)
        return _convolve(x, self._transformed, bias, pad)


def _transform(weight: Tensor) -> Tensor:
    from opflow.kernels.cpu import winograd

    return winograd.transform_weight(weight.permute(2, 3, 1, 0).contiguous())


def _convolve(x: Tensor, transformed: Tensor, bias: Tensor, pad: int) -> Tensor:
    from opflow.kernels.cpu import winograd

    field = x.movedim(1, -1).contiguous()
    batch, rows, columns, _ = field.shape
    out = empty((batch, rows + 2 * pad - 2, columns + 2 * pad - 2, len(bias)), field)
    winograd.convolve(field, transformed, bias.contiguous(), pad, out)
    return out.movedim(-1, 1)


def _pays(x: Tensor, weight: Tensor, bias: Tensor, pad: int) -> bool:
    n_out, n_in = weight.shape[:2]
    fits = x.ndim == 4 and weight.shape == (n_out, n_in, 3, 3) and x.shape[1] == n_in
    if not (fits and bias.shape == (n_out,) and pad in (0, 1)):
        return False  # what does not fit, the reference refuses
    rows, columns = (n + 2 * pad - 2 for n in x.shape[2:])
    if rows < 1 or columns < 1:
        return False
    tiles = ceil(rows / 4) * ceil(columns / 4)
    fills = rows * columns >= 6 * tiles  # at four points to a tile, nothing would be saved
    fewest = _FEW_BESIDE_MANY if n_in * n_out >= _PRODUCT else _FEWEST_CHANNELS
    return fills and min(n_in, n_out) >= fewest and len(x) * tiles >= _FEWEST_TILES


class _Conv3x3(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, pad: int):
        ctx.save_for_backward(x, weight, bias)
        ctx.pad = pad
        return _convolve(x, _transform(weight), bias, pad)

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, bias = ctx.saved_tensors
        needs_x, needs_weight, needs_bias, _ = ctx.needs_input_grad
        if torch.is_grad_enabled() or not runs_compiled(grad, x, weight):
            grads = reference_gradients(
                partial(conv3x3_reference, pad=ctx.pad),
                (x, weight, bias),
                (needs_x, needs_weight, needs_bias),
                grad,
            )
            return *grads, None
        return *_gradients(grad, x, weight, ctx.pad, (needs_x, needs_weight, needs_bias)), None


def conv3x3_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, bias: Tensor, pad: int, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    """Return the gradients of input, weight and bias of `conv3x3`, those needed; not differentiable."""
    if runs_compiled(grad, x, weight, bias) and _pays(x, weight, bias, pad):
        return _gradients(grad, x, weight, pad, needed)
    one, sides = [1, 1], [pad, pad]
    return torch.ops.aten.convolution_backward(
        grad, x, weight, [len(weight)], one, sides, one, False, [0, 0], 1, list(needed)
    )


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, pad: int, needed: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    from opflow.kernels.cpu import winograd

    needs_x, needs_weight, needs_bias = needed
    grad = grad.movedim(1, -1).contiguous()
    grad_x = grad_weight = None
    if needs_x:
        # The transpose is the convolution with the weights turned by half a turn, in and out exchanged.
        turned = winograd.transform_weight(weight.flip(2, 3).permute(2, 3, 0, 1).contiguous())
        grad_x = empty((len(x), *x.shape[2:], x.shape[1]), x)
        winograd.convolve(grad, turned, None, 2 - pad, grad_x)
        grad_x = grad_x.movedim(-1, 1)
    if needs_weight:
        spectrum = winograd.weight_gradient(x.movedim(1, -1).contiguous(), grad, pad)
        grad_weight = winograd.adjoint_of_transform_weight(spectrum).permute(3, 2, 0, 1)
    return grad_x, grad_weight, grad.sum((0, 1, 2)) if needs_bias else None
