"""What a point operator has to know of a set of points before it sees any values there."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class PointGeometry(NamedTuple):
    """Points, their edges to the nodes of a latent grid, and the points where the output is wanted.

    Made by `opflow.MINO.geometry`, and passed in the place of the coordinates, so that it is made once. There
    is one set of points that all samples share, or one for each sample, filled up to the longest; a field is
    None where there is nothing to tell.
    """

    coords: Tensor
    """Positions `([batch,] point, dim)`."""
    source: Tensor
    """Point of each edge `(edge,)`, counted through all sets."""
    target: Tensor
    """Node of each edge `(edge,)`, likewise, in ascending order."""
    weight: Tensor
    """Weight of each edge `(edge,)`; those of a node sum to one."""
    coverage: Tensor
    """Share of the ball about a node that the points stand for, `([batch,] node)`; 0 without points in it."""
    real: Tensor | None
    """Whether a point is more than filling, `(batch, point)`; None when all are."""
    query_coords: Tensor | None
    """Where the output is wanted `([batch,] query, dim)`; None for at the points themselves."""
    nearest: Tensor | None
    """Points next to each query `([batch,] query, k)`."""
    share: Tensor | None
    """Their shares in a value at the query `([batch,] query, k)`."""

    @property
    def shared(self) -> bool:
        """Whether all samples have the same points."""
        return self.coords.ndim == 2

    def at_queries(self, values: Tensor) -> Tensor:
        """Interpolate values at the points `(batch, point, channel)` to where the output is wanted."""
        if self.nearest is None or self.share is None:
            return values
        if self.shared:
            found = values[:, self.nearest]
        else:
            found = values[torch.arange(values.shape[0], device=values.device)[:, None, None], self.nearest]
        return (self.share[..., None] * found).sum(-2)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "PointGeometry":
        """Bring the geometry to a device, and its real numbers to a precision."""
        return PointGeometry(
            *(
                None if part is None else part.to(device, dtype if part.is_floating_point() else None)
                for part in self
            )
        )


class Neighbours(NamedTuple):
    """Edges of one set of points, ordered by node, then point, and what the nodes see."""

    source: np.ndarray
    """Point of each edge `(edge,)`."""
    target: np.ndarray
    """Node of each edge `(edge,)`."""
    weight: np.ndarray
    """Weight of each edge `(edge,)`; those of a node sum to one."""
    total: np.ndarray
    """Sum of the weights of the points that a node sees, `(node,)`."""


def neighbours(points: np.ndarray, nodes: np.ndarray, radius: float, weights: np.ndarray) -> Neighbours:
    """Join each node to the points within a radius, with weights that sum to one at each node.

    Args:
        points: `(n, d)`, float64.
        nodes: `(m, d)`, float64.
        radius: length of the longest edge.
        weights: weights of the points `(n,)` before they are normalised; those of weight zero are left out.

    Raises:
        ValueError: no node has a point within the radius.

    Example:
        >>> points, nodes = np.array([[0.0], [0.5], [0.9]]), np.array([[0.0], [1.0]])
        >>> edges = neighbours(points, nodes, radius=0.6, weights=np.array([1.0, 1.0, 3.0]))
        >>> [(int(s), int(t), float(w)) for s, t, w in zip(edges.source, edges.target, edges.weight)]
        [(0, 0, 0.5), (1, 0, 0.5), (1, 1, 0.25), (2, 1, 0.75)]
        >>> edges.total.tolist()
        [2.0, 4.0]
    """
    from scipy.spatial import cKDTree

    counted = np.flatnonzero(weights > 0)
    pairs = cKDTree(nodes).sparse_distance_matrix(cKDTree(points[counted]), radius, output_type="ndarray")
    if not len(pairs):
        raise ValueError(
            f"none of the {len(nodes)} latent nodes has a point within radius={radius:g}: enlarge the radius "
            "or the latent grid, and make sure that `domain` is the box that the points lie in"
        )
    source, target = counted[pairs["j"]], pairs["i"].astype(np.int64)
    order = np.lexsort((source, target))
    source, target = source[order], target[order]
    total = np.bincount(target, weights[source], len(nodes))
    return Neighbours(source, target, weights[source] / total[target], total)


def interpolation(points: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the points next to each query and their shares, by inverse square distances (Shepard 1968).

    :math:`u(q) = \sum_i |q - p_i|^{-2} u(p_i) / \sum_i |q - p_i|^{-2}` over the d + 1 nearest points; at a
    point it is the value there.

    Args:
        points: `(n, d)`.
        queries: `(m, d)`.

    Returns:
        numbers of the points `(m, k)`, int64, and shares `(m, k)`; k is d + 1, or n when that is less.

    Example:
        >>> interpolation(np.array([[0.0], [1.0], [9.0]]), np.array([[1.0], [0.25]]))[1].round(2).tolist()
        [[1.0, 0.0], [0.9, 0.1]]
    """
    from scipy.spatial import cKDTree

    k = min(points.shape[1] + 1, len(points))
    distance, nearest = cKDTree(points).query(queries, k=[*range(1, k + 1)])
    closeness = 1 / np.maximum(distance, np.finfo(float).tiny ** 0.25) ** 2
    shares = closeness / closeness.sum(1, keepdims=True)
    shares = np.where(distance[:, :1] == 0, np.arange(k) == 0, shares)
    return nearest.astype(np.int64), shares
