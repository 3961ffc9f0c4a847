"""U-Net: residual convolutions on a ladder of grids, for any grid."""

from collections.abc import Iterator, Sequence
from itertools import repeat

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from opflow.nn.convolution import Convolution, channels_last
from opflow.nn.residual import GroupNorm, Grow, ResidualBlock, SelfAttention


class UNet(nn.Module):
    r"""Residual U-Net with optional self-attention and conditioning.

    Each level has `blocks` residual blocks on the way down and `blocks + 1` on the way up, which see what the
    way down left behind; between levels the grid is halved by a strided convolution and doubled by nearest
    neighbours and a convolution. A side of n points becomes one of :math:`\lceil n / 2 \rceil`, and on the
    way up it is cut to n again, so any grid will do.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        n_dim: number of space dimensions, 1 to 3.
        channels: width of the finest level.
        multipliers: width of each level over `channels`; their number is that of the levels.
        blocks: residual blocks per level.
        attention: levels whose residual blocks are followed by self-attention, 0 the finest; unless there are
            none, the middle has it too. Its cost is quadratic in the points of a level.
        heads: attention heads.
        embedding_channels: length of the vector that conditions every residual block (a time, a label), or
            None for no conditioning.
        circular: periodic fields. The U-Net then commutes with shifts by multiples of `2**(levels - 1)`
            points on grids that such multiples divide.

    Shapes:
        x `(batch, in_channels, *space)`, embedding `(batch, embedding_channels)`; returns
        `(batch, out_channels, *space)`.

    Raises:
        ValueError: widths that `heads` do not divide, levels that do not exist, an embedding that is missing
            or not expected.

    Source: Ronneberger, Fischer, Brox, U-Net, 2015; residual blocks and attention as in Dhariwal and Nichol,
    Diffusion Models Beat GANs on Image Synthesis, 2021.

    Example:
        >>> import torch
        >>> net = UNet(3, 2, channels=8, multipliers=(1, 2), embedding_channels=16)
        >>> net(torch.zeros(1, 3, 9, 14), torch.zeros(1, 16)).shape
        torch.Size([1, 2, 9, 14])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_dim: int = 2,
        channels: int = 64,
        multipliers: Sequence[int] = (1, 2, 2, 2),
        blocks: int = 1,
        attention: Sequence[int] = (),
        heads: int = 4,
        embedding_channels: int | None = None,
        circular: bool = False,
    ):
        super().__init__()
        if n_dim not in (1, 2, 3):
            raise ValueError(f"n_dim must be 1, 2 or 3, got {n_dim}")
        sizes = {"channels": channels, "blocks": blocks, "levels": len(multipliers), "heads": heads}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"a U-Net needs at least one of each of {', '.join(sizes)}; {name}={size}")
        widths = [channels * m for m in multipliers]
        for level in attention:
            if not 0 <= level < len(widths):
                raise ValueError(f"attention={tuple(attention)}: levels are 0 to {len(widths) - 1}")
        for width in {widths[level] for level in attention} | ({widths[-1]} if attention else set()):
            if width % heads:
                raise ValueError(f"heads={heads} does not divide the {width} channels of a level")

        def stage(n_in: int, level: int, attends: bool) -> nn.ModuleList:
            block = ResidualBlock(n_in, widths[level], n_dim, circular)
            return nn.ModuleList([block, SelfAttention(widths[level], heads)] if attends else [block])

        self.first = Convolution(in_channels, channels, n_dim, circular=circular)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        width, left = channels, [channels]
        deepest = len(widths) - 1
        for level in range(deepest + 1):
            stages = nn.ModuleList()
            for _ in range(blocks):
                stages.append(stage(width, level, level in attention))
                width = widths[level]
                left.append(width)
            self.down.append(stages)
            if level < deepest:
                self.shrink.append(Convolution(width, width, n_dim, stride=2, circular=circular))
                left.append(width)
        self.middle = nn.ModuleList(stage(width, deepest, bool(attention) and not i) for i in range(2))
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level in reversed(range(deepest + 1)):
            stages = nn.ModuleList()
            for _ in range(blocks + 1):
                stages.append(stage(width + left.pop(), level, level in attention))
                width = widths[level]
            self.up.append(stages)
            if level:
                self.grow.append(Grow(width, n_dim, circular))
        self.norm = GroupNorm(width)
        self.last = Convolution(width, out_channels, n_dim, circular=circular)
        # Scales and shifts of all blocks, in the order of their use, come from one matrix product.
        self.embedding_channels = embedding_channels
        self._sizes = [2 * m.out_channels for m in self.modules() if isinstance(m, ResidualBlock)]
        self.condition = nn.Linear(embedding_channels, sum(self._sizes)) if embedding_channels else None

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Map `(batch, in_channels, *space)` to `(batch, out_channels, *space)`."""
        conditions = self._conditions(embedding)
        x = self.first(channels_last(x))
        left = [x]
        for level, stages in enumerate(self.down):
            for stage in stages.children():
                x = _apply(stage, x, conditions)
                left.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
                left.append(x)
        for stage in self.middle:
            x = _apply(stage, x, conditions)
        for level, stages in enumerate(self.up):
            for stage in stages.children():
                x = _apply(stage, torch.cat([x, left.pop()], 1), conditions)
            if level < len(self.grow):
                x = self.grow[level](x, left[-1].shape[2:])
        return self.last(self.norm(x))

    def _conditions(self, embedding: Tensor | None) -> Iterator[Tensor | None]:
        if embedding is None and self.condition is None:
            return repeat(None)
        wanted, got = self.embedding_channels, None if embedding is None else tuple(embedding.shape)
        if embedding is None or self.condition is None or embedding.shape[1:] != (wanted,):
            raise ValueError(
                f"this U-Net was built for embedding_channels={wanted}: it "
                f"{'needs an' if wanted else 'takes no'} embedding, "
                f"got {'none' if got is None else f'one of shape {got}'}"
            )
        return iter(self.condition(silu(embedding)).split(self._sizes, 1))


def _apply(stage: nn.Module, x: Tensor, conditions: Iterator[Tensor | None]) -> Tensor:
    block, *attention = stage.children()
    x = block(x, next(conditions))
    for module in attention:
        x = module(x)
    return x
