"""Conjugate gradients with a multigrid cycle that is learned, unrolled to be differentiated.

Set-up and cycle are those of `MultigridPreconditioner`, in torch for several domains at a time; tests hold
them together. Sizes are powers of two times an odd number, and no axis is periodic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad, relu

from solvers.cells import Cells, greatest
from solvers.cycle_losses import LOSSES, Run
from solvers.dense_cycle import Grid, apply, cycle, pair_sums
from solvers.hierarchy import COARSEST
from solvers.weights import FEATURES, CycleWeights, FaceNetwork, interior


def pack(stencils: Sequence) -> Tensor:
    """Domains as channels `(domain, 2 d + 1, *sizes)`: conductances to upper neighbours, of walls, fluid."""
    rows = []
    for stencil in stencils:
        cells = Cells.of(stencil, np.float64, greatest(stencil))
        upper = [np.moveaxis(np.moveaxis(w, axis, 0)[1:], 0, axis) for axis, w in enumerate(cells.inner)]
        rows.append(np.stack([*upper, *cells.walls, cells.fluid]))
    return torch.from_numpy(np.stack(rows))


class LearnedCycle(nn.Module):
    """Conjugate gradients with a learned cycle, unrolled: from right-hand sides to what a step leaves.

    Args:
        ndim: number of axes, 2 or 3.
        hidden: width of the two hidden layers of the network at faces.
        n_steps: smoothing steps.
        iterations: steps of conjugate gradients, at least 2.
        loss: what of the run is returned, a name in `LOSSES`.

    Shapes:
        channels of `pack` and a right-hand side `(batch, 2 d + 2, *sizes)` to `(batch, 1, 1)`. The residual
        is that of the recursion, which rounding does not stop from becoming small.
    """

    def __init__(
        self, ndim: int = 2, hidden: int = 16, n_steps: int = 2, iterations: int = 8, loss: str = "residual"
    ):
        super().__init__()
        self.ndim, self.n_steps, self.iterations = ndim, n_steps, iterations
        self.measure = LOSSES[loss]
        self.lowest = nn.Parameter(torch.full((3,), float(np.log(0.5 / 1.5))))  # 2 sigmoid is 0.5
        self.net = nn.ModuleList(
            [nn.Linear(FEATURES, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, 2)]
        )
        last = self.net[-1]
        nn.init.zeros_(last.weight)  # pyright: ignore[reportArgumentType]
        nn.init.zeros_(last.bias)  # pyright: ignore[reportArgumentType]

    @classmethod
    def of(cls, weights: CycleWeights, ndim: int, **options: Any) -> Self:
        """With weights to go on from; `options` are `iterations` and `loss`.

        Raises:
            ValueError: they were learned for other axes, or are not those of a network with two hidden layers
                of one width.
        """
        layers = () if weights.network is None else weights.network.layers
        widths = [len(offset) for _, offset in layers]
        if weights.ndim not in (None, ndim) or len(widths) != 3 or widths[0] != widths[1]:
            raise ValueError(
                f"training on {ndim} axes cannot start from weights for {weights.ndim} with layers of "
                f"{widths}: expected the same axes and two hidden layers of one width"
            )
        made = cls(ndim, widths[0], weights.n_steps, **options)
        with torch.no_grad():
            for layer, pair in zip(made.net, layers):
                for parameter, values in zip(layer.parameters(), pair):
                    parameter.copy_(torch.from_numpy(values))
            low = torch.tensor([weights.lowest[min(k, len(weights.lowest) - 1)] for k in range(3)])
            made.lowest.copy_(torch.log(low / (2 - low)))
        return made

    def forward(self, x: Tensor) -> Tensor:
        """Run conjugate gradients, and return what the loss is made of."""
        return self.measure(self.run(x))[:, None, None]

    def run(self, x: Tensor) -> Run:
        """Run conjugate gradients."""
        grids = self.grids(x[:, :-1])
        r = x[:, -1]
        z = p = cycle(grids, r)
        rz = _dot(r, z)
        residuals, lengths, turns, products = [r.flatten(1).norm(dim=1)], [], [], []
        for k in range(self.iterations):
            Ap = apply(grids[0], p)
            step = rz / _dot(p, Ap)
            last, r = r, r - step * Ap
            lengths.append(step)
            products.append(rz)
            residuals.append(r.flatten(1).norm(dim=1))
            if k + 1 < self.iterations:
                z = cycle(grids, r)
                # The form of flexible conjugate gradients, which rounding hurts less.
                turn = _dot(r - last, z) / rz
                rz = _dot(r, z)
                p = z + turn * p
                turns.append(turn)
        numbers = (torch.stack(v).flatten(1) for v in (residuals, lengths, turns, products))
        return Run(*numbers)

    def weights(self) -> CycleWeights:
        """What was learned, for `MultigridPreconditioner`."""
        layers = [(m.weight.detach(), m.bias.detach()) for m in self.net]  # pyright: ignore
        lowest = (2 * torch.sigmoid(self.lowest)).tolist()
        arrays = tuple((w.double().numpy(), b.double().numpy()) for w, b in layers)
        return CycleWeights(tuple(lowest), self.n_steps, FaceNetwork(arrays), self.ndim)

    def grids(self, domains: Tensor) -> list[Grid]:
        """All levels of domains in the form of `pack`."""
        ndim = domains.ndim - 2
        upper, walls, fluid = domains[:, :ndim], domains[:, ndim : 2 * ndim], domains[:, -1]
        inner = [pad(upper[:, axis], _around(ndim, axis, 1, 0)) for axis in range(ndim)]
        parts, found = [walls[:, axis] for axis in range(ndim)], []
        while True:
            level, diagonal = len(found), _diagonal(inner, parts)
            inverse = torch.where(diagonal > 0, 1 / diagonal.clamp_min(1e-30), 0.0)
            found.append(Grid(inner, diagonal, inverse, self._steps(level), (2,) * ndim))
            odd = any(n % 2 for n in fluid.shape[1:])
            if fluid[0].numel() <= COARSEST or odd:
                break
            inner, parts, fluid, found[-1].shares = self._coarsened(inner, parts, fluid, level + 1)
        found[-1].inverse = _inverse(found[-1])
        return found

    def _steps(self, level: int) -> list[Tensor]:
        low = 2 * torch.sigmoid(self.lowest[min(level, 2)])
        n = self.n_steps
        angles = [np.pi * (2 * k + 1) / (2 * n) for k in range(n)]
        return [1 / (1 + low / 2 - (1 - low / 2) * float(np.cos(angle))) for angle in angles]

    def _coarsened(
        self, conductances: list[Tensor], walls: list[Tensor], fluid: Tensor, level: int
    ) -> tuple[list, list, Tensor, list]:
        ndim = len(conductances)
        axes = range(ndim)
        fluid = _sums(fluid, axes) / 2**ndim
        walls = [0.5 * _sums(w, axes) for w in walls]
        across, inside, series = [], [], []
        for axis, w in enumerate(conductances):
            others = [k for k in axes if k != axis]
            faces = w.movedim(axis + 1, 0)
            outer, within = faces[::2], faces[1::2]
            series.append(_sums(_series(outer, within).movedim(0, axis + 1), others))
            across.append(_sums(outer.movedim(0, axis + 1), others))
            inside.append(_sums(within.movedim(0, axis + 1), others))
        halves = [0.5 * a for a in across]
        total = _diagonal(halves, walls)
        wall = torch.where(total > 0, sum(walls) / total.clamp_min(1e-30), 0.0)
        inner, shares = [], []
        amid = self._at_face(torch.as_tensor(interior(level, ndim)).to(fluid))
        for axis in axes:
            (i, j), (f, g), (w, v) = (_sides(u, axis) for u in (inside[axis], fluid, wall))
            base = halves[axis]
            p, q = (torch.where(t > 0, base / t.clamp_min(1e-30), 0.0) for t in _sides(total, axis))
            greatest = torch.maximum(across[axis], torch.maximum(i, j))
            safe = torch.where(greatest > 0, greatest, 1.0)
            opened = across[axis] / safe
            depth = [torch.full_like(opened, float(level == k)) for k in (1, 2)]
            columns = torch.where(base > 0, series[axis] / base.clamp_min(1e-30), 0.0)
            shared, near, far = [opened, columns], [i / safe, f, w, p], [j / safe, g, v, q]
            a = self._at_face(torch.stack([*shared, *near, *far, *depth], -1)) - amid
            b = self._at_face(torch.stack([*shared, *far, *near, *depth], -1)) - amid
            factor = torch.exp((0.5 * (a[..., 0] + b[..., 0])).clamp(-4, 4))
            upper = (0.5 * opened * torch.sigmoid(a[..., 1])).movedim(axis + 1, 0)
            lower = (0.5 * opened * torch.sigmoid(b[..., 1])).movedim(axis + 1, 0)
            inner.append(base * factor)
            end = torch.zeros_like(lower[:1])
            pair = (torch.cat([end, lower[1:-1]]), torch.cat([upper[1:-1], end]))
            shares.append(tuple(share.movedim(0, axis + 1) for share in pair))
        return inner, walls, fluid, shares

    def _at_face(self, x: Tensor) -> Tensor:
        first, second, last = self.net
        return last(relu(second(relu(first(x)))))


def _diagonal(inner: list[Tensor], walls: list[Tensor]) -> Tensor:
    total = torch.zeros_like(walls[0])
    for axis, (w, wall) in enumerate(zip(inner, walls)):
        n = wall.shape[axis + 1]
        total = total + wall + w.narrow(axis + 1, 0, n) + w.narrow(axis + 1, 1, n)
    return total


def _inverse(grid: Grid) -> Tensor:
    n = grid.diagonal[0].numel()
    there = (grid.diagonal > 0).flatten(1).to(grid.diagonal.dtype)
    identity = torch.eye(n, dtype=there.dtype, device=there.device).view(n, *grid.diagonal.shape[1:])
    columns = []
    for k in range(len(there)):
        inner = [w[k : k + 1] for w in grid.inner]
        one = Grid(inner, grid.diagonal[k : k + 1], grid.inverse)
        columns.append(apply(one, identity).flatten(1))
    matrix = torch.stack(columns) + torch.diag_embed(1 - there)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(matrix))
    return inverse * there[:, :, None] * there[:, None]


def _series(outer: Tensor, within: Tensor) -> Tensor:
    closed = torch.zeros_like(within[:1])
    below, above = torch.cat([closed, within]), torch.cat([within, closed])
    rest = below * above + 0.5 * outer * (below + above)
    return torch.where(rest > 0, outer * below * above / rest.clamp_min(1e-30), 0.0)


def _sums(u: Tensor, axes: Sequence[int]) -> Tensor:
    for axis in axes:
        u = pair_sums(u, axis + 1)
    return u


def _sides(u: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    n = u.shape[axis + 1]
    padded = pad(u, _around(u.ndim - 1, axis, 1, 1))
    return padded.narrow(axis + 1, 0, n + 1), padded.narrow(axis + 1, 1, n + 1)


def _around(ndim: int, axis: int, before: int, after: int) -> list[int]:
    """Padding of one axis, as torch wants it: from the last axis on."""
    return [0, 0] * (ndim - 1 - axis) + [before, after]


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).flatten(1).sum(1).view(-1, *[1] * (a.ndim - 1))
