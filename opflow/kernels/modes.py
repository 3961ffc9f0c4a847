"""Multiply complex Fourier coefficients by complex matrices, mode by mode, in real arithmetic."""

import torch
from torch import Tensor

from opflow.kernels.memory import bmm


def multiply_modes(x: Tensor, weight: Tensor) -> Tensor:
    """Multiply `(modes, 2, batch, in)` by `(modes, in, 2, out)`: `(modes, 2, batch, out)`.

    One real batched product holds the four of a complex one.
    """
    modes, _, batch, _ = x.shape
    z = bmm(x.flatten(1, 2), weight.flatten(2)).view(modes, 2, batch, 2, -1)
    return torch.stack([z[:, 0, :, 0] - z[:, 1, :, 1], z[:, 0, :, 1] + z[:, 1, :, 0]], 1)


def multiply_modes_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of `multiply_modes` with respect to x and weight."""
    real, imag = grad.unbind(1)  # (modes, batch, out)
    z = torch.stack([torch.stack([real, imag], 2), torch.stack([imag, -real], 2)], 1)
    z = z.flatten(3).flatten(1, 2)  # (modes, 2 batch, 2 out)
    grad_x = bmm(z, weight.flatten(2).mT).view_as(x)
    grad_weight = bmm(x.flatten(1, 2).mT, z).view_as(weight)
    return grad_x, grad_weight
