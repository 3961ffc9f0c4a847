"""The symmetric finite-volume stencil of diffusion on masked uniform grids, in one to three dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Self, final, get_args

import numpy as np

if TYPE_CHECKING:
    import scipy.sparse

Kind = Literal["dirichlet", "neumann", "periodic"]
"""Condition on a face; ``periodic`` joins both ends of an axis."""


@final
@dataclass(frozen=True, eq=False)
class Stencil:
    r"""$-\nabla\cdot(a\nabla u)$ on the fluid cells of a uniform grid, scaled by $1/h^2$.

    $$(Au)_i = \sum_{\text{faces } f \text{ of } i} w_f\,(u_i - u_{j(f)}), \qquad
    w_f = \frac{1}{h^2}\,\frac{2 a_i a_j}{a_i + a_j}$$

    with unknowns at the centres of the cells where ``mask`` is True, numbered in C order. $w_f$ is the
    conductance of two half cells in series, exact for a coefficient that jumps at the face. A Dirichlet face
    lies half a cell from the centre, $w_f = 2a_i/h^2$, and its value takes the place of $u_j$; a Neumann
    face has $w_f = 0$. Values and fluxes that are not zero go to the right-hand side:
    :meth:`boundary_terms`. $A$ is a symmetric M-matrix, positive definite but for the constants on those
    connected parts of the fluid that have no Dirichlet face.

    >>> Stencil.poisson(np.ones(3, bool), spacing=0.5, bc={"x": ("neumann", "dirichlet")}).to_csr().toarray()
    array([[ 4., -4.,  0.],
           [-4.,  8., -4.],
           [ 0., -4., 12.]])

    ``weights`` holds $w_f$ of the faces along each axis, one more than cells; on a periodic axis the first
    and the last are the same face. ``ends`` are the conditions at the lower and upper end of each axis.
    """

    mask: np.ndarray
    weights: tuple[np.ndarray, ...]
    spacing: tuple[float, ...]
    ends: tuple[tuple[str, str], ...]

    @classmethod
    def poisson(
        cls,
        mask: np.ndarray,
        coeff: np.ndarray | None = None,
        *,
        spacing: float | Sequence[float] = 1.0,
        bc: str | Mapping[str, str | tuple[str, str]] = "dirichlet",
        obstacles: str = "neumann",
    ) -> Self:
        """The stencil from its geometry.

        Args:
            mask: boolean ``(*sizes)`` of one to three axes, True in the fluid.
            coeff: coefficient of each cell ``(*sizes)``, positive in the fluid; default: 1.
            spacing: width of the cells, for every axis or each.
            bc: condition on the faces of the box, for all or by axis, as in ``{"x": ("neumann",
                "dirichlet"), "y": "periodic"}``; axes left out are Dirichlet.
            obstacles: condition on the faces between fluid and solid cells.

        Raises ``TypeError`` for a mask that is not boolean, ``ValueError`` for one without fluid, for other
        shapes, coefficients and spacings that are not positive, and conditions or axes that do not exist.
        """
        mask = np.asarray(mask)
        if mask.dtype != bool:
            raise TypeError(f"mask has dtype {mask.dtype}, expected bool: True where there is fluid")
        if not 1 <= mask.ndim <= 3:
            raise ValueError(f"mask has shape {mask.shape}, expected one to three axes")
        if not mask.any():
            raise ValueError(
                f"mask of shape {mask.shape} has no fluid cell (True): there is nothing to solve"
            )
        a = np.ones(mask.shape) if coeff is None else np.asarray(coeff, dtype=np.float64)
        if a.shape != mask.shape:
            raise ValueError(f"coeff has shape {a.shape}, the mask {mask.shape}")
        a = np.where(mask, a, 1.0)
        if not (np.isfinite(a).all() and a.min() > 0):
            raise ValueError("coeff must be positive and finite in every fluid cell")
        if np.ndim(spacing) and np.shape(spacing) != (mask.ndim,):
            raise ValueError(f"spacing={spacing} should be one number, or one for each of {mask.ndim} axes")
        widths = tuple(float(h) for h in np.broadcast_to(spacing, mask.ndim))
        if not (np.isfinite(widths).all() and min(widths) > 0):
            raise ValueError(f"spacing={spacing} must be positive and finite")
        ends = _conditions(bc, mask.ndim)
        if obstacles not in ("dirichlet", "neumann"):
            raise ValueError(f"obstacles={obstacles!r} is unknown: choose 'dirichlet' or 'neumann'")
        weights = tuple(
            conductances(mask, a, axis, ends[axis], obstacles) / widths[axis] ** 2
            for axis in range(mask.ndim)
        )
        return cls(mask, weights, widths, ends)

    @property
    def size(self) -> int:
        """Number of unknowns."""
        return int(np.count_nonzero(self.mask))

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Which axes are periodic."""
        return tuple(kind == "periodic" for kind, _ in self.ends)

    @cached_property
    def diagonal(self) -> np.ndarray:
        """Sum of the conductances around each cell, ``(*sizes)``, zero in solid cells."""
        total = np.zeros(self.mask.shape)
        for axis, w in enumerate(self.weights):
            total += lower(w, axis) + upper(w, axis)
        return np.where(self.mask, total, 0.0)

    def to_csr(self) -> scipy.sparse.csr_matrix:
        """The matrix, float64, with sorted column numbers and no stored zeros."""
        import scipy.sparse

        n, ndim = self.size, self.mask.ndim
        number = np.full(self.mask.shape, -1, dtype=np.int32)
        number[self.mask] = np.arange(n, dtype=np.int32)
        # Neighbours below, the cell itself, neighbours above: their numbers increase from left to right.
        columns = np.empty((n, 2 * ndim + 1), dtype=np.int32)
        values = np.empty((n, 2 * ndim + 1))
        columns[:, ndim], values[:, ndim] = number[self.mask], self.diagonal[self.mask]
        for axis, w in enumerate(self.weights):
            for place, step, side in ((axis, 1, lower), (2 * ndim - axis, -1, upper)):
                columns[:, place] = self._shifted(number, axis, step)[self.mask]
                values[:, place] = -side(w, axis)[self.mask]
        kept = (columns >= 0) & (values != 0)
        starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
        matrix = scipy.sparse.csr_matrix((values[kept], columns[kept], starts), shape=(n, n))
        if any(self.periodic):
            matrix.sum_duplicates()
        return matrix

    def _shifted(self, number: np.ndarray, axis: int, step: int) -> np.ndarray:
        """Numbers of the neighbours one cell down (``step`` 1) or up (-1), negative where there is none."""
        neighbours = np.roll(number, step, axis)
        if not self.periodic[axis]:
            np.moveaxis(neighbours, axis, 0)[0 if step == 1 else -1] = -1
        return neighbours

    def apply(self, values: np.ndarray) -> np.ndarray:
        """$Au$ for fields ``(..., *sizes)``; what they hold in solid cells does not matter."""
        ndim = self.mask.ndim
        u = np.where(self.mask, values, 0.0)
        result = self.diagonal * u
        for axis, w in enumerate(self.weights):
            at = axis - ndim
            inner = np.take(w, range(1, self.mask.shape[axis]), axis)
            upper(result, at)[...] -= inner * lower(u, at)
            lower(result, at)[...] -= inner * upper(u, at)
            if self.periodic[axis]:
                first, last = (np.take(u, [end], at) for end in (0, -1))
                seam = np.take(w, [0], axis)
                np.moveaxis(result, at, 0)[0] -= np.moveaxis(seam * last, at, 0)[0]
                np.moveaxis(result, at, 0)[-1] -= np.moveaxis(seam * first, at, 0)[0]
        return np.where(self.mask, result, 0.0)

    def boundary_terms(
        self, values: Sequence[np.ndarray | float] = (), fluxes: Sequence[np.ndarray | float] = ()
    ) -> np.ndarray:
        r"""What inhomogeneous boundary data add to the right-hand side, ``(*sizes)``.

        ``values`` are $u$ at Dirichlet faces and ``fluxes`` $a\,\partial u/\partial x_k$ at Neumann faces:
        per axis an array that broadcasts to the faces along it, one more than cells. All other faces are
        ignored.

        >>> stencil = Stencil.poisson(np.ones(4, bool), spacing=0.25)
        >>> np.linalg.solve(stencil.to_csr().toarray(), stencil.boundary_terms(values=[[0, 0, 0, 0, 8]]))
        array([1., 3., 5., 7.])
        """
        total = np.zeros(self.mask.shape)
        for axis, w in enumerate(self.weights):
            below, above = sides(self.mask, axis, self.periodic[axis])
            prescribed = np.zeros(w.shape)
            if len(values):
                prescribed += w * values[axis]
            outward = np.zeros(w.shape)
            if len(fluxes):
                outward += np.where(w == 0, fluxes[axis], 0.0) / self.spacing[axis]
            total += upper(np.where(above, 0.0, prescribed + outward), axis)
            total += lower(np.where(below, 0.0, prescribed - outward), axis)
        return np.where(self.mask, total, 0.0)

    @cached_property
    def components(self) -> tuple[np.ndarray, np.ndarray]:
        """Connected parts of the fluid: each unknown's part, ``(size,)``, and which parts are singular.

        A part is singular when no Dirichlet face touches it, so that constants on it are in the nullspace.
        """
        import scipy.ndimage
        from scipy.sparse import coo_matrix, csgraph

        labels, count = scipy.ndimage.label(self.mask)  # pyright: ignore[reportGeneralTypeIssues]
        pairs = [np.empty((2, 0), dtype=labels.dtype)]
        for axis in np.flatnonzero(self.periodic):
            ends = np.stack([np.take(labels, end, axis).ravel() for end in (0, -1)])
            pairs.append(ends[:, (ends > 0).all(axis=0)])
        first, last = np.concatenate(pairs, axis=1) - 1
        graph = coo_matrix((np.ones(first.size, bool), (first, last)), shape=(count, count))
        count, merged = csgraph.connected_components(graph, directed=False)
        part = merged[labels[self.mask] - 1]
        grounded = np.zeros(count, dtype=bool)
        grounded[part[self.boundary_terms(values=[1.0] * self.mask.ndim)[self.mask] > 0]] = True
        return part, ~grounded

    @property
    def nullspace(self) -> scipy.sparse.csc_matrix:
        """Orthonormal columns ``(size, k)``: the constants on the singular parts of the fluid."""
        from scipy.sparse import csc_matrix

        part, singular = self.components
        rows = np.flatnonzero(singular[part])
        columns = (np.cumsum(singular) - 1)[part[rows]]
        counts = np.bincount(columns, minlength=int(singular.sum()))
        return csc_matrix((counts[columns] ** -0.5, (rows, columns)), shape=(self.size, len(counts)))

    def project(self, values: np.ndarray) -> np.ndarray:
        """``values`` ``(size,)`` without their mean over each singular part of the fluid.

        A right-hand side is compatible when this does not change it.
        """
        part, singular = self.components
        means = np.bincount(part, values) / np.bincount(part)
        return values - np.where(singular, means, 0.0)[part]


