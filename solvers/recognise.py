"""A sparse matrix that is the stencil of diffusion on a grid, told from one that is not."""

from __future__ import annotations

from typing import Any

import numpy as np

from pde_data.equations.stencil import Stencil

_ROUNDING = 1e-9  # of the greatest diagonal entry


def stencil_of(matrix: Any, sizes: tuple[int, ...]) -> Stencil:
    """Return the stencil with this matrix; its unknowns are the cells of a full grid in C order.

    What a row sums to is the conductance of Dirichlet walls. Periodic axes are recognised by their seams.

    Raises:
        ValueError: the matrix is something else; the message says what to use.
    """
    import scipy.sparse

    other = "use GraphPreconditioner for a general matrix"
    if not 1 <= len(sizes) <= 3 or min(sizes) < 1:
        raise ValueError(f"sizes={sizes} should be one to three positive numbers of cells")
    csr = scipy.sparse.csr_array(matrix, dtype=np.float64)
    n = int(np.prod(sizes))
    if csr.shape != (n, n):
        raise ValueError(f"the matrix has shape {csr.shape}, but a grid of {sizes} has {n} cells; {other}")
    csr.sum_duplicates()
    coo = csr.tocoo()
    if not np.isfinite(coo.data).all():
        raise ValueError("the matrix holds numbers that are not finite")
    diagonal = csr.diagonal()
    scale = float(diagonal.max(initial=0.0))
    if abs(csr - csr.T).max() > _ROUNDING * scale:
        raise ValueError(f"the matrix is not symmetric, so it is no stencil of diffusion; {other}")
    i, j, a = (part[(coo.row < coo.col) & (coo.data != 0)] for part in (coo.row, coo.col, coo.data))
    if (a > 0).any():
        raise ValueError(
            f"the matrix has positive entries off the diagonal, so it is no stencil of diffusion; {other}"
        )
    here, there = (np.stack(np.unravel_index(k.astype(int), sizes)) for k in (i, j))
    step = there - here
    weights = [np.zeros([m + (k == axis) for k, m in enumerate(sizes)]) for axis in range(len(sizes))]
    periodic, known = [False] * len(sizes), np.zeros(len(i), bool)
    for axis, m in enumerate(sizes):
        straight = (np.delete(step, axis, 0) == 0).all(0)
        near = straight & (step[axis] == 1)
        seam = straight & (step[axis] == m - 1) & (m > 2)
        for which, at in ((near, there), (seam, here)):
            np.subtract.at(weights[axis], tuple(at[:, which]), np.asarray(a[which]))
        if seam.any():
            periodic[axis] = True
            along = np.moveaxis(weights[axis], axis, 0)
            along[-1] = along[0]
        known |= near | seam
    if not known.all():
        k = int(np.flatnonzero(~known)[0])
        raise ValueError(
            f"the matrix joins cells {here[:, k].tolist()} and {there[:, k].tolist()}, which are no "
            f"neighbours on a grid of {sizes}; {other}"
        )
    rest = np.asarray(csr.sum(1)).reshape(sizes)
    if rest.min() < -_ROUNDING * scale:
        raise ValueError(f"rows of the matrix have negative sums, so it is no stencil of diffusion; {other}")
    return _with_walls(weights, np.where(rest > _ROUNDING * scale, rest, 0), sizes, periodic)


def _with_walls(
    weights: list[np.ndarray], rest: np.ndarray, sizes: tuple[int, ...], periodic: list[bool]
) -> Stencil:
    """Put what the rows sum to on outer faces, where a cell has one."""
    for axis in range(len(sizes)):
        if periodic[axis]:
            continue
        for end in (0, -1):
            face = np.moveaxis(weights[axis], axis, 0)
            cells = np.moveaxis(rest, axis, 0)
            share = np.moveaxis(_outer_faces(sizes, periodic), axis, 0)[end]
            face[end] += np.divide(cells[end], share, out=np.zeros_like(cells[end]), where=share > 0)
    inside = _outer_faces(sizes, periodic) == 0
    if (rest[inside] > 0).any():
        raise ValueError(
            "rows of cells amid the grid have positive sums: a term without derivatives, which is no "
            "stencil of diffusion; use GraphPreconditioner for a general matrix"
        )
    ends: Any = tuple(("periodic",) * 2 if wraps else ("dirichlet",) * 2 for wraps in periodic)
    return Stencil(np.ones(sizes, bool), tuple(weights), (1.0,) * len(sizes), ends)


def _outer_faces(sizes: tuple[int, ...], periodic: list[bool]) -> np.ndarray:
    """Number of faces of each cell on the outside of the box."""
    count = np.zeros(sizes)
    for axis, wraps in enumerate(periodic):
        if not wraps:
            along = np.moveaxis(count, axis, 0)
            along[0] += 1
            along[-1] += 1
    return count
