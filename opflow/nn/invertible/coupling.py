"""Coupling layers: part of the channels is scaled and shifted by what a network makes of the others."""

import torch
from torch import Tensor, nn

from opflow.kernels.coupling import affine_coupling, affine_uncoupling
from opflow.nn.invertible.bijection import Bijection
from opflow.nn.invertible.conditioning import Condition
from opflow.nn.invertible.coupling_net import CouplingNet


class AffineCoupling(Bijection):
    r"""Scale and shift half of the channels by functions of the other half.

    :math:`z_2 = e^{s(x_1)} x_2 + t(x_1)`, :math:`z_1 = x_1`. The log-determinant is the sum of s, which is
    bounded by 2 in absolute value. The identity at the start.

    Args:
        channels: channels of the input, at least 2; the first half, rounded up, stays as it is.
        hidden_channels: width of the network.
        condition: what conditions it, see `Conditioner`.
        circular: the network continues fields periodically.

    Raises:
        ValueError: fewer than two channels.

    Source: Dinh, Sohl-Dickstein and Bengio, Real NVP, 2017.

    Example:
        >>> layer, x = AffineCoupling(5, hidden_channels=8), torch.randn(2, 5, 4, 3)
        >>> _ = layer.net.last.weight.data.normal_(std=0.1)
        >>> z, logdet = layer(x)
        >>> torch.allclose(layer.inverse(z)[0], x, atol=1e-5)
        True
    """

    def __init__(
        self, channels: int, hidden_channels: int, condition: Condition = None, circular: bool = False
    ):
        super().__init__()
        require_channels(channels, 2, "AffineCoupling")
        self.kept = channels - channels // 2
        self.net = CouplingNet(self.kept, 2 * (channels // 2), hidden_channels, condition, circular)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scale and shift the second half."""
        return affine_coupling(x, self.net(x[:, : self.kept], cond))

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Shift and scale the second half back."""
        return affine_uncoupling(z, self.net(z[:, : self.kept], cond))


class QuadCoupling(Bijection):
    r"""Scale and shift each quarter of the channels by functions of all quarters before it.

    Encoding evaluates the three networks independently of each other, decoding one after the other. The
    identity at the start; log-scales are bounded by 2.

    Args:
        channels: channels of the input, at least 4; the first quarter stays as it is.
        hidden_channels: width of each network.
        condition: what conditions them, see `Conditioner`.
        circular: the networks continue fields periodically.

    Raises:
        ValueError: fewer than four channels.

    Source: Nagar, Dufraisse and Varma, CInC Flow, 2021, whose published code inverts another quarter than it
    transforms.

    Example:
        >>> layer, x = QuadCoupling(6, hidden_channels=8), torch.randn(2, 6, 4, 3)
        >>> z, logdet = layer(x)
        >>> torch.allclose(layer.inverse(z)[0], x, atol=1e-5)
        True
    """

    def __init__(
        self, channels: int, hidden_channels: int, condition: Condition = None, circular: bool = False
    ):
        super().__init__()
        require_channels(channels, 4, "QuadCoupling")
        self.ends = [channels * part // 4 for part in range(1, 5)]
        self.nets = nn.ModuleList(
            CouplingNet(start, 2 * (end - start), hidden_channels, condition, circular)
            for start, end in zip(self.ends, self.ends[1:])
        )

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scale and shift all quarters but the first."""
        parts, total = [x[:, : self.ends[0]]], x.new_zeros(len(x))
        for net, start, end in zip(self.nets, self.ends, self.ends[1:]):
            part, logdet = affine_coupling(x[:, start:end], net(x[:, :start], cond))
            parts.append(part)
            total = total + logdet
        return torch.cat(parts, 1), total

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Shift and scale them back, in order."""
        x, total = z[:, : self.ends[0]], z.new_zeros(len(z))
        for net, start, end in zip(self.nets, self.ends, self.ends[1:]):
            part, logdet = affine_uncoupling(z[:, start:end], net(x, cond))
            x = torch.cat([x, part], 1)
            total = total + logdet
        return x, total


def require_channels(channels: int, least: int, layer: str) -> None:
    """Refuse fields that have too few channels to be divided."""
    if channels < least:
        raise ValueError(
            f"{layer} divides the channels into {least} parts, got channels={channels}: "
            "squeeze the field first"
        )
