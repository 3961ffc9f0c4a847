"""Fields on meshes as vectors of one length, whatever the meshes."""

from collections.abc import Sequence

import torch
from torch import Tensor


def cosine_means(
    u: Tensor,
    coords: Tensor,
    weights: Tensor,
    highest: int = 4,
    lengths: float | Sequence[float] = 1.0,
    origin: float | Sequence[float] = 0.0,
) -> Tensor:
    r"""Means of fields at points against cosines, so that laws on different meshes can be compared.

    .. math:: m_k = \sum_i w_i u(x_i) \prod_a \cos(\pi k_a (x_{ia} - o_a) / L_a) \Big/ \sum_i w_i,
        \qquad 0 \le k_a \le h

    Args:
        u: `(batch, channel, point)`.
        coords: positions `(batch, point, dim)` or `(point, dim)`.
        weights: quadrature weights `(batch, point)` or `(point,)`; zero for points that do not count.
        highest: h, the largest number of half waves along an axis.
        lengths: sides L of the box around the points, one number or one per axis.
        origin: its lower corner o.

    Returns:
        `(batch, channel, (h + 1) ** dim)`, for `sliced_wasserstein` and `mmd`.

    Raises:
        ValueError: the shapes do not fit each other.

    Example:
        >>> points = torch.rand(1, 1000, 1).sort(1).values
        >>> u = torch.cos(torch.pi * 2 * points).mT
        >>> cosine_means(u, points, torch.ones(1, 1000)).argmax().item()
        2
    """
    coords, weights = (x[None] if x.ndim == n else x for x, n in ((coords, 2), (weights, 1)))
    if u.ndim != 3 or coords.ndim != 3 or not u.shape[-1] == coords.shape[1] == weights.shape[1]:
        raise ValueError(
            f"expected values (batch, channel, point), positions (batch, point, dim) and weights "
            f"(batch, point), got {tuple(u.shape)}, {tuple(coords.shape)} and {tuple(weights.shape)}"
        )
    at = (coords - torch.as_tensor(origin).to(coords)) / torch.as_tensor(lengths).to(coords)
    waves = torch.cos(torch.pi * at[..., None] * torch.arange(highest + 1).to(at))
    products = waves[:, :, 0]
    for axis in range(1, waves.shape[2]):
        products = (products[..., None] * waves[:, :, axis, None]).flatten(2)
    share = weights / weights.sum(1, keepdim=True)
    return (u * share[:, None]) @ products
