"""The solve phase of the multigrid preconditioner on a device of torch, a GPU for one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from solvers.dense_cycle import Grid, cycle
from solvers.stencil_loops import call

if TYPE_CHECKING:
    from solvers.hierarchy import Level


def usable(device: str | torch.device) -> torch.device:
    """The device by its name, tried out.

    Raises:
        ValueError: torch does not know it, or it is not on this machine.
    """
    try:
        found = torch.device(device)
        torch.zeros(1, device=found)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device={str(device)!r} cannot be used here, take device=None for the compiled kernels: {error}"
        ) from error
    return found


class DeviceCycle:
    """The cycle on dense arrays, for several vectors at a time: solid cells are computed, too, and stay zero.

    Args:
        levels: as `ladder` builds them.
        inverse: of the coarsest matrix.
        scale: what the conductances were divided by.
        components: those of the stencil where a closed part of the fluid has to be projected.
        device: where the arrays go.
    """

    def __init__(
        self,
        levels: Sequence[Level],
        inverse: np.ndarray,
        scale: float,
        components: tuple[np.ndarray, np.ndarray] | None,
        device: torch.device,
    ):
        self.device, self._scale = device, scale
        self._grids = [_grid(level, device) for level in levels]
        self._places = (self._grids[0].diagonal > 0).flatten().nonzero()[:, 0]
        coarsest = self._grids[-1]
        coarsest.inverse = torch.from_numpy(inverse).to(coarsest.diagonal)[None]
        coarsest.places = (coarsest.diagonal > 0).flatten().nonzero()[:, 0]
        self._components = None
        if components is not None:
            part, closed = (torch.from_numpy(array).to(device) for array in components)
            self._components = part.long(), closed, torch.bincount(part)

    @torch.no_grad()
    def __call__(self, r: Tensor) -> Tensor:
        """Apply to vectors `(size,)` or `(size, k)`; they keep their type and device."""
        rows = r.reshape(len(r), -1).T.to(self.device)
        greatest = rows.abs().amax(1, keepdim=True)
        known = greatest.isfinite() & (greatest > 0)
        # A power of two: exact, and out of reach of overflow in float32.
        size = torch.ldexp(torch.ones_like(greatest), greatest.frexp().exponent - 1)
        size = torch.where(known, size, 1.0).clamp_min(torch.finfo(rows.dtype).tiny)
        diagonal = self._grids[0].diagonal
        b = diagonal.new_zeros(len(rows), diagonal.numel())
        b[:, self._places] = (self._projected(rows) / size).to(b.dtype)
        u = cycle(self._grids, b.view(-1, *diagonal.shape[1:])).flatten(1)[:, self._places]
        z = self._projected(u.to(rows.dtype) * (size / self._scale))
        z = torch.where(known, z, rows * 0)  # NaN for what is not finite
        return z.T.reshape(r.shape).to(r.device)

    def _projected(self, rows: Tensor) -> Tensor:
        """Without the means over closed parts."""
        if self._components is None:
            return rows
        part, closed, counts = self._components
        means = rows.new_zeros(len(rows), len(counts)).index_add_(1, part, rows) / counts
        return rows - torch.where(closed, means, 0.0)[:, part]


def _grid(level: Level, device: torch.device) -> Grid:
    """A level of the compiled cycle as dense arrays of torch."""
    lines, ndim = level.lines, len(level.lines.sizes)

    def dense(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.copy()).to(device)[None]

    inner = []
    for axis, flat in enumerate(reversed(level.matrix.weights[:ndim])):
        cut = [slice(None, -1) if k == axis else slice(1, -1) for k in range(ndim)]
        inner.append(dense(lines.grid(flat)[tuple(cut)]))
    fluid = lines.zeros(level.dtype)
    call("scatter", lines, 1, np.ones(lines.unknowns, level.dtype), 1, fluid)
    diagonal = dense(lines.inner(fluid) * lines.inner(level.matrix.diagonal))
    inverse = torch.where(diagonal > 0, 1 / diagonal, 0.0)
    grid = Grid(inner, diagonal, inverse, [float(step) for step in level.steps])
    if level.down is not None:
        grid.factors, coarse = level.down.factors, level.down.coarse
        grid.shares = [(dense(coarse.inner(a)), dense(coarse.inner(b))) for a, b in level.down.weights]
    return grid
