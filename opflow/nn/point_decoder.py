"""From latent nodes to any points: each asks for what it needs."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from opflow.nn.perceiver import PerceiverBlock

_CHUNK = 8192  # queries at a time, over all samples, so that memory does not grow with their number


class PointDecoder(nn.Module):
    r"""Cross-attention of query points to latent nodes, and a linear map behind it.

    The query at y is :math:`Q_2 \, \mathrm{GELU}(Q_y e(y) + Q_v V(f(y)) + q)` with the position code e and a
    two-layer perceptron V, so the input at a point reaches the output there directly. Layers after the first
    are self-attention of all query points.

    Args:
        in_channels: channels of f.
        out_channels: channels of the output.
        channels: width.
        n_heads: attention heads.
        n_layers: attention layers; more than one cost the square of the number of points.
        condition_channels: length of the condition; None for none.
        sharpness: of each head at first, see `PerceiverBlock`; None for attention without places.

    Source: Shi et al., Mesh-Informed Neural Operator, 2025.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: int,
        n_heads: int,
        n_layers: int,
        condition_channels: int | None,
        sharpness: Sequence[float] | None = None,
    ):
        super().__init__()
        self.value_first = nn.Linear(in_channels, channels)
        self.value_second = nn.Linear(channels, channels)
        self.query_first = nn.Linear(2 * channels, 2 * channels)  # columns: e(y), V(f(y))
        self.query_second = nn.Linear(2 * channels, channels)
        self.blocks = nn.ModuleList(
            PerceiverBlock(channels, n_heads, condition_channels, sharpness) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.project = nn.Linear(channels, out_channels)

    def forward(
        self,
        latent: Tensor,
        values: Tensor,
        code: Tensor,
        condition: Tensor | None,
        mask: Tensor | None,
        real: Tensor | None,
        places: Tensor | None = None,
        node_places: Tensor | None = None,
    ) -> Tensor:
        """Evaluate at query points.

        Args:
            latent: features of the nodes `(batch, node, channels)`.
            values: f at the queries `(batch, query, in_channels)`.
            code: position code of the queries `([batch,] query, channels)`.
            condition: `(batch, condition_channels)`.
            mask: which nodes there are, bool `(batch or 1, 1, 1, node)`; all when None.
            real: which queries there are, bool `(batch, query)`; all when None.
            places: of the queries, `([batch,] query, dim)`; with `sharpness` only.
            node_places: of the nodes, `(node, dim)`; likewise.

        Returns:
            `(batch, query, out_channels)`.
        """
        first, *others = (cast(PerceiverBlock, block) for block in self.blocks)
        batch = latent.shape[0]
        keys = first.keys(latent, condition, node_places)
        queries = zip(self._queries(values, code), _chunks(places, batch))
        found = (first(q, keys, condition, mask, x) for q, x in queries)
        if not others:
            return _join(self._output(x) for x in found)
        x = _join(found)
        mask = None if real is None else real[:, None, None]
        for block in others:
            keys = block.keys(x, condition, places)
            chunks = zip(_chunks(x, batch), _chunks(places, batch))
            x = _join(block(q, keys, condition, mask, p) for q, p in chunks)
        return self._output(x)

    def _output(self, x: Tensor) -> Tensor:
        return self.project(self.norm(x))

    def _queries(self, values: Tensor, code: Tensor) -> Iterator[Tensor]:
        by_code, by_value = self.query_first.weight.chunk(2, 1)
        # The second layer of V and the columns for it are one matrix.
        matrix = by_value @ self.value_second.weight
        bias = self.query_first.bias + by_value @ self.value_second.bias
        batch = values.shape[0]
        for v, c in zip(_chunks(values, batch), _chunks(code, batch)):
            inner = linear(gelu(self.value_first(v)), matrix, bias) + linear(c, by_code)
            yield self.query_second(gelu(inner))


def _chunks(x: Tensor | None, batch: int) -> Iterable[Any]:
    """Cut along the points; not for a backward pass, which keeps all anyway, nor in a graph of any size."""
    if x is None:
        return repeat(None)
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return (x,)
    return x.split(max(1, _CHUNK // batch), -2)


def _join(parts: Iterable[Tensor]) -> Tensor:
    found = list(parts)
    return found[0] if len(found) == 1 else torch.cat(found, 1)
