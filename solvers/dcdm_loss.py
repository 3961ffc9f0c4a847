"""The loss of the Deep Conjugate Direction Method: what one step along a direction leaves of the residual."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from solvers.grid import GridPoisson


@final
class DirectionLoss(nn.Module):
    r"""What a step along a direction leaves of the residual; the length of the direction does not matter.

    $$ \sum_i |b - \alpha A f|_i^2, \qquad \alpha = \frac{\langle f, b\rangle}{\langle f, A f\rangle}, $$

    a mean over the batch. $\alpha$ makes the error smallest in the $A$-norm, so no solutions are needed.
    Called as a loss of `opflow.fit`, with the network's direction as prediction and the right-hand side as
    target.

    Args:
        op: the operator $A$.

    Source: Kaneda et al., A Deep Conjugate Direction Method, ICML 2023.

    Example:
        >>> import numpy as np
        >>> loss = DirectionLoss(GridPoisson(np.ones((4, 4), bool)))
        >>> x = torch.randn(2, 1, 4, 4)
        >>> bool(loss(-5 * x, loss.product(x)) < 1e-9)
        True
    """

    def __init__(self, op: GridPoisson):
        super().__init__()
        stencil = op.stencil
        self.periodic = stencil.periodic
        self.register_buffer("mask", torch.as_tensor(stencil.mask, dtype=torch.float32))
        # h does not matter, and entries around 1 suit float32.
        scale = float(stencil.diagonal.max())
        for axis, weights in enumerate(stencil.weights):
            self.register_buffer(f"weights{axis}", torch.as_tensor(weights / scale, dtype=torch.float32))

    def product(self, u: Tensor) -> Tensor:
        """Return $Au$ over the largest entry of $A$, for fields `(..., *sizes)`, differentiably."""
        u = u * self.get_buffer("mask")
        total = torch.zeros_like(u)
        for axis, periodic in enumerate(self.periodic):
            at = axis - len(self.periodic)
            first, last = u.narrow(at, 0, 1), u.narrow(at, u.shape[at] - 1, 1)
            ends = (last, first) if periodic else (torch.zeros_like(first), torch.zeros_like(last))
            flux = self.get_buffer(f"weights{axis}") * torch.cat([ends[0], u, ends[1]], at).diff(dim=at)
            total = total - flux.diff(dim=at)
        return total * self.get_buffer("mask")

    def forward(self, direction: Tensor, b: Tensor) -> Tensor:
        """Return the loss of directions for right-hand sides, both `(batch, 1, *sizes)`."""
        Af = self.product(direction)
        axes = tuple(range(1, b.ndim))
        curvature = (direction * Af).sum(axes, keepdim=True)
        alpha = (direction * b).sum(axes, keepdim=True) / curvature.clamp_min(torch.finfo(b.dtype).tiny)
        return (b - alpha * Af).square().sum(axes).mean()
