"""Uniform grids on boxes, and the transfer of sampled fields between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

    Values = TypeVar("Values", np.ndarray, torch.Tensor)

_POINTS = {"linear": 2, "cubic": 4}


@dataclass(frozen=True, init=False)
class Grid:
    r"""A uniform tensor-product grid on the box $\prod_a [o_a, o_a + L_a]$.

    Nodes of a periodic axis leave out the end point (it is the first point again), nodes of any other axis
    include both ends; cells are represented by their centres. Scalars given for ``lengths``, ``periodic`` and
    ``origin`` hold for every axis. Instances are immutable and hashable.

    >>> Grid((4, 3), lengths=(1.0, 2.0), periodic=(True, False)).coordinates
    (array([0.  , 0.25, 0.5 , 0.75]), array([0., 1., 2.]))

    Raises ``ValueError`` for sizes or lengths that are not positive, a number of entries that differs from
    the number of axes, or an unknown location.
    """

    sizes: tuple[int, ...]
    lengths: tuple[float, ...]
    periodic: tuple[bool, ...]
    location: str
    origin: tuple[float, ...]

    def __init__(
        self,
        sizes: int | Sequence[int],
        lengths: float | Sequence[float] = 1.0,
        periodic: bool | Sequence[bool] = True,
        location: str = "node",
        origin: float | Sequence[float] = 0.0,
    ) -> None:
        sizes = tuple(int(n) for n in np.atleast_1d(sizes))
        fields = {"sizes": sizes, "location": location}
        for name, given, kind in (
            ("lengths", lengths, float),
            ("periodic", periodic, bool),
            ("origin", origin, float),
        ):
            entries = tuple(given) if isinstance(given, Sequence | np.ndarray) else (given,) * len(sizes)
            if len(entries) != len(sizes):
                raise ValueError(
                    f"{name}={given!r} has {len(entries)} entries, but sizes={sizes} has {len(sizes)} axes: "
                    "give one entry per axis, or a scalar for all"
                )
            fields[name] = tuple(kind(entry) for entry in entries)
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        if location not in ("node", "cell"):
            raise ValueError(f"location={location!r} is unknown: expected 'node' or 'cell'")
        for n, length, closed in zip(sizes, self.lengths, self._closed):
            if n < 1 + closed:
                raise ValueError(
                    f"sizes={sizes} are too small: an axis needs at least 1 point, 2 for non-periodic nodes"
                )
            if not (np.isfinite(length) and length > 0):
                raise ValueError(f"lengths={self.lengths} must be positive and finite")

    @classmethod
    def from_coordinates(
        cls,
        *axes: np.ndarray,
        periodic: tuple[bool, ...] | bool = True,
        location: str | None = None,
        tolerance: float = 1e-3,
    ) -> Grid:
        """Infer the grid from one array of increasing, uniform 1-D coordinates per axis.

        Without ``location``, coordinates that all start half a spacing from zero are read as cell centres,
        others as nodes; an axis that is periodic or made of cells has the length ``n * spacing``, another one
        ``(n - 1) * spacing``.
        ``tolerance`` is relative to the spacing (float32 coordinates pass with the default).

        >>> Grid.from_coordinates(np.arange(8) / 8 + 1 / 16).location
        'cell'

        Raises ``ValueError`` for an axis that is not 1-D, has fewer than two points or is not uniform.
        """
        first, spacing = [], []
        for a, given in enumerate(axes):
            x = np.asarray(given, dtype=np.float64)
            if x.ndim != 1 or x.size < 2:
                raise ValueError(
                    f"coordinates of axis {a} have shape {x.shape}: expected a 1-D array of at least 2 points"
                )
            h = (x[-1] - x[0]) / (x.size - 1)
            error = np.abs(x - (x[0] + h * np.arange(x.size))).max()
            if not (h > 0 and error <= tolerance * h):
                raise ValueError(
                    f"coordinates of axis {a} are not increasing and uniform (spacing {h:.6g}, largest "
                    f"deviation {error:.3g}): interpolate to a uniform grid, or treat them as points"
                )
            first.append(x[0])
            spacing.append(h)
        if not axes:
            raise ValueError("from_coordinates needs the coordinates of at least one axis")
        centred = all(abs(x0 / h - 0.5) <= tolerance for x0, h in zip(first, spacing))
        cells = centred if location is None else location == "cell"
        flags = tuple(periodic) if isinstance(periodic, tuple | list) else (periodic,) * len(axes)
        sizes = tuple(np.size(x) for x in axes)
        lengths = tuple(
            h * (n if p or cells else n - 1) for h, n, p in zip(spacing, sizes, flags, strict=True)
        )
        # A float32 file says 0.99999994 where 1 is meant.
        lengths = tuple(_rounded(length, tolerance * h) for length, h in zip(lengths, spacing))
        origin = tuple(_rounded(x0 - h / 2 if cells else x0, tolerance * h) for x0, h in zip(first, spacing))
        return cls(sizes, lengths, flags, "cell" if cells else "node", origin)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.sizes)

    @property
    def _closed(self) -> tuple[bool, ...]:
        """Per axis: whether both ends of the interval are grid points."""
        return tuple(not p and self.location == "node" for p in self.periodic)

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring points, per axis."""
        return tuple(
            length / (n - closed) for n, length, closed in zip(self.sizes, self.lengths, self._closed)
        )

    @property
    def first(self) -> tuple[float, ...]:
        """Coordinate of the first point, per axis."""
        shift = 0.5 if self.location == "cell" else 0.0
        return tuple(o + shift * h for o, h in zip(self.origin, self.spacing))

    @property
    def coordinates(self) -> tuple[np.ndarray, ...]:
        """Coordinates of the points: one float64 array of shape ``(size,)`` per axis."""
        return tuple(x0 + h * np.arange(n) for x0, h, n in zip(self.first, self.spacing, self.sizes))

    @property
    def weights(self) -> tuple[np.ndarray, ...]:
        """Quadrature weights per axis: rectangle rule, trapezoidal where both ends are points."""
        weights = tuple(np.full(n, h) for n, h in zip(self.sizes, self.spacing))
        for w, closed in zip(weights, self._closed):
            if closed:
                w[[0, -1]] /= 2
        return weights

    def quadrature(self) -> np.ndarray:
        """Quadrature weights of shape ``sizes``; they sum to the volume of the box."""
        return reduce(np.multiply.outer, self.weights)

    def coordinate_attributes(
        self, names: Sequence[str] = ("x", "y", "z")
    ) -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
        """Values and attributes of each axis by name, from which a file tells the grid exactly."""
        return {
            name: (
                self.coordinates[axis],
                {
                    "units": "1",
                    "axis": "XYZ"[axis],
                    "long_name": f"position along {name}",
                    "grid_location": self.location,
                    "grid_origin": self.origin[axis],
                    "grid_length": self.lengths[axis],
                    "boundary": "periodic" if self.periodic[axis] else "bounded",
                },
            )
            for axis, name in enumerate(names[: self.ndim])
        }

    def wavenumbers(self, axis: int) -> np.ndarray:
        """Angular wavenumbers ``2 pi k / length`` in FFT order; ``ValueError`` for a non-periodic axis."""
        if not self.periodic[axis]:
            raise ValueError(f"axis {axis} is not periodic, so it has no Fourier wavenumbers")
        return 2 * np.pi * np.fft.fftfreq(self.sizes[axis], d=self.spacing[axis])

    def with_sizes(self, sizes: tuple[int, ...]) -> Grid:
        """The same box sampled with other sizes."""
        return replace(self, sizes=sizes)


