r"""Multiply Fourier coefficients by matrices that a point group ties to each other.

.. math:: y(g, k) = \sum_h W(g^{-1} h, g^{-1} k)\, x(h, k), \qquad
    W(k) = \tfrac12 (\theta(k) + \theta(-k)) - \tfrac{i}{2} (\theta(k) - \theta(-k))

The matrix of a mode, over all slots at once, has `order` times as many entries as :math:`\theta` has for it. To
write them all out takes longer, and so does the other way, to turn the spectra and fold the slots into the batch:
even its product alone, which has few columns, is slower than all of this (p4 and p4m, batches of 16). So
`opflow.kernels.cpu.group_modes` writes out one matrix at a time, where it is used and in cache. Modes that turn
into each other share :math:`\theta`: each such orbit is one item of work.

`GroupProduct.reference` defines the operation.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from opflow.kernels.backend import reference_gradients, runs_compiled
from opflow.kernels.memory import empty
from opflow.kernels.modes import multiply_modes


@dataclass(frozen=True, eq=False)
class GroupProduct:
    r"""The product for some modes k of a half spectrum.

    Args:
        sources: `(modes, g, h)`, where the block :math:`\theta(g^{-1} h, g^{-1} k)` stands among those of a
            parameter `(all modes, order, in, out)`, whose modes are symmetric about the middle one.
        orbits: `(modes,)`, numbers that are equal for modes that turn into each other or their negatives.
    """

    sources: Tensor
    orbits: Tensor

    @property
    def order(self) -> int:
        """Number of slots."""
        return self.sources.shape[-1]

    def fits(self, weight: Tensor, channels: int) -> bool:
        """Whether `weight` maps so many channels, slots counted, to as many."""
        return (
            weight.ndim == 4
            and weight.shape[1] == self.order
            and weight.shape[2:] == (channels // self.order,) * 2
        )

    def matrices(self, weight: Tensor) -> Tensor:
        """Write the matrices out: `(modes, order * in, 2, order * out)`."""
        _, order, n_in, n_out = weight.shape
        mirrored = weight.flip(0)
        both = torch.stack([weight + mirrored, mirrored - weight], 2) / 2
        blocks = both.flatten(0, 1).index_select(0, self.sources.flatten())
        blocks = blocks.view(-1, order, order, 2, n_in, n_out).permute(0, 2, 4, 3, 1, 5)
        return blocks.reshape(len(blocks), order * n_in, 2, order * n_out)

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        """Map `(batch, 2, modes, order * in)` to `(batch, 2, modes, order * out)`; twice differentiable."""
        if not runs_compiled(x, weight):
            return self.reference(x, weight)
        if torch.is_grad_enabled() and (x.requires_grad or weight.requires_grad):
            return _GroupProduct.apply(self, x, weight)  # pyright: ignore[reportReturnType]
        return self.forward(x, weight)

    def reference(self, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply operation by operation."""
        return multiply_modes(x, self.matrices(weight))

    def forward(self, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply by the compiled kernel, without derivatives."""
        from opflow.kernels.cpu.group_modes import multiply

        out = empty((*x.shape[:3], self.order * weight.shape[3]), x)
        return multiply(x.contiguous(), weight.contiguous(), self.sources, *self._items(), out=out)

    def backward(self, grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients with respect to x and weight, by the compiled kernel."""
        from opflow.kernels.cpu.group_modes import multiply_backward

        inputs = (grad.contiguous(), x.contiguous(), weight.contiguous())
        return multiply_backward(*inputs, self.sources, *self._items())

    def _items(self) -> tuple[Tensor, Tensor]:
        """Return the modes orbit by orbit, and where each orbit begins, with the end."""
        counts = torch.unique_consecutive(self.orbits.sort().values, return_counts=True)[1]
        return self.orbits.argsort(stable=True), torch.cat([counts.new_zeros(1), counts.cumsum(0)])


class _GroupProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, product: GroupProduct, x: Tensor, weight: Tensor):
        ctx.product = product
        ctx.save_for_backward(x, weight)
        return product.forward(x, weight)

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        product, inputs = ctx.product, ctx.saved_tensors
        if torch.is_grad_enabled() or not runs_compiled(grad, *inputs):
            return None, *reference_gradients(product.reference, inputs, ctx.needs_input_grad[1:], grad)
        return None, *product.backward(grad, *inputs)
