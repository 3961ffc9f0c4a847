"""What every operator on scattered points is, with its normalisation inside."""

import abc
from typing import final

import torch
from torch import Tensor

from opflow.nn.point_geometry import PointGeometry
from opflow.operators.base import BaseOperator, placed


class PointOperator(BaseOperator):
    """A map from fields at points `(batch, point, in_channels)` to fields at points, the same or others.

    A subclass sets `config` (its constructor arguments, JSON values only) and writes `operate`, the map
    between normalised fields, and `graph`, which makes its geometries. Everything else is shared: argument
    checks, physical units, prediction, saving.

    Args:
        in_channels: channels of the input field.
        out_channels: channels of the output field.
        coord_dim: number of coordinates of a point.
        timed: whether the map depends on a time.
    """

    def __init__(self, in_channels: int, out_channels: int, coord_dim: int, timed: bool = False):
        super().__init__(in_channels, out_channels)
        self.coord_dim = coord_dim
        self.timed = timed

    @abc.abstractmethod
    def operate(self, values: Tensor, geometry: PointGeometry, time: Tensor | None) -> Tensor:
        """Map a normalised field to a normalised field `(batch, query, out_channels)`; time `(batch,)`."""

    @abc.abstractmethod
    def graph(self, coords: Tensor, weights: Tensor | None, query_coords: Tensor | None) -> PointGeometry:
        """Make the geometry of points whose shapes have been checked."""

    @final
    def forward(
        self,
        values: Tensor,
        coords: Tensor | PointGeometry,
        query_coords: Tensor | None = None,
        time: Tensor | float | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """Map raw fields to raw fields (physical units).

        Args:
            values: `(batch, point, in_channels)`, the dtype of the parameters.
            coords: positions `(point, coord_dim)`, shared, or `(batch, point, coord_dim)`; or what `geometry`
                made of them, in which case `query_coords` and `weights` are known already.
            query_coords: where the output is wanted, `(query, coord_dim)` or `(batch, query, coord_dim)`; at
                the points themselves when None.
            time: `(batch,)`, or one number for all; for models with time only.
            weights: quadrature weights `(point,)` or `(batch, point)`, the volume that belongs to each point;
                a point of weight 0 is filling and does not count. Estimated when None.

        Returns:
            `(batch, query, out_channels)`.

        Raises:
            ValueError: a shape or type is not what the model was built for, or the geometry cannot be made.
        """
        if not isinstance(coords, PointGeometry):
            geometry = self.geometry(coords, weights, query_coords)
        elif query_coords is not None or weights is not None:
            raise ValueError(
                "a geometry has its query_coords and weights inside: give them to `geometry`, not beside it"
            )
        else:
            geometry = coords
        self._check(values, geometry)
        normalized = self.normalizer.normalize(values.mT).mT
        y = self.operate(normalized, geometry, self._time(time, values))
        last_frame = values[..., -self.out_channels :]
        if last_frame.shape[-1] == self.out_channels:
            last_frame = geometry.at_queries(last_frame)
        else:  # not a model of increments
            last_frame = torch.zeros_like(y)
        return self.normalizer.denormalize(y.mT, last_frame.mT).mT

    def geometry(
        self, coords: Tensor, weights: Tensor | None = None, query_coords: Tensor | None = None
    ) -> PointGeometry:
        """Find the neighbours of points, to be passed in the place of `coords` again and again.

        Args:
            coords: as for `forward`.
            weights: as for `forward`.
            query_coords: as for `forward`.

        Raises:
            ValueError: shapes or types do not fit, a number is not finite, or points are out of reach.
        """
        for name, given in {"coords": coords, "weights": weights, "query_coords": query_coords}.items():
            if given is not None:
                _require_tensor(name, given)
        for name, given in {"coords": coords, "query_coords": query_coords}.items():
            if given is not None and not given.is_floating_point():
                raise ValueError(f"{name} are {given.dtype}, expected real numbers: convert with `.float()`")
        if query_coords is not None and query_coords.dtype != coords.dtype:
            raise ValueError(
                f"query_coords are {query_coords.dtype} and coords {coords.dtype}: convert one with "
                "`.to(dtype)`"
            )
        points = tuple(coords.shape)
        if coords.ndim not in (2, 3) or points[-1] != self.coord_dim:
            raise ValueError(
                f"{type(self).__name__} was built for coord_dim={self.coord_dim} and takes coords (point, "
                f"{self.coord_dim}) or (batch, point, {self.coord_dim}), got shape {points}"
            )
        if weights is not None and weights.shape != coords.shape[:-1]:
            raise ValueError(f"weights need one number for each point, {points[:-1]}, got {_shape(weights)}")
        if query_coords is not None and (
            query_coords.shape[-1] != self.coord_dim
            or query_coords.ndim not in (2, coords.ndim)
            or query_coords.shape[:-2] not in ((), coords.shape[:-2])
        ):
            raise ValueError(
                f"query_coords of shape {_shape(query_coords)} do not go with coords of shape {points}: "
                f"expected (query, {self.coord_dim}), or one set of queries for each set of points"
            )
        for name, given in {"coords": coords, "weights": weights, "query_coords": query_coords}.items():
            if given is not None and not torch.isfinite(given).all():
                raise ValueError(f"{name} hold numbers that are not finite")
        if weights is not None and (weights < 0).any():
            raise ValueError(f"weights must not be negative, the least is {weights.min().item():g}")
        return self.graph(coords, weights, query_coords)

    def predict(self, values, coords, query_coords=None, time=None, weights=None) -> Tensor:
        """Evaluate without gradients, in evaluation mode, on the device and in the dtype of the model.

        Args:
            values: tensor or array `(batch, point, in_channels)`, or one sample without the batch axis.
            coords: tensor or array, or a geometry, as for `forward`.
            query_coords: as for `forward`.
            time: as for `forward`.
            weights: as for `forward`.

        Returns:
            `(batch, query, out_channels)` on the CPU (without the batch axis when `values` had none).
        """
        with self._evaluating() as place:

            def here(x) -> Tensor | None:
                return None if x is None else placed(torch.as_tensor(x), *place)

            values = placed(torch.as_tensor(values), *place)
            single = values.ndim == 2
            points = coords.to(*place) if isinstance(coords, PointGeometry) else here(coords)
            y = self(
                values[None] if single else values, points, here(query_coords), here(time), here(weights)
            )
        return (y[0] if single else y).cpu()

    def _check(self, values: Tensor, geometry: PointGeometry) -> None:
        name = type(self).__name__
        _require_tensor("values", values)
        if values.ndim != 3 or values.shape[-1] != self.in_channels:
            raise ValueError(
                f"{name} was built for in_channels={self.in_channels} and takes (batch, point, "
                f"{self.in_channels}), got a tensor of shape {_shape(values)}"
            )
        if geometry.coords.shape[:-1] not in (values.shape[1:2], values.shape[:2]):
            raise ValueError(
                f"values of shape {_shape(values)} do not lie at coords of shape {_shape(geometry.coords)}"
            )
        dtype = next(self.parameters()).dtype
        if torch.is_autocast_enabled(values.device.type):
            return
        for what, given in {"values": values, "coords": geometry.coords}.items():
            if given.dtype != dtype:
                raise ValueError(
                    f"{what} are {given.dtype} and the model {dtype}: convert one with `.to(dtype)`, a "
                    "geometry with `.to(device, dtype)`"
                )

    def _time(self, time: Tensor | float | None, values: Tensor) -> Tensor | None:
        name = type(self).__name__
        if not self.timed:
            if time is not None:
                raise ValueError(f"this {name} was built with time=False and takes no time")
            return None
        if time is None:
            raise ValueError(f"this {name} was built with time=True: give time, (batch,) or one number")
        time = torch.as_tensor(time, dtype=values.dtype, device=values.device)
        if time.ndim > 1 or time.numel() not in (1, values.shape[0]):
            raise ValueError(
                f"time needs one number, or one for each of {values.shape[0]} samples, got {_shape(time)}"
            )
        return time.expand(values.shape[0])


def _require_tensor(name: str, given: object) -> None:
    if not isinstance(given, Tensor):
        raise ValueError(
            f"{name} must be a tensor, got a {type(given).__name__}: convert it with `torch.as_tensor`, or "
            "call `predict`, which takes arrays"
        )


def _shape(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape)