def resample(values: Values, source: Grid, target: Grid, method: str = "linear") -> Values:
    """Values of a field on ``target``, given those on ``source``, along the last ``ndim`` axes.

    Periodic axes are resampled by their Fourier series: truncated or zero-padded, with the Nyquist mode of an
    even size read as a cosine (so real stays real, and going to a finer grid and back is the identity) and
    with the phase shift between node and cell grids. Other axes are interpolated by the polynomial through
    the 2 (``"linear"``) or 4 (``"cubic"``) nearest points, which also extrapolates the half cell at the ends.

    ``values`` is a NumPy array or a tensor (differentiable, any device), real or complex, of shape
    ``(..., *source.sizes)``; the result has the same kind and dtype and shape ``(..., *target.sizes)``.

    >>> coarse, fine = Grid((8,)), Grid((16,))
    >>> f = lambda grid: np.sin(2 * np.pi * grid.coordinates[0])
    >>> bool(np.allclose(resample(f(coarse), coarse, fine), f(fine)))
    True

    Raises ``ValueError`` when shapes do not match, when the two grids cover different domains or when the
    method is unknown, ``TypeError`` for values that are not floating point or complex.
    """
    import torch

    if tuple(values.shape[-source.ndim :]) != source.sizes:
        raise ValueError(
            f"values of shape {tuple(values.shape)} do not end in the source grid's {source.sizes}"
        )
    for name in ("lengths", "periodic", "origin"):
        a, b = getattr(source, name), getattr(target, name)
        if len(a) != len(b) or not np.allclose(a, b, rtol=1e-9, atol=1e-12):
            raise ValueError(f"resample needs one domain, but source has {name}={a} and target {name}={b}")
    if method not in _POINTS:
        raise ValueError(f"method={method!r} is unknown: expected one of {', '.join(map(repr, _POINTS))}")
    x = torch.from_numpy(np.ascontiguousarray(values)) if isinstance(values, np.ndarray) else values
    if not (x.is_floating_point() or x.is_complex()):
        raise TypeError(f"resample needs floating point or complex values, got {values.dtype}")
    parts = torch.view_as_real(x).movedim(-1, 0) if x.is_complex() else x
    for axis in range(-source.ndim, 0):
        if source.sizes[axis] == target.sizes[axis] and source.location == target.location:
            continue
        if source.periodic[axis]:
            shift = (target.first[axis] - source.first[axis]) / source.lengths[axis]
            parts = _fourier(parts, axis, target.sizes[axis], shift)
        else:
            parts = _interpolate(
                parts, axis, source.coordinates[axis], target.coordinates[axis], _POINTS[method]
            )
    y = torch.view_as_complex(parts.movedim(0, -1).contiguous()) if x.is_complex() else parts
    return y.numpy() if isinstance(values, np.ndarray) else y  # pyright: ignore[reportReturnType]