def _conditions(bc: str | Mapping[str, str | tuple[str, str]], ndim: int) -> tuple[tuple[str, str], ...]:
    """Conditions at the lower and upper end of each axis."""
    axes = "xyz"[:ndim]
    by_axis = dict.fromkeys(axes, bc) if isinstance(bc, str) else bc
    if not set(by_axis) <= set(axes):
        raise ValueError(f"bc names the axes {', '.join(by_axis)}, but the grid has {', '.join(axes)}")
    ends = []
    for axis in axes:
        given = by_axis.get(axis, "dirichlet")
        pair = (given, given) if isinstance(given, str) else tuple(given)
        unknown = len(pair) != 2 or any(kind not in get_args(Kind) for kind in pair)
        if unknown or (len(set(pair)) == 2 and "periodic" in pair):
            raise ValueError(
                f"bc of axis {axis} is {given!r}: expected one or a pair of 'dirichlet', 'neumann', or "
                "'periodic' for both ends"
            )
        ends.append(pair)
    return tuple(ends)


def conductances(mask: np.ndarray, a: np.ndarray, axis: int, ends: tuple[str, str], walls: str) -> np.ndarray:
    """Conductances of all faces along an axis, for cells of width 1."""
    below, above = sides(mask, axis, ends[0] == "periodic")
    a_below, a_above = sides(a, axis, ends[0] == "periodic")
    series = 2 / (1 / np.where(below, a_below, 1.0) + 1 / np.where(above, a_above, 1.0))
    half = 2 * np.where(below, a_below, a_above)
    closed = np.full(mask.shape[axis] + 1, walls == "neumann")
    closed[[0, -1]] = [end == "neumann" for end in ends]
    if ends[0] == "periodic":
        closed[[0, -1]] = walls == "neumann"
    closed = closed.reshape([-1 if k == axis else 1 for k in range(mask.ndim)])
    return np.where(below & above, series, np.where((below ^ above) & ~closed, half, 0.0))


def sides(cells: np.ndarray, axis: int, periodic: bool) -> tuple[np.ndarray, np.ndarray]:
    """Values of the cells below and above each face along an axis; zero outside the box."""
    width = [(int(k == axis),) * 2 for k in range(cells.ndim)]
    padded = np.pad(cells, width, mode="wrap" if periodic else "constant")
    return lower(padded, axis), upper(padded, axis)


def lower(values: np.ndarray, axis: int) -> np.ndarray:
    """All but the last along an axis, as a view."""
    return np.moveaxis(np.moveaxis(values, axis, 0)[:-1], 0, axis)


def upper(values: np.ndarray, axis: int) -> np.ndarray:
    """All but the first along an axis, as a view."""
    return np.moveaxis(np.moveaxis(values, axis, 0)[1:], 0, axis)
