"""Attention from one set of features to another, conditioned on a vector, windowed by distance."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from opflow.kernels.channel_mlp import channel_mlp


class PerceiverBlock(nn.Module):
    r"""Cross-attention and a channel MLP, each behind a residual; scaled, shifted and gated by a condition.

    :math:`q' = q + g_a A(M_q N q, M_k N k)`, :math:`q'' = q' + g_m \mathrm{MLP}(M_m N q')` with the norm N
    over channels and modulations :math:`M u = (1 + \alpha) u + \beta`. All of :math:`\alpha, \beta, g` are
    linear in the condition; without one, M is learned and the gates are one.

    With `sharpness`, queries and keys have places, and attention falls off with the distance: head h adds
    :math:`-\tfrac12 s_h^2 |x - y|^2` to its logits, the sharpness s being learned. A sharp head starts as
    interpolation from the nearest keys, a blunt one sees them all; without it a network has to find out from
    position codes which keys are near.

    Args:
        channels: width of queries, keys and values.
        n_heads: attention heads, a divisor of `channels`.
        condition_channels: length of the condition; None for blocks without.
        sharpness: of each head at first, over the unit of the places; None for attention without places.

    Source: Jaegle et al., Perceiver, 2021; the modulation as in Peebles and Xie, Scalable Diffusion Models
    with Transformers, 2023, but with gates that are one at first.
    """

    def __init__(
        self,
        channels: int,
        n_heads: int,
        condition_channels: int | None = None,
        sharpness: Sequence[float] | None = None,
    ):
        super().__init__()
        if channels % n_heads:
            raise ValueError(f"n_heads={n_heads} does not divide the {channels} channels")
        self.n_heads = n_heads
        self.sharpness = None if sharpness is None else nn.Parameter(torch.tensor(sharpness))
        self.modulation = None
        if condition_channels is None:
            self.scale = nn.Parameter(torch.zeros(3, channels))
            self.shift = nn.Parameter(torch.zeros(3, channels))
        else:
            self.modulation = nn.Linear(condition_channels, 8 * channels)
            nn.init.zeros_(self.modulation.bias)
            with torch.no_grad():
                self.modulation.weight.mul_(0.1)
                for gate in (4, 7):
                    self.modulation.bias[gate * channels : (gate + 1) * channels] = 1.0
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(channels, 2 * channels)
        self.project = nn.Linear(channels, channels)
        self.first = nn.Linear(channels, 4 * channels)
        self.second = nn.Linear(4 * channels, channels)

    def keys(
        self, kv: Tensor, condition: Tensor | None, places: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return keys and values `(batch, head, key, channel)`, to be used for many chunks of queries.

        Args:
            kv: `(batch, key, channels)`.
            condition: `(batch, condition_channels)`.
            places: of the keys, `([batch,] key, dim)`; with `sharpness` only.
        """
        _, _, scale, shift, *_ = self._modulation(condition)
        keys, values = self.key_value(_modulated(kv, scale, shift)).chunk(2, -1)
        keys, values = self._heads(keys), self._heads(values)
        if self.sharpness is None or places is None:
            return keys, values
        # -s^2 |x - y|^2 / 2 is, but for what the softmax does not see, (s^2 x, -s^2 / 2) . (y, |y|^2).
        y = self._at_heads(places, keys)
        keys = torch.cat([keys, y, y.square().sum(-1, keepdim=True)], -1)
        return keys, pad(values, (0, keys.shape[-1] - values.shape[-1]))  # of one length, for fused kernels

    def forward(
        self,
        q: Tensor,
        keys: tuple[Tensor, Tensor],
        condition: Tensor | None = None,
        mask: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Update queries.

        Args:
            q: `(batch, query, channels)`.
            keys: what `keys` returned.
            condition: `(batch, condition_channels)`.
            mask: which keys there are, bool `(batch or 1, 1, 1, key)`; all when None.
            places: of the queries, `([batch,] query, dim)`; with `sharpness` only.
        """
        scale, shift, _, _, gate, mlp_scale, mlp_shift, mlp_gate = self._modulation(condition)
        queries = self._heads(self.query(_modulated(q, scale, shift)))
        size, factor = queries.shape[-1], queries.shape[-1] ** -0.5
        if self.sharpness is not None and places is not None:
            x, s = self._at_heads(places, queries), self.sharpness.square()[:, None, None]
            queries = torch.cat([factor * queries, s * x, (-0.5 * s).expand(*x.shape[:-1], 1)], -1)
            factor = 1.0
        found = scaled_dot_product_attention(queries, *keys, attn_mask=mask, scale=factor)[..., :size]
        update = self.project(found.transpose(1, 2).flatten(2))
        q = torch.addcmul(q, gate, update)
        normed = _modulated(q, mlp_scale, mlp_shift)
        first, second = self.first, self.second
        update = channel_mlp(normed, first.weight, first.bias, second.weight, second.bias)
        return torch.addcmul(q, mlp_gate, update)

    def _modulation(self, condition: Tensor | None) -> tuple[Tensor, ...]:
        """Scale and shift of queries, scale and shift of keys, gate; scale, shift and gate of the MLP."""
        if self.modulation is not None:
            return self.modulation(condition)[:, None].chunk(8, -1)
        (q, k, m), (sq, sk, sm) = self.scale, self.shift
        one = q.new_ones(())
        return q, sq, k, sk, one, m, sm, one

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    def _at_heads(self, places: Tensor, like: Tensor) -> Tensor:
        return places.to(like.dtype).unsqueeze(-3).expand(*like.shape[:-1], -1)


def _modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    return torch.addcmul(shift, torch.nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)
