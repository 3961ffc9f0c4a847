"""Geometries of sets of points, kept by their content: made once for each set, not for each call."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from opflow.nn.point_geometry import (
    Neighbours,
    PointGeometry,
    interpolation,
    neighbours,
    require_reach,
)
from opflow.nn.quadrature import estimate_weights

_MOST_KEPT = 1 << 28  # bytes


class PointGraph:
    """Joins the nodes of a latent grid to the points of a set within a radius.

    Args:
        nodes: positions of the nodes `(node, dim)`, float64.
        radius: length of the longest edge.
        quadrature: weigh points by the volume that belongs to them; otherwise all alike.
        box: lowest and highest coordinate of each axis `(dim, 2)`, beyond which points must be within the
            radius of a node; they may lie anywhere when None.
    """

    def __init__(self, nodes: np.ndarray, radius: float, quadrature: bool, box: np.ndarray | None = None):
        self.nodes, self.radius, self.quadrature, self.box = nodes, radius, quadrature, box
        self._kept: OrderedDict[bytes, tuple[np.ndarray, ...]] = OrderedDict()

    def __call__(self, coords: Tensor, weights: Tensor | None, query_coords: Tensor | None) -> PointGeometry:
        """Return the geometry of points whose shapes are known to fit; see `PointOperator.geometry`."""
        sets = _double(coords if coords.ndim == 3 else coords[None])
        given = None if weights is None else _double(weights if weights.ndim == 2 else weights[None])
        queries = None
        if query_coords is not None:
            queries = _double(query_coords)
            queries = np.broadcast_to(queries, (len(sets), *queries.shape[-2:]))
        source, target, weight, covered, nearest, share = [], [], [], [], [], []
        for i, points in enumerate(sets):
            places = np.arange(len(points)) if given is None else np.flatnonzero(given[i] > 0)
            points = points[places]
            own = None if given is None or not self.quadrature else given[i, places]
            edges = Neighbours(*self._once(self._edges, points, own))
            source.append(places[edges.source] + i * sets.shape[1])
            target.append(edges.target + i * len(self.nodes))
            weight.append(edges.weight)
            covered.append(np.bincount(edges.target, minlength=len(self.nodes)) > 0)
            if queries is not None:
                near, shares = self._once(interpolation, points, queries[i])
                nearest.append(places[near])
                share.append(shares)
        # Samples of few points, or of several at one place, have another number of neighbours.
        most = max((near.shape[1] for near in nearest), default=0)
        nearest = [np.pad(near, ((0, 0), (0, most - near.shape[1])), mode="edge") for near in nearest]
        share = [np.pad(shares, ((0, 0), (0, most - shares.shape[1]))) for shares in share]
        filled = coords.ndim == 3 and given is not None and not (given > 0).all()

        def tensor(array: np.ndarray) -> Tensor:
            dtype = coords.dtype if array.dtype.kind == "f" else None
            return torch.tensor(array, device=coords.device, dtype=dtype)

        def stack(parts: list[np.ndarray]) -> Tensor | None:
            return tensor(np.stack(parts) if coords.ndim == 3 else parts[0]) if parts else None

        # Copies: what is written into the caller's tensors later is not what the neighbours belong to.
        return PointGeometry(
            coords.clone(),
            tensor(np.concatenate(source)),
            tensor(np.concatenate(target)),
            tensor(np.concatenate(weight)),
            cast(Tensor, stack(covered)),
            None if given is None or not filled else tensor(given > 0),
            None if query_coords is None else query_coords.clone(),
            stack(nearest),
            stack(share),
        )

    def _edges(self, points: np.ndarray, weights: np.ndarray | None) -> Neighbours:
        if self.box is not None:
            require_reach(points, self.nodes, self.radius, self.box)
        if weights is None:
            # The nodes look no further than the radius: what is wider apart than their sight is a hole.
            weights = estimate_weights(points, 2 * self.radius) if self.quadrature else np.ones(len(points))
        return neighbours(points, self.nodes, self.radius, weights)

    def _once(self, function: Callable[..., tuple[np.ndarray, ...]], *arrays: Any) -> tuple[np.ndarray, ...]:
        """Call a function of arrays, or return what it returned for the same numbers."""
        digest = hashlib.blake2b(function.__name__.encode(), digest_size=32)
        for array in arrays:
            digest.update(repr(None if array is None else array.shape).encode())
            digest.update(b"" if array is None else np.ascontiguousarray(array).tobytes())
        key = digest.digest()
        if key not in self._kept:
            self._kept[key] = function(*arrays)
            while sum(part.nbytes for parts in self._kept.values() for part in parts) > _MOST_KEPT:
                self._kept.popitem(last=False)
                if not self._kept:
                    return function(*arrays)
        self._kept.move_to_end(key)
        return self._kept[key]


def _double(x: Tensor) -> np.ndarray:
    return x.detach().cpu().double().numpy()
