"""Multiply complex Fourier coefficients by complex matrices, mode by mode, in real arithmetic."""

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
