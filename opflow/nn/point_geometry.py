"""What a point operator has to know of a set of points before it sees any values there."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from opflow.nn.places import places


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
    covered: Tensor
    """Whether a node has an edge, `([batch,] node)`."""
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

    def at(self, index: Tensor) -> "PointGeometry":
        """Return this geometry with the output wanted at some of its points `([batch,] query)`."""
        index = index[..., None]
        coords = self.coords.take_along_dim(index, -2)
        return self._replace(query_coords=coords, nearest=index, share=coords.new_ones(index.shape))

    def to(self, device: torch.device | str, dtype: torch.dtype) -> "PointGeometry":
        """Bring the geometry to a device, and its real numbers to a precision."""
        moved: list[Any] = [
            None if part is None else part.to(device, dtype if part.is_floating_point() else None)
            for part in self
        ]
        return PointGeometry(*moved)


class Neighbours(NamedTuple):
    """Edges of one set of points: point, node and weight of each, ordered by node, then by place."""

    source: np.ndarray
    target: np.ndarray
    weight: np.ndarray


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
    """
    from scipy.spatial import KDTree

    # The order of the points themselves must not show, not even in the rounding of sums.
    counted = np.flatnonzero(weights > 0)
    counted = counted[np.lexsort(points[counted].T[::-1])]
    pairs = KDTree(nodes).sparse_distance_matrix(KDTree(points[counted]), radius, output_type="ndarray")
    if not len(pairs):
        raise ValueError(
            f"none of the {len(nodes)} latent nodes has a point within radius={radius:g}: enlarge the radius "
            "or the latent grid, and make sure that `domain` is the box that the points lie in"
        )
    pairs = pairs[np.lexsort((pairs["j"], pairs["i"]))]
    source, target = counted[pairs["j"]], pairs["i"].astype(np.int64)
    total = np.bincount(target, weights[source], len(nodes))
    return Neighbours(source, target, weights[source] / total[target])


def require_reach(points: np.ndarray, nodes: np.ndarray, radius: float, box: np.ndarray) -> None:
    """Refuse points outside of a box that no node has within the radius.

    Args:
        points: `(n, d)`, float64.
        nodes: `(m, d)`, float64.
        radius: length of the longest edge.
        box: lowest and highest coordinate of each axis `(d, 2)`.

    Example:
        >>> nodes, box = np.array([[0.0], [1.0]]), np.array([[0.0, 1.0]])
        >>> require_reach(np.array([[0.5], [1.2]]), nodes, radius=0.3, box=box)
    """
    from scipy.spatial import KDTree

    outside = points[((points < box[:, 0]) | (points > box[:, 1])).any(1)]
    if not len(outside):
        return
    lost = outside[KDTree(nodes).query(outside)[0] > radius]
    if len(lost):
        raise ValueError(
            f"{len(lost)} of {len(points)} points lie outside of the domain {box.tolist()} and further than "
            f"radius={radius:g} from all latent nodes, so they would not count, such as the point "
            f"{min(lost.tolist())}: build the model with `domain=`, the box that the points lie in"
        )


def interpolation(points: np.ndarray, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    r"""Return the points next to each query and their shares in a value there, by moving least squares.

    The value at q is that of the linear function which fits the nearest points best, with the weights
    :math:`|q - p_i|^{-2}`: it is exact for linear functions, and at a point the value there. Where the points
    determine no linear function well, or q is far outside of them, it is the mean by these weights. Points at
    one place count as one point with the mean of their values. The order of the points does not matter, also
    where several are equally far.

    Args:
        points: `(n, d)`, float64.
        queries: `(m, d)`, float64.

    Returns:
        numbers of the points `(m, k)`, int64, and shares `(m, k)`; k is 2 (d + 1), or the number of places
        when that is less, or more where places hold several points. What is too much has the share 0.

    Source: Lancaster and Salkauskas, Surfaces Generated by Moving Least Squares Methods, 1981.

    Example:
        >>> nearest, share = interpolation(np.array([[0.0], [1.0], [9.0]]), np.array([[1.0], [0.25]]))
        >>> (share * np.array([10.0, 20.0, 100.0])[nearest]).sum(1).round(4).tolist()
        [20.0, 12.5]
    """
    from scipy.spatial import KDTree

    d = points.shape[1]
    points, place, count = places(points)
    k = min(2 * (d + 1), len(points))
    near: Any = np.arange(1, k + 1)  # a list also of one: the axis stays
    distance, nearest = KDTree(points).query(queries, k=near)
    apart = (points[nearest] - queries[:, None]) / np.maximum(distance[:, -1:, None], np.finfo(float).tiny)
    closeness = 1 / np.maximum((apart**2).sum(-1), 1e-20)
    mean = closeness / closeness.sum(1, keepdims=True)
    basis = np.concatenate([np.ones((*apart.shape[:2], 1)), apart], -1)
    moments = np.einsum("mki,mk,mkj->mij", basis, mean, basis)
    slopes = np.einsum("mii->m", moments)[:, None, None] * np.diag([0.0, *[1e-9] * d])  # if undetermined
    first = np.linalg.solve(moments + slopes, np.broadcast_to(np.eye(d + 1)[:, :1], (len(queries), d + 1, 1)))
    linear = mean * (basis @ first)[..., 0]
    shares = np.where(np.abs(linear).sum(1, keepdims=True) < 3, linear, mean)
    shares = np.where(distance[:, :1] == 0, np.arange(k) == 0, shares)
    return _points_of_places(np.asarray(nearest, np.int64), shares, place, count)


def _points_of_places(
    nearest: np.ndarray, shares: np.ndarray, place: np.ndarray, count: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Hand the shares of places `(m, k)` on to the points there, in equal parts."""
    members = np.argsort(place, kind="stable")  # the points, place by place
    first, counts = np.cumsum(count) - count, count[nearest]
    each = counts.ravel()
    within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
    filled = counts.sum(1)[:, None] > np.arange(counts.sum(1).max(initial=nearest.shape[1]))
    found, parts = np.repeat(members[first[nearest[:, :1]]], filled.shape[1], 1), np.zeros(filled.shape)
    found[filled] = members[np.repeat(first[nearest].ravel(), each) + within]
    parts[filled] = np.repeat((shares / counts).ravel(), each)
    return found, parts
