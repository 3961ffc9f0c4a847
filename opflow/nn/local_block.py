"""One layer of a LocalNO: spectral, differential and integral branches, skips, channel MLP."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import gelu

from opflow.kernels.fno_layer import fno_layer
from opflow.nn.channel_mlp import ChannelLinear, ChannelMLP, SoftGate
from opflow.nn.hooks import has_hooks
from opflow.nn.spectral import SpectralConv, fourier_resample
from opflow.nn.sphere import SphericalConv


class LocalBlock(nn.Module):
    r"""A layer of branches with post-activation.

    .. math:: z = \sigma\Big(K u + \sum_b M_b B_b u + S u\Big), \qquad u' = \sigma(M z + g \odot u)

    K is the spectral convolution and B the local branches, each of them followed by a matrix M over the
    channels: kernels that act channel by channel are cheap, and the matrices mix what they give. S is a
    matrix, M the channel MLP, g a gate, :math:`\sigma` GELU, left out in the last layer.

    Args:
        channels: channels of input and output.
        spectral: K, on the plane or the sphere, or None.
        branches: the local operators, channels to channels on the same grid.
        last: whether this is the last layer of its model.

    Source: Liu-Schiaffini et al., Neural Operators with Localized Integral and Differential Kernels, 2024,
    in the layer of `opflow.nn.FNOBlock`.
    """

    def __init__(
        self,
        channels: int,
        *,
        spectral: SpectralConv | SphericalConv | None,
        branches: Sequence[nn.Module],
        last: bool,
    ):
        super().__init__()
        self.conv = spectral
        self.branches = nn.ModuleList(branches)
        self.mixes = nn.ModuleList(ChannelLinear(channels, channels, bias=False) for _ in branches)
        self.skip = ChannelLinear(channels, channels, bias=False)
        self.mlp = ChannelMLP(channels, max(1, channels // 2), channels, gelu)
        self.gate = SoftGate(channels)
        self.last = last

    def forward(self, u: Tensor, out_grid: Sequence[int] | None = None) -> Tensor:
        """Map `(batch, channel, *space)` to `(batch, channel, *out_grid)`."""
        grid = tuple(u.shape[2:])
        out_grid = grid if out_grid is None else tuple(out_grid)
        local = [mix(branch(u)) for mix, branch in zip(self.mixes, self.branches)]
        fusible = isinstance(self.conv, SpectralConv) and out_grid == grid
        if fusible and not has_hooks(self.conv, self.skip, self.gate, *self.mlp.modules()):
            slots = self.conv.slots_on(grid, grid)
            if self.conv.uses_products(slots):
                return self._forward_fused(u, sum(local) if local else None, slots)
        z = fourier_resample(sum(local, self.skip(u)), out_grid)
        if self.conv is not None:
            z = z + self.conv(u, out_grid)
        z = self.mlp(z if self.last else gelu(z)) + fourier_resample(self.gate(u), out_grid)
        return z if self.last else gelu(z)

    def _forward_fused(self, u: Tensor, local: Tensor | None, slots) -> Tensor:
        first, second = self.mlp.first, self.mlp.second
        u = fno_layer(
            u.movedim(1, -1),
            self.conv.weights(slots),
            self.conv.bias,
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