def _fourier(x: torch.Tensor, axis: int, size: int, shift: float) -> torch.Tensor:
    """Real periodic ``x`` on ``size`` points displaced by ``shift`` periods."""
    import torch

    old = x.shape[axis]
    modes = torch.fft.rfft(x, dim=axis, norm="forward").movedim(axis, -1)
    kept = min(old, size) // 2 + 1
    modes = modes[..., :kept]
    if shift:
        k = torch.arange(kept, dtype=torch.float64, device=x.device)
        modes = modes * torch.exp(2j * torch.pi * shift * k).to(modes.dtype)
    if old != size and min(old, size) % 2 == 0:
        # The pair of modes +-n/2 of the finer grid is one mode on the coarser grid.
        scale = torch.ones(kept, dtype=x.dtype, device=x.device)
        scale[-1] = 0.5 if size > old else 2.0
        modes = modes * scale
    return torch.fft.irfft(modes, n=size, dim=-1, norm="forward").movedim(-1, axis)


def _interpolate(x: torch.Tensor, axis: int, old: np.ndarray, new: np.ndarray, points: int) -> torch.Tensor:
    """Lagrange interpolation of ``x`` along ``axis`` from uniform ``old`` to ``new`` coordinates."""
    import torch

    points = min(points, old.size)
    position = (new - old[0]) / (old[-1] - old[0]) * (old.size - 1)
    start = np.clip(np.floor(position).astype(int) - (points // 2 - 1), 0, old.size - points)
    local = position - start
    result = torch.zeros(1, dtype=x.dtype, device=x.device)
    for i in range(points):
        others = [j for j in range(points) if j != i]
        weight = np.prod([(local - j) / (i - j) for j in others], axis=0)
        taken = x.index_select(axis, torch.from_numpy(start + i).to(x.device)).movedim(axis, -1)
        result = result + taken * torch.from_numpy(weight).to(taken)
    return result.movedim(-1, axis)


def _rounded(value: float, tolerance: float) -> float:
    """The shortest decimal number within ``tolerance`` of ``value``."""
    return next(r for digits in range(18) if abs((r := round(value, digits)) - value) <= tolerance)
