"""Plain transformer on the patches of a field."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from opflow.nn.arguments import arguments
from opflow.nn.convolution import channels_last, cut, pad_to_multiple
from opflow.nn.embed import grid_coordinates
from opflow.nn.transformer import TransformerLayer, grid_angles
from opflow.operators.base import Operator, require_positive
from opflow.operators.own_grid import check_own_grid

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class PatchTransformer(Operator):
    """Transformer with full softmax attention among the patches of a field, on any grid.

    A grid that patches do not divide is filled up at its ends, and the result cut. On another grid than it
    was trained on, positions keep their meaning, but patches cover another part of space.

    Args:
        in_channels: channels of the input field.
        out_channels: channels of the output field.
        n_dim: number of space dimensions, 1 to 3.
        patch: points of a patch along each axis.
        hidden_channels: length of the vector of a patch.
        n_layers: number of transformer layers.
        heads: attention heads; each has `hidden_channels / heads` numbers, at least two per axis.
        circular: periodic fields. Positions are then known by their differences round the period alone, and
            the operator commutes with shifts by whole patches on grids that patches divide; otherwise the
            coordinates are appended to the input, too.

    Shapes:
        `(batch, in_channels, *space)` to `(batch, out_channels, *space)`.

    Raises:
        ValueError: a size that does not fit, or an output grid other than that of the input.

    Source: Dosovitskiy et al., An Image is Worth 16x16 Words, 2021; Su et al., RoFormer, 2021 (positions).

    Example:
        >>> model = PatchTransformer(1, 2, patch=4, hidden_channels=16, n_layers=1, heads=2)
        >>> model(torch.zeros(1, 1, 17, 20)).shape
        torch.Size([1, 2, 17, 20])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        n_dim: int = 2,
        patch: int = 4,
        hidden_channels: int = 256,
        n_layers: int = 6,
        heads: int = 8,
        circular: bool = False,
    ):
        config = arguments(locals())
        require_positive(patch=patch, hidden_channels=hidden_channels, n_layers=n_layers, heads=heads)
        if n_dim not in (1, 2, 3):
            raise ValueError(f"n_dim must be 1, 2 or 3, got {n_dim}")
        if hidden_channels % heads or hidden_channels // heads < 2 * n_dim:
            raise ValueError(
                f"hidden_channels={hidden_channels} must be a multiple of heads={heads}, and at least "
                f"{2 * n_dim} times as many for {n_dim} space dimensions"
            )
        super().__init__(in_channels, out_channels, n_dim)
        self.config = config
        self.patch, self.circular = patch, circular
        self.pairs = hidden_channels // heads // (2 * n_dim)
        embedded = in_channels + (0 if circular else n_dim)
        self.first = _CONVOLUTIONS[n_dim - 1](embedded, hidden_channels, patch, stride=patch)
        self.layers = nn.ModuleList(TransformerLayer(hidden_channels, heads) for _ in range(n_layers))
        self.norm = nn.LayerNorm(hidden_channels)
        self.last = _TRANSPOSED[n_dim - 1](hidden_channels, out_channels, patch, stride=patch)

    def operate(self, x: Tensor, out_grid: Sequence[int] | None) -> Tensor:
        """Apply the transformer; only the grid of `x` is possible."""
        check_own_grid("PatchTransformer", x.shape[2:], out_grid)
        grid = x.shape[2:]
        if not self.circular:
            coordinates = grid_coordinates(grid, x).expand(x.shape[0], *(-1,) * (x.ndim - 1))
            x = torch.cat([x, coordinates], 1)
        u = self.first(channels_last(pad_to_multiple(x, self.patch, self.circular)))
        patches = u.shape[2:]
        at = [
            torch.arange(count, dtype=x.dtype, device=x.device) * self.patch / n
            for count, n in zip(patches, grid)
        ]
        angles = grid_angles(at, self.pairs, self.circular)
        u = u.flatten(2).transpose(1, 2)
        for layer in self.layers:
            u = layer(u, angles)
        u = self.norm(u).transpose(1, 2).unflatten(2, patches)
        return cut(self.last(channels_last(u)), grid)
