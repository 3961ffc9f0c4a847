"""Multiply complex Fourier coefficients by complex matrices, mode by mode, in real arithmetic."""

from typing import Protocol

import torch
from torch import Tensor

from opflow.kernels.backend import runs_compiled
from opflow.kernels.memory import empty


def multiply_modes(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply `(batch, 2, modes, in)` by `(modes, in, 2, out)`: `(batch, 2, modes, out)`."""
    if runs_compiled(x, weight) and x.shape[2:] == weight.shape[:2] and not torch.is_grad_enabled():
        from opflow.kernels.cpu.products import multiply_modes as compiled

        return compiled(x.contiguous(), weight.contiguous(), out=empty((*x.shape[:3], weight.shape[3]), x))
    # One real batched product holds the four of a complex one.
    z = torch.bmm(x.permute(2, 1, 0, 3).flatten(1, 2), weight.flatten(2))
    z = z.view(z.shape[0], 2, x.shape[0], 2, -1)  # not len, which would fix a symbolic size
    y = torch.stack([z[:, 0, :, 0] - z[:, 1, :, 1], z[:, 0, :, 1] + z[:, 1, :, 0]])
    return y.permute(2, 0, 1, 3)


class ModeProduct(Protocol):
    """A product of spectra and weights, as a Fourier layer uses it."""

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply a spectrum `(batch, 2, modes, in)`: `(batch, 2, modes, out)`; differentiable."""
        ...

    def fits(self, weight: Tensor, channels: int) -> bool:
        """Whether `weight` maps so many channels to as many."""
        ...

    def backward(self, grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients with respect to x and weight, by the compiled kernel."""
        ...


class PlainProduct:
    """`multiply_modes`: a matrix of its own for each mode, `(modes, in, 2, out)`."""

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply."""
        return multiply_modes(x, weight)

    def fits(self, weight: Tensor, channels: int) -> bool:
        """Whether `weight` maps so many channels to as many."""
        return weight.shape[1:] == (channels, 2, channels)

    def backward(self, grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients with respect to x and weight."""
        from opflow.kernels.cpu.products import multiply_modes_backward

        return multiply_modes_backward(grad, x, weight)
