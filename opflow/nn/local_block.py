"""One layer of a LocalNO: spectral, differential and integral branches, skips, channel MLP."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import gelu

from opflow.kernels.dft import Slot
from opflow.kernels.fno_layer import fno_layer
from opflow.nn.channel_mlp import ChannelLinear, ChannelMLP, SoftGate
from opflow.nn.hooks import has_hooks
from opflow.nn.spectral import SpectralConv, fourier_resample
from opflow.nn.sphere import SphericalConv


class LocalBlock(nn.Module):
    r"""A layer of branches with post-activation.

    .. math:: z = \sigma(K u + L (D + I) u + S u), \qquad u' = \sigma(M z + g \odot u)

    K is the spectral convolution, D and I are local operators channel by channel, which are cheap, and the
    matrix L mixes what they give. S is a matrix too, M the channel MLP, g a gate, :math:`\sigma` GELU, left
    out in the last layer.

    Args:
        channels: channels of input and output.
        spectral: K, on the plane or the sphere, or None.
        local: D, I or their sum, channels to channels on the same grid, or None.
        last: whether this is the last layer of its model.

    Source: Liu-Schiaffini et al., Neural Operators with Localized Integral and Differential Kernels, 2024,
    in the layer of `opflow.nn.FNOBlock`.
    """

    def __init__(
        self,
        channels: int,
        *,
        spectral: SpectralConv | SphericalConv | None,
        local: nn.Module | None,
        last: bool,
    ):
        super().__init__()
        self.conv = spectral
        self.local = local
        self.mix = None if local is None else ChannelLinear(channels, channels, bias=False)
        self.skip = ChannelLinear(channels, channels, bias=False)
        self.mlp = ChannelMLP(channels, max(1, channels // 2), channels, gelu)
        self.gate = SoftGate(channels)
        self.last = last

    def forward(self, u: Tensor, out_grid: Sequence[int] | None = None) -> Tensor:
        """Map `(batch, channel, *space)` to `(batch, channel, *out_grid)`."""
        grid = tuple(u.shape[2:])
        out_grid = grid if out_grid is None else tuple(out_grid)
        local = None if self.local is None or self.mix is None else self.mix(self.local(u))
        conv = self.conv
        if isinstance(conv, SpectralConv) and out_grid == grid:
            slots = conv.slots_on(grid, grid)
            passed_by = (conv, self.skip, self.gate, *self.mlp.modules())
            if conv.uses_products(slots) and not has_hooks(*passed_by):
                return self._forward_fused(conv, u, local, slots)
        z = self.skip(u) if local is None else self.skip(u) + local
        z = fourier_resample(z, out_grid)
        if conv is not None:
            z = z + conv(u, out_grid)
        z = self.mlp(z if self.last else gelu(z)) + fourier_resample(self.gate(u), out_grid)
        return z if self.last else gelu(z)

    def _forward_fused(
        self, conv: SpectralConv, u: Tensor, local: Tensor | None, slots: Sequence[Slot]
    ) -> Tensor:
        first, second = self.mlp.first, self.mlp.second
        assert conv.bias is not None and first.bias is not None and second.bias is not None
        u = fno_layer(
            u.movedim(1, -1),
            conv.weights(slots),
            conv.bias,
            self.skip.weight,
            first.weight,
            first.bias,
            second.weight,
            second.bias,
            self.gate.weight,
            *([] if local is None else [local.movedim(1, -1)]),
            slots=slots,
            last=self.last,
        )
        return u.movedim(-1, 1)


def per_layer(name: str, value: bool | Sequence[bool], n_layers: int) -> list[bool]:
    """Return one answer per layer; a single one counts for all.

    Raises:
        ValueError: there are not `n_layers` of them.

    Example:
        >>> per_layer("diff_layers", True, 3)
        [True, True, True]
    """
    values = list(value) if isinstance(value, Sequence) else [value] * n_layers
    if len(values) != n_layers or not all(isinstance(v, bool) for v in values):
        raise ValueError(f"{name}={value!r} needs one bool, or one per layer, {n_layers} of them")
    return values
