r"""Multiply Fourier coefficients by matrices that a point group ties to each other.

.. math:: y(g, k) = \sum_h W(g^{-1} h, g^{-1} k)\, x(h, k), \qquad
    W(k) = \tfrac12 (\theta(k) + \theta(-k)) - \tfrac{i}{2} (\theta(k) - \theta(-k))

The matrix of a mode, over all slots at once, has `order` times as many entries as :math:`\theta` has for it. To
write them all out and take their gradient back costs a tenth of a training step (p4, 64 x 64 points, batch 16),
to turn the spectra instead and fold the slots into the batch as much, in narrow products of few columns. So
`opflow.kernels.cpu.group_modes` writes out one matrix at a time, where it is used and in cache. Modes that turn
into each other share :math:`\theta`: each such orbit is one item of work.

`GroupProduct.matrices` and `opflow.kernels.modes.multiply_modes` define the operation.
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

    def fits(self, theta: Tensor, channels: int) -> bool:
        """Whether `theta` maps so many channels, slots counted, to as many."""
        return (
            theta.ndim == 4
            and theta.shape[1] == self.order
            and theta.shape[2:] == (channels // self.order,) * 2
        )

    def matrices(self, theta: Tensor) -> Tensor:
        """Write the matrices out: `(modes, order * in, 2, order * out)`."""
        _, order, n_in, n_out = theta.shape
        mirrored = theta.flip(0)
        both = torch.stack([theta + mirrored, mirrored - theta], 2) / 2
        blocks = both.flatten(0, 1).index_select(0, self.sources.flatten())
        blocks = blocks.view(-1, order, order, 2, n_in, n_out).permute(0, 2, 4, 3, 1, 5)
        return blocks.reshape(len(blocks), order * n_in, 2, order * n_out)

    def __call__(self, x: Tensor, theta: Tensor) -> Tensor:
        """Multiply `(batch, 2, modes, order * in)`: `(batch, 2, modes, order * out)`; twice differentiable."""
        if not runs_compiled(x, theta):
            return multiply_modes(x, self.matrices(theta))
        if torch.is_grad_enabled() and (x.requires_grad or theta.requires_grad):
            return _GroupProduct.apply(self, x, theta)  # pyright: ignore[reportReturnType]
        return self.forward(x, theta)

    def forward(self, x: Tensor, theta: Tensor) -> Tensor:
        """Multiply by the compiled kernel, without derivatives."""
        from opflow.kernels.cpu.group_modes import multiply

        out = empty((*x.shape[:3], self.order * theta.shape[3]), x)
        return multiply(x.contiguous(), theta.contiguous(), self.sources, *self._items(), out=out)

    def backward(self, grad: Tensor, x: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients with respect to x and theta, by the compiled kernel."""
        from opflow.kernels.cpu.group_modes import multiply_backward

        inputs = (grad.contiguous(), x.contiguous(), theta.contiguous())
        return multiply_backward(*inputs, self.sources, *self._items())

    def _items(self) -> tuple[Tensor, Tensor]:
        """Return the modes orbit by orbit, and where each orbit begins, with the end."""
        counts = torch.unique_consecutive(self.orbits.sort().values, return_counts=True)[1]
        return self.orbits.argsort(stable=True), torch.cat([counts.new_zeros(1), counts.cumsum(0)])


class _GroupProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, product: GroupProduct, x: Tensor, theta: Tensor):
        ctx.product = product
        ctx.save_for_backward(x, theta)
        return product.forward(x, theta)

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        product, inputs = ctx.product, ctx.saved_tensors
        if torch.is_grad_enabled() or not runs_compiled(grad, *inputs):
            return None, *reference_gradients(product, inputs, ctx.needs_input_grad[1:], grad)
        return None, *product.backward(grad, *inputs)
