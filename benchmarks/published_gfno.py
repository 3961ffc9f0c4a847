"""The published structure of a G-FNO, plainly: kernels turned and stacked at every call, full FFTs.

Written from the formulas of Helwig et al. 2023 with the parameter names of the published implementation, so
that `opflow.interop.from_gfno` reads its state dict. Features are `(batch, channel, element, y, x)`; elements
0..3 are quarter turns R^g, 4..7 their mirrored ones F R^g, F a flip of y.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu, instance_norm


def stacked(kernel: Tensor) -> Tensor:
    """Turn a base kernel `(out, in, element, y, x)` for each element: `(out, element, in, element, y, x)`."""
    order = kernel.shape[2]
    base = kernel[:, :, :4]
    turned = []
    for g in range(4):
        parts = [base.roll(g, 2)]
        if order == 8:
            parts.append(kernel[:, :, 4:].roll(-g, 2))
        turned.append(torch.cat(parts, 2).rot90(g, (-2, -1)))
    if order == 8:
        turned += [k.roll(4, 2).flip(-2) for k in turned]
    return torch.stack(turned, 1)


class GroupConv(nn.Module):
    """A pointwise group convolution; from plain fields without, to plain fields with one weight for all."""

    def __init__(self, n_in: int, n_out: int, order: int, first: bool = False, last: bool = False):
        super().__init__()
        self.first, self.last, self.order = first, last, order
        elements = () if first or last else (order,)
        bound = 1 / math.sqrt(n_in * (1 if first else order))
        self.W = nn.Parameter(torch.empty(n_out, 1, n_in, *elements, 1, 1).uniform_(-bound, bound))
        self.B = nn.Parameter(torch.empty(1, n_out, 1, 1).uniform_(-bound, bound))

    def forward(self, u: Tensor) -> Tensor:
        """Apply the map."""
        n_out, _, n_in = self.W.shape[:3]
        bias = self.B.flatten()
        if self.first:
            weight = self.W.repeat(1, self.order, 1, 1, 1)
            return conv2d(u, weight.flatten(0, 1), bias.repeat_interleave(self.order)).unflatten(
                1, (n_out, self.order)
            )
        if self.last:
            weight = self.W[..., None, :, :].repeat(1, 1, 1, self.order, 1, 1)
            return conv2d(u.flatten(1, 2), weight.view(n_out, -1, 1, 1), bias)
        weight = stacked(self.W.squeeze(1)).reshape(n_out * self.order, n_in * self.order, 1, 1)
        y = conv2d(u.flatten(1, 2), weight, bias.repeat_interleave(self.order))
        return y.unflatten(1, (n_out, self.order))


class HermitianKernel(nn.Module):
    """The image of a real kernel on the modes |ky|, |kx| < m, in the three pieces that determine it."""

    def __init__(self, width: int, order: int, m: int):
        super().__init__()
        bound = 1 / math.sqrt(width * order)

        def piece(y: int, x: int, dtype: torch.dtype) -> nn.Parameter:
            w = torch.empty(width, 1, width, order, y, x, 1 + dtype.is_complex).uniform_(-bound, bound)
            return nn.Parameter(torch.view_as_complex(w) if dtype.is_complex else w.squeeze(-1))

        pieces = {
            "00_modes": piece(1, 1, torch.float32),
            "y0_modes": piece(m - 1, 1, torch.complex64),
            "yposx_modes": piece(2 * m - 1, m - 1, torch.complex64),
        }
        for name, parameter in pieces.items():
            self.register_parameter(name, parameter)

    def forward(self) -> Tensor:
        """Put the pieces together."""
        constant, y0, positive = (
            getattr(self, name).squeeze(1) for name in ("00_modes", "y0_modes", "yposx_modes")
        )
        column = torch.cat([y0, constant.to(y0.dtype), y0.flip(-2).conj()], -2)
        return torch.cat([positive.rot90(2, (-2, -1)).conj(), column, positive], -1)


class GroupSpectralConv(nn.Module):
    """A spectral convolution by the stacked kernels, between two full FFTs."""

    def __init__(self, width: int, order: int, m: int):
        super().__init__()
        self.m = m
        self.conv = nn.ModuleDict({"W": HermitianKernel(width, order, m)})

    def forward(self, u: Tensor) -> Tensor:
        """Apply the convolution."""
        m, (height, columns) = self.m, u.shape[-2:]
        weight = stacked(self.conv["W"]())[..., m - 1 :].flatten(2, 3).flatten(0, 1)
        x = torch.fft.fftshift(torch.fft.rfft2(u.flatten(1, 2)), -2)
        rows = slice(height // 2 - m + 1, height // 2 + m)
        y = torch.zeros_like(x)
        y[..., rows, :m] = torch.einsum("bikl,oikl->bokl", x[..., rows, :m], weight)
        y = torch.fft.irfft2(torch.fft.ifftshift(y, -2), s=(height, columns))
        return y.unflatten(1, u.shape[1:3])


class GroupMLP(nn.Module):
    """Two pointwise group convolutions with a GELU between them."""

    def __init__(self, n_in: int, hidden: int, n_out: int, order: int, last: bool = False):
        super().__init__()
        self.mlp1 = GroupConv(n_in, hidden, order)
        self.mlp2 = GroupConv(hidden, n_out, order, last=last)

    def forward(self, u: Tensor) -> Tensor:
        """Apply both."""
        return self.mlp2(gelu(self.mlp1(u)))


class PublishedGFNO(nn.Module):
    """Four layers, with the squared distance from the middle of the grid as a further input channel."""

    def __init__(self, m: int, in_channels: int, width: int, order: int):
        super().__init__()
        self.p = GroupConv(in_channels + 1, width, order, first=True)
        for layer in range(4):
            self.add_module(f"conv{layer}", GroupSpectralConv(width, order, m))
            self.add_module(f"mlp{layer}", GroupMLP(width, width, width, order))
            self.add_module(f"w{layer}", GroupConv(width, width, order))
        self.q = GroupMLP(width, 4 * width, 1, order, last=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(batch, channel, y, x)`."""
        axes = [torch.linspace(-0.5, 0.5, n).square() for n in x.shape[2:]]
        distance = (axes[0][:, None] + axes[1]).expand(len(x), 1, -1, -1)
        u = self.p(torch.cat([x, distance], 1))
        for layer in range(4):
            conv, mlp, skip = (self.get_submodule(f"{name}{layer}") for name in ("conv", "mlp", "w"))
            u = mlp(instance_norm(conv(instance_norm(u)))) + skip(u)
            if layer < 3:
                u = gelu(u)
        return self.q(u)
