"""Mesh-informed neural operator: from any points through a latent grid to any points."""

from collections.abc import Sequence
from numbers import Real
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from opflow.nn.arguments import arguments
from opflow.nn.graph_kernel import GraphKernel
from opflow.nn.perceiver import PerceiverBlock
from opflow.nn.point_decoder import PointDecoder
from opflow.nn.point_geometry import PointGeometry
from opflow.nn.point_graph import PointGraph
from opflow.nn.position_code import position_code
from opflow.operators.base import require_positive
from opflow.operators.points import PointOperator


class MINO(PointOperator):
    r"""Mesh-informed neural operator: a graph kernel, attention on a latent grid, attention back to points.

    Each node of a latent grid over the domain averages a learned kernel over the points within a radius;
    transformer blocks, and on request a U-Net, work on the nodes; every query point attends to them. Points
    may lie anywhere and differ from sample to sample, and the output may be asked for elsewhere: the input
    there is then interpolated between the nearest points.

    A head of attention falls off with distance at a rate that it learns. The first of them start as
    interpolation between neighbouring nodes, the last sees far, so that what lies where need not be learned
    from position codes alone.

    Neighbours are found once for each set of points and remembered; `geometry(coords, weights)` makes them
    ahead, for compiled and exported models too. Without gradients, queries are worked off in chunks.

    Args:
        in_channels: channels of the input field.
        out_channels: channels of the output field.
        coord_dim: number of coordinates of a point.
        hidden_channels: width of everything but the U-Net, at least `2 * coord_dim`.
        radius: how far a node sees, in the units of the coordinates; half the diagonal of a latent cell
            covers the domain.
        latent: nodes of the latent grid along each axis, the ends of the domain included.
        n_layers: transformer blocks on the nodes (published: 5, and 2 in front of a U-Net).
        n_heads: attention heads.
        processor: "transformer" for the blocks alone (MINO-T), "unet" for a U-Net behind them (MINO-U).
        attention: "local" for heads that fall off with distance, "global" as published.
        reduction: "quadrature" weighs points by the volume that belongs to them, so that the result does not
            depend on how densely they lie, and ignores nodes without points; "mean", as published, counts
            points alike, and nodes without points as zeros.
        time: whether the map depends on a time, such as that of a flow between distributions.
        domain: the box of the points, `(low, high)` per axis; the unit box when None. Points outside of it
            and out of sight of all nodes are refused.
        decoder_layers: attention layers back to the points; more than one cost the square of their number.

    Shapes:
        `(batch, point, in_channels)` to `(batch, query, out_channels)`.

    Raises:
        ValueError: an argument, or the shape of an input, does not fit; the message says what would.

    Source: Shi et al., Mesh-Informed Neural Operator: A Transformer Generative Approach, 2025 (arXiv
    2506.16656).

    Example:
        >>> import torch
        >>> model = MINO(in_channels=1, out_channels=2, hidden_channels=16, radius=0.3, latent=(5, 5))
        >>> values, coords = torch.randn(3, 50, 1), torch.rand(50, 2)
        >>> model(values, coords).shape
        torch.Size([3, 50, 2])
        >>> model(values, coords, query_coords=torch.rand(7, 2)).shape
        torch.Size([3, 7, 2])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        coord_dim: int = 2,
        hidden_channels: int = 256,
        radius: float = 0.07,
        latent: Sequence[int] = (16, 16),
        n_layers: int = 5,
        n_heads: int = 4,
        processor: str = "transformer",
        attention: str = "local",
        reduction: str = "quadrature",
        time: bool = False,
        domain: Sequence[Sequence[float]] | None = None,
        decoder_layers: int = 1,
    ):
        config = arguments(locals())
        radius, latent, domain = config["radius"], config["latent"], config["domain"]
        require_positive(
            in_channels=in_channels,
            out_channels=out_channels,
            coord_dim=coord_dim,
            n_layers=n_layers,
            decoder_layers=decoder_layers,
        )
        if hidden_channels < 2 * coord_dim or n_heads < 1 or hidden_channels % n_heads:
            raise ValueError(
                f"hidden_channels={hidden_channels} must be at least {2 * coord_dim}, two for each "
                f"coordinate, and a multiple of n_heads={n_heads}"
            )
        for name, value, known in (
            ("processor", processor, ("transformer", "unet")),
            ("attention", attention, ("local", "global")),
            ("reduction", reduction, ("quadrature", "mean")),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is not one of {', '.join(map(repr, known))}")
        if not isinstance(radius, Real) or radius <= 0:
            raise ValueError(f"radius must be a positive number, got {radius!r}")
        super().__init__(in_channels, out_channels, coord_dim, timed=time)
        self.config = config
        self.latent = _latent(latent, coord_dim)
        quadrature = reduction == "quadrature"
        low, high = _box(domain, coord_dim)
        axes = [np.linspace(a, b, n) if n > 1 else [(a + b) / 2] for a, b, n in zip(low, high, self.latent)]
        nodes = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, coord_dim)
        self._graph = PointGraph(nodes, radius, quadrature, np.stack([low, high], 1))
        self._low, self._side = low.tolist(), float((high - low).max())
        # Places are counted from the centre, in distances between nodes; heads start by powers of two.
        self._centre, self._spacing = ((low + high) / 2).tolist(), self._side / max(max(self.latent) - 1, 1)
        self._local = attention == "local"
        blunt = [2.0**-h for h in range(n_heads)] if self._local else None
        sharp = [2 * 2.0 ** (-h / 2) for h in range(n_heads)] if self._local else None

        width, condition = hidden_channels, 4 * hidden_channels if time else None
        self.condition = nn.Sequential(nn.Linear(width, condition), nn.SiLU()) if condition else None
        self.encoder = GraphKernel(in_channels, width)
        self.blocks = nn.ModuleList(PerceiverBlock(width, n_heads, condition, blunt) for _ in range(n_layers))
        self.unet = None
        if processor == "unet":
            from opflow.nn.unet import UNet

            self.unet = UNet(width, width, coord_dim, attention=(1,), embedding_channels=condition)
        self.decoder = PointDecoder(
            in_channels, out_channels, width, n_heads, decoder_layers, condition, sharp
        )

    def graph(self, coords: Tensor, weights: Tensor | None, query_coords: Tensor | None) -> PointGeometry:
        """Join the latent nodes to the points within the radius."""
        return self._graph(coords, weights, query_coords)

    def operate(self, values: Tensor, geometry: PointGeometry, time: Tensor | None) -> Tensor:
        """Map a normalised field to a normalised field at the queries."""
        width = self.encoder.second.out_features
        code = self._code(geometry.coords)
        nodes = torch.as_tensor(self._graph.nodes).to(values)
        tokens = self.encoder(values, geometry, code, self._code(nodes))
        condition = None
        if self.condition is not None and time is not None:
            condition = self.condition(position_code(time[:, None], width))
        mask = None
        if self._graph.quadrature:
            mask = geometry.covered
            mask = mask[None, None, None] if geometry.shared else mask[:, None, None]
        h, places = tokens, self._places(nodes)
        for block in self.blocks:
            block = cast(PerceiverBlock, block)
            h = block(h, block.keys(tokens, condition, places), condition, mask, places)
        if self.unet is not None:
            h = h if mask is None else torch.where(mask[:, 0].mT, h, 0.0)
            h = self.unet(h.mT.unflatten(2, self.latent), condition).flatten(2).mT
        queries, real = geometry.coords, geometry.real
        if geometry.query_coords is not None:
            queries, real = geometry.query_coords, None
            code = self._code(queries)
        values = geometry.at_queries(values)
        return self.decoder(h, values, code, condition, mask, real, self._places(queries), places)

    def _code(self, coords: Tensor) -> Tensor:
        unit = (coords - coords.new_tensor(self._low)) / self._side
        return position_code(unit, self.encoder.second.out_features)

    def _places(self, coords: Tensor) -> Tensor | None:
        return (coords - coords.new_tensor(self._centre)) / self._spacing if self._local else None


def _latent(latent: Sequence[int], coord_dim: int) -> tuple[int, ...]:
    if isinstance(latent, int) or len(latent) != coord_dim or min(latent) < 1:
        raise ValueError(f"latent={latent!r} needs one number of nodes per axis, {coord_dim} of them")
    return tuple(latent)


def _box(domain: Sequence[Sequence[float]] | None, coord_dim: int) -> tuple[np.ndarray, np.ndarray]:
    box = np.asarray([(0.0, 1.0)] * coord_dim if domain is None else domain, dtype=float)
    if box.shape != (coord_dim, 2) or not (box[:, 0] < box[:, 1]).all():
        raise ValueError(
            f"domain={domain!r} needs (low, high) with low < high for each axis, {coord_dim} of them"
        )
    return box[:, 0], box[:, 1]
