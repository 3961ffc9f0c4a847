"""One layer of an FNO: spectral convolution, skips, channel MLP."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from opflow.kernels.dft import Slot
from opflow.kernels.fno_layer import fno_layer
from opflow.nn.activations import SplitActivation
from opflow.nn.channel_mlp import ChannelLinear, ChannelMLP, SoftGate
from opflow.nn.hooks import has_hooks
from opflow.nn.spectral import SpectralConv, fourier_resample


class FNOBlock(nn.Module):
    r"""A Fourier layer with post-activation (the default) or pre-activation.

    .. math:: z = \sigma(N_1(K u) + S u), \qquad u' = \sigma(N_2(M z + G u))

    K is the spectral convolution, S and G are skips, M the channel MLP, N norms. The activations are left
    out in the last layer.

    Args:
        conv: the spectral convolution K.
        activation: the function :math:`\sigma`.
        last: whether this is the last layer of its model.
        skip: kind of S: "linear", "identity", "soft-gating" or None.
        mlp: the channel MLP M, or None.
        mlp_skip: kind of G, as for `skip`.
        norm: "instance_norm", "group_norm", "batch_norm" or None.
        stabilizer: "tanh" bounds the input of K, or None.
        preactivation: activate and normalise the input instead of the output.
    """

    def __init__(
        self,
        conv: SpectralConv,
        activation: Callable[[Tensor], Tensor],
        *,
        last: bool,
        skip: str | None,
        mlp: ChannelMLP | None,
        mlp_skip: str | None,
        norm: str | None = None,
        stabilizer: str | None = None,
        preactivation: bool = False,
    ):
        super().__init__()
        channels, complex_data = conv.out_channels, conv.complex_data
        self.conv = conv
        self.skip = _skip(skip, channels, complex_data)
        self.mlp = mlp
        self.mlp_skip = _skip(mlp_skip, channels, complex_data) if mlp is not None else None
        self.norms = nn.ModuleList(_norm(norm, channels, len(conv.n_modes), complex_data) for _ in range(2))
        self.activation = activation
        self.last, self.preactivation = last, preactivation
        self.stabilizer = _stabilizer(stabilizer, complex_data)
        self._fused = (
            isinstance(self.skip, ChannelLinear)
            and isinstance(self.mlp_skip, SoftGate)
            and mlp is not None
            and activation is mlp.activation is nn.functional.gelu
            and not (norm or stabilizer or preactivation or complex_data)
            and not conv.separable
            and conv.bias is not None
        )

    def forward(self, u: Tensor, out_grid: Sequence[int] | None = None) -> Tensor:
        """Map `(batch, channel, *space)` to `(batch, channel, *out_grid)`."""
        grid = tuple(u.shape[2:])
        out_grid = grid if out_grid is None else tuple(out_grid)
        if self._fused and out_grid == grid and not self._watched():
            slots = self.conv.slots_on(grid, grid)
            if self.conv.uses_products(slots):
                return self._forward_fused(u, slots)
        before, after = self.norms
        if self.preactivation:
            u = before(self.activation(u))
        z = self.conv(self.stabilizer(u), out_grid)
        if not self.preactivation:
            z = before(z)
        if self.skip is not None:
            z = z + fourier_resample(self.skip(u), out_grid)
        if not self.last:
            z = self.activation(z)
        if self.preactivation:
            z = after(z)
        if self.mlp is not None:
            z = self.mlp(z)
            if self.mlp_skip is not None:
                z = z + fourier_resample(self.mlp_skip(u), out_grid)
        if self.preactivation:
            return z
        z = after(z)
        return z if self.last else self.activation(z)

    def _watched(self) -> bool:
        """Whether something happens in a part that the fused layer passes by."""
        assert self.skip is not None and self.mlp is not None and self.mlp_skip is not None
        parts = (self.conv, self.skip, self.mlp_skip, *self.mlp.modules())
        return self.mlp.dropout.p > 0 or has_hooks(*parts)

    def _forward_fused(self, u: Tensor, slots: Sequence[Slot]) -> Tensor:
        assert (
            isinstance(self.skip, ChannelLinear)
            and isinstance(self.mlp_skip, SoftGate)
            and self.mlp is not None
        )
        first, second = self.mlp.first, self.mlp.second
        assert self.conv.bias is not None and first.bias is not None and second.bias is not None
        u = fno_layer(
            u.movedim(1, -1),
            self.conv.weights(slots),
            self.conv.bias,
            self.skip.weight,
            first.weight,
            first.bias,
            second.weight,
            second.bias,
            self.mlp_skip.weight,
            slots=slots,
            last=self.last,
        )
        return u.movedim(-1, 1)


def _stabilizer(kind: str | None, complex_data: bool) -> nn.Module:
    if kind is None:
        return nn.Identity()
    if kind == "tanh":
        return SplitActivation(torch.tanh) if complex_data else nn.Tanh()
    raise ValueError(f"stabilizer={kind!r} is not one of 'tanh', None")


def _skip(kind: str | None, channels: int, complex_data: bool) -> nn.Module | None:
    if kind is None:
        return None
    if kind == "linear":
        return ChannelLinear(channels, channels, bias=False, complex_data=complex_data)
    if kind == "identity":
        return nn.Identity()
    if kind == "soft-gating":
        return SoftGate(channels)
    raise ValueError(f"skip={kind!r} is not one of 'linear', 'identity', 'soft-gating', None")


def _norm(kind: str | None, channels: int, n_dim: int, complex_data: bool) -> nn.Module:
    if kind is None:
        return nn.Identity()
    if complex_data:
        raise ValueError(f"norm={kind!r} is defined for real data only; use norm=None with complex_data")
    if kind == "instance_norm":
        return nn.GroupNorm(channels, channels, affine=False)
    if kind == "group_norm":
        return nn.GroupNorm(1, channels)
    if kind == "batch_norm":
        return (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[n_dim - 1](channels)
    raise ValueError(f"norm={kind!r} is not one of 'instance_norm', 'group_norm', 'batch_norm', None")
