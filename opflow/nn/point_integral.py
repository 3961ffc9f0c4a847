r"""Local integral operators on point clouds and meshes: sparse matrices from points and quadrature weights.

.. math:: (I u)_o(x) = \sum_i \sum_j q_j\, \kappa_{oi}(y_j - x)\, u_i(y_j), \qquad
   \kappa_{oi}(z) = r^{-2} \sum_l \theta_{oil}\, \psi_l(z / r)

With weights :math:`q_j` that integrate, areas of Voronoi cells or of the mesh around each node, this tends to
the integral of `opflow.nn.local_integral`, with the same weights :math:`\theta`.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from opflow.nn.axes import per_axis
from opflow.nn.differential import require_groups
from opflow.nn.filter_bases import FilterBasis
from opflow.nn.local_integral import initial_weight

_Steps = tuple[np.ndarray, int, int]  # see `sparse_rows`

_CHUNK = 2**14  # edges, whose functions are found in cache


class PointSupport:
    """Which points a basis sees from which, and its values there: built once per mesh.

    Args:
        basis: the functions on the unit disc.
        radius: radius of the support.
        points: `(n, 2)`, where fields are given.
        weights: `(n,)`, quadrature weights of the points.
        queries: `(m, 2)`, where integrals are taken; the points when None.
        query_weights: `(m,)`, quadrature weights of the queries, for the transposed layer; those of the
            points when `queries` is None.
        box: lengths of a periodic box that starts at 0, or None in free space.

    Raises:
        ValueError: shapes do not belong together, or a coordinate is not finite.

    Example:
        >>> from opflow.nn.filter_bases import PiecewiseLinear
        >>> points = torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
        >>> areas = torch.full((50,), 0.02)
        >>> support = PointSupport(PiecewiseLinear(2, 4), 0.3, points, areas, box=(1.0, 1.0))
        >>> support.n_points, support.n_queries
        (50, 50)
    """

    def __init__(
        self,
        basis: FilterBasis,
        radius: float,
        points: Tensor | np.ndarray,
        weights: Tensor | np.ndarray,
        queries: Tensor | np.ndarray | None = None,
        query_weights: Tensor | np.ndarray | None = None,
        *,
        box: Sequence[float] | None = None,
    ):
        at = _array("points", points)
        to = at if queries is None else _array("queries", queries)
        (radius,) = per_axis("radius", radius, 1)
        self.n_points, self.n_queries, self.functions = len(at), len(to), len(basis)
        self.weights = _weights("weights", weights, self.n_points)
        if query_weights is None and queries is None:
            query_weights = weights
        self.query_weights = (
            None if query_weights is None else _weights("query_weights", query_weights, self.n_queries)
        )
        row, column, offset = _neighbours(at, to, radius, box)
        values = np.empty((len(offset), len(basis)))
        for first in range(0, len(offset), _CHUNK):
            chunk = slice(first, first + _CHUNK)
            x, y = torch.from_numpy(offset[chunk].T / radius)
            values[chunk] = basis(x, y).T.numpy() / radius**2
        query, point = (row, len(basis), 1), (column, 1, 0)  # rows are pairs of query and function
        rows, columns = len(to) * len(basis), len(at)
        self.matrix = _sparse(query, point, values, (rows, columns))
        self.adjoint = _sparse(point, query, values, (columns, rows))

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "PointSupport":
        """Return the support on a device and in a precision; it is built in float64 on the CPU."""
        moved = object.__new__(PointSupport)
        for name, value in vars(self).items():
            setattr(moved, name, value.to(device, dtype) if isinstance(value, Tensor) else value)
        return moved


class PointIntegralConv(nn.Module):
    r"""Integrate a field on points against a learned local kernel round the query points.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        basis: the functions on the unit disc, those of the supports that it is called with.
        groups: groups of channels that do not see each other, as in `torch.nn.Conv2d`.
        transposed: be the adjoint instead, from queries to points: with the same `weight`, taken from a
            layer with the two channel counts exchanged, :math:`\sum_i Q_i (I u)_i v_i = \sum_j q_j u_j
            (I^* v)_j` for the weights q of the points and Q of the queries.

    Shapes:
        `(batch, points, in_channels)` to `(batch, queries, out_channels)`, and back when transposed.

    Raises:
        ValueError: an argument or the number of points does not fit the support.

    Example:
        >>> from opflow.nn.filter_bases import PiecewiseLinear
        >>> basis = PiecewiseLinear(2, 4)
        >>> points = torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
        >>> support = PointSupport(basis, 0.3, points, torch.full((50,), 0.02), queries=points[:7])
        >>> layer = PointIntegralConv(3, 4, basis)
        >>> layer(torch.zeros(1, 50, 3), support.to(dtype=torch.float32)).shape
        torch.Size([1, 7, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        basis: FilterBasis,
        *,
        groups: int = 1,
        transposed: bool = False,
    ):
        super().__init__()
        require_groups(groups, in_channels, out_channels)
        self.functions, self.groups, self.transposed = len(basis), groups, transposed
        first, second = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        self.weight = initial_weight(first, second // groups, len(basis))

    def forward(self, x: Tensor, support: PointSupport) -> Tensor:
        """Apply the operator; `support` on the device and in the dtype of `x`."""
        self._check(x, support)
        weight = self.weight.unflatten(0, (self.groups, -1))  # (group, first, second, function)
        if self.transposed:
            assert support.query_weights is not None  # as checked
            x = (x * support.query_weights[:, None]).movedim(0, 1).unflatten(2, (self.groups, -1))
            x = torch.einsum("mbgo,goil->mlbgi", x, weight)
            y = _product(support.adjoint, support.matrix, x.flatten(0, 1).flatten(1))
            return y.view(support.n_points, *x.shape[2:]).flatten(2).movedim(0, 1)
        x = (x * support.weights[:, None]).movedim(0, 1)
        y = _product(support.matrix, support.adjoint, x.flatten(1))
        y = y.view(support.n_queries, support.functions, x.shape[1], self.groups, -1)
        return torch.einsum("mlbgi,goil->bmgo", y, weight).flatten(2)

    def _check(self, x: Tensor, support: PointSupport) -> None:
        if support.functions != self.functions:
            raise ValueError(
                f"the support has {support.functions} functions and the layer {self.functions}: build both "
                "from one basis"
            )
        expected = support.n_queries if self.transposed else support.n_points
        if x.ndim != 3 or x.shape[1] != expected:
            raise ValueError(
                f"expected (batch, {expected}, channels), got a tensor of shape {tuple(x.shape)}"
            )
        if support.matrix.dtype != x.dtype or support.matrix.device != x.device:
            raise ValueError(
                f"the support is {support.matrix.dtype} on {support.matrix.device}, the field {x.dtype} on "
                f"{x.device}: use support.to({str(x.device)!r}, {x.dtype})"
            )
        if self.transposed and support.query_weights is None:
            raise ValueError(
                "a transposed layer integrates over the queries: give PointSupport query_weights"
            )


class _Product(torch.autograd.Function):
    """A sparse matrix, whose adjoint is at hand, times a dense one."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, adjoint: Tensor, x: Tensor) -> Tensor:
        ctx.matrices = matrix, adjoint
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        matrix, adjoint = ctx.matrices
        return None, None, _Product.apply(adjoint, matrix, grad.contiguous())


def _product(matrix: Tensor, adjoint: Tensor, x: Tensor) -> Tensor:
    product = _Product.apply(matrix, adjoint, x.contiguous())
    return product  # pyright: ignore[reportReturnType]  (apply has no types)


def _neighbours(points: np.ndarray, queries: np.ndarray, radius: float, box) -> tuple[np.ndarray, ...]:
    """Return query, point and offset from the one to the other, for all pairs within the radius."""
    from scipy.spatial import KDTree

    if box is not None:
        box = np.array(per_axis("box", box, 2))
        if radius > box.min() / 2:
            raise ValueError(f"radius={radius} is more than half of the periodic box {tuple(box.tolist())}")
        points, queries = (np.where(at % box < box, at % box, 0.0) for at in (points, queries))  # -1e-17
    tree, other = KDTree(points, boxsize=box), KDTree(queries, boxsize=box)
    pairs = other.sparse_distance_matrix(tree, radius, output_type="ndarray")
    offset = points[pairs["j"]] - queries[pairs["i"]]
    if box is not None:
        offset -= box * np.round(offset / box)
    return pairs["i"], pairs["j"], offset


def _array(name: str, points: Tensor | np.ndarray) -> np.ndarray:
    array = points.detach().cpu().numpy() if isinstance(points, Tensor) else np.asarray(points)
    if array.ndim != 2 or array.shape[1] != 2 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite coordinates (n, 2), got an array of shape {array.shape}")
    return array.astype(np.float64)


def _weights(name: str, weights: Tensor | np.ndarray, n: int) -> Tensor:
    values = torch.as_tensor(weights).detach().to("cpu", torch.float64)
    if values.shape != (n,):
        raise ValueError(f"{name} needs one number per point, {n}, got shape {tuple(values.shape)}")
    return values


def _sparse(row: _Steps, column: _Steps, values: np.ndarray, size: tuple[int, int]) -> Tensor:
    from opflow.kernels.cpu.sparse_rows import sparse_rows

    large = max(values.size, *size) > np.iinfo(np.int32).max
    indptr = np.zeros(size[0] + 1, np.int64 if large else np.int32)
    indices, data = sparse_rows(*row, *column, values, indptr)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        parts = map(torch.from_numpy, (indptr, indices, data))
        return torch.sparse_csr_tensor(*parts, size=size, check_invariants=False)
