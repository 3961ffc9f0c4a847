"""Grids of latitude and longitude, with the weights that integrate over a sphere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

import numpy as np

WEIGHTS = "latitude_weights"
"""Name, in files, of the variable that holds the quadrature weights of the latitudes."""


@final
@dataclass(frozen=True)
class SphereGrid:
    """Latitudes from south to north times equidistant longitudes from 0, in degrees.

    It answers what a :class:`pde_data.Grid` answers, so that a data set of either is used in the same way;
    ``spacing`` along a meridian is a mean value. ``quadrature`` sums to 4 pi, the area of the unit sphere.

    >>> grid = SphereGrid.gauss(4, 8)
    >>> grid.sizes, round(float(grid.quadrature().sum() / (4 * np.pi)), 12)
    ((4, 8), 1.0)
    """

    points: tuple[float, ...]
    n_longitudes: int
    bands: tuple[float, ...]
    """Quadrature weights of the latitudes, in the sine of latitude: they sum to 2."""

    @classmethod
    def gauss(cls, n_latitudes: int, n_longitudes: int) -> SphereGrid:
        """Latitudes whose sines are the Gauss-Legendre nodes: exact to degree ``2 n_latitudes - 1``."""
        sines, weights = _gauss(n_latitudes)
        return cls(tuple(np.rad2deg(np.arcsin(sines)).tolist()), n_longitudes, tuple(weights.tolist()))

    @classmethod
    def equiangular(cls, n_latitudes: int, n_longitudes: int) -> SphereGrid:
        """Equidistant latitudes from pole to pole, by Clenshaw and Curtis: exact to ``n_latitudes - 1``."""
        n = n_latitudes - 1
        angles = np.pi * np.arange(n_latitudes) / n
        k = np.arange(1, n // 2 + 1)
        terms = np.where(2 * k == n, 1.0, 2.0) / (4 * k**2 - 1) * np.cos(2 * np.outer(angles, k))
        weights = 2 / n * (1 - terms.sum(1))
        weights[[0, -1]] /= 2
        points = np.linspace(-90.0, 90.0, n_latitudes)
        return cls(tuple(points.tolist()), n_longitudes, tuple(weights.tolist()))

    @classmethod
    def from_coordinates(
        cls, latitudes: np.ndarray, longitudes: np.ndarray, weights: np.ndarray | None = None
    ) -> SphereGrid:
        """The grid of given coordinates; without ``weights`` each latitude has the area halfway to the next.

        Raises ``ValueError`` for latitudes that do not increase from -90 to 90, or longitudes that do not go
        once round in equal steps.
        """
        y, x = (np.asarray(values, dtype=np.float64) for values in (latitudes, longitudes))
        if y.ndim != 1 or y.size < 2 or np.any(np.diff(y) <= 0) or y[0] < -90 or y[-1] > 90:
            raise ValueError("latitudes must increase within -90 to 90 degrees: sort the fields by latitude")
        step = 360 / max(x.size, 1)
        if x.ndim != 1 or np.abs(x - x[:1] - step * np.arange(x.size)).max(initial=0) > 1e-3 * step:
            raise ValueError(
                f"longitudes must go once round in equal steps, of {step:g} degrees for {x.size} points"
            )
        if weights is None:
            edges = np.sin(np.deg2rad([-90, *(y[1:] + y[:-1]) / 2, 90]))
            weights = np.diff(edges)
        return cls(tuple(y.tolist()), x.size, tuple(np.asarray(weights, np.float64).tolist()))

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of latitudes and longitudes."""
        return len(self.points), self.n_longitudes

    @property
    def ndim(self) -> int:
        """Two axes."""
        return 2

    @property
    def lengths(self) -> tuple[float, float]:
        """From pole to pole and once round, in degrees."""
        return 180.0, 360.0

    @property
    def origin(self) -> tuple[float, float]:
        """The south pole and the prime meridian."""
        return -90.0, 0.0

    @property
    def periodic(self) -> tuple[bool, bool]:
        """Only the longitude wraps round."""
        return False, True

    @property
    def location(self) -> str:
        """``node`` where the poles are points, ``cell`` where they are not."""
        return "node" if abs(self.points[0]) == abs(self.points[-1]) == 90.0 else "cell"

    @property
    def spacing(self) -> tuple[float, float]:
        """Mean distance of neighbouring latitudes, and that of longitudes, in degrees."""
        n = len(self.points) - (self.location == "node")
        return 180.0 / n, 360.0 / self.n_longitudes

    @property
    def first(self) -> tuple[float, float]:
        """The southernmost latitude, and longitude 0."""
        return self.points[0], 0.0

    @property
    def coordinates(self) -> tuple[np.ndarray, np.ndarray]:
        """Latitudes and longitudes in degrees, float64."""
        return np.array(self.points), 360.0 * np.arange(self.n_longitudes) / self.n_longitudes

    @property
    def weights(self) -> tuple[np.ndarray, np.ndarray]:
        """Quadrature weights of the latitudes (they sum to 2) and of the longitudes (they sum to 2 pi)."""
        return np.array(self.bands), np.full(self.n_longitudes, 2 * np.pi / self.n_longitudes)

    def quadrature(self) -> np.ndarray:
        """Quadrature weights of shape ``sizes``; they sum to 4 pi."""
        return np.multiply.outer(*self.weights)

    def with_sizes(self, sizes: tuple[int, ...]) -> SphereGrid:
        """Itself; ``ValueError`` for other sizes, since a field on a sphere cannot be resampled."""
        if tuple(sizes) != self.sizes:
            raise ValueError(
                f"a field on a sphere of {self.sizes} points cannot be resampled to {tuple(sizes)}: "
                "generate it at that resolution"
            )
        return self

    def coordinate_attributes(
        self, names: Sequence[str] = ("latitude", "longitude")
    ) -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
        """Values and CF attributes of each axis by name."""
        about = (
            {"units": "degrees_north", "axis": "Y", "standard_name": "latitude", "long_name": "latitude"},
            {"units": "degrees_east", "axis": "X", "standard_name": "longitude", "long_name": "longitude"},
        )
        return dict(zip(names, zip(self.coordinates, about), strict=True))


@lru_cache(maxsize=16)
def _gauss(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights, symmetric to the last digit.

    NumPy's are off by 1e-13 and more, which the transforms would show: Newton's method once more, with the
    longest floating point numbers there are.
    """
    x = np.polynomial.legendre.leggauss(n)[0].astype(np.longdouble)
    for _ in range(2):
        before, value = np.ones_like(x), x
        for k in range(2, n + 1):
            before, value = value, ((2 * k - 1) * x * value - (k - 1) * before) / k
        slope = n * (before - x * value) / (1 - x**2)
        x = x - value / slope
    weights = 2 / ((1 - x**2) * slope**2)
    x, weights = (x - x[::-1]) / 2, (weights + weights[::-1]) / 2
    return x.astype(np.float64), weights.astype(np.float64)
