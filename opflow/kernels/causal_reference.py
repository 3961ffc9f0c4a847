"""The recurrence of `causal_solve` in plain torch, in two orders: they define it, and they run on any device.

Fields are `(batch, group, c, row, column)`; taps `(group, c, c, kr, kc)` are those of `divide_by_corner`.
Nothing here is differentiated through: the operation has a rule of its own.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from opflow.kernels.causal_convolve import convolve


def diagonals(rows: int, columns: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield rows and columns of the points of each anti-diagonal; there are rows + columns - 1 of them."""
    for d in range(rows + columns - 1):
        row = torch.arange(max(0, d - columns + 1), min(rows, d + 1), device=device)
        yield row, d - row


def wavefront(y: Tensor, taps: Tensor) -> Tensor:
    """Solve all points of an anti-diagonal at once: they depend on earlier ones alone."""
    batch, groups, c, rows, columns = y.shape
    up, left = (k - 1 for k in taps.shape[-2:])
    width = columns + left
    # The corner stands for A^-1 y itself, all others for what they look back to, in one product per wave.
    matrix = taps.flatten(3).clone()
    matrix[..., :-1] *= -1
    matrix = matrix.flatten(2)
    back = torch.arange(up + 1, device=y.device)[:, None] * width + torch.arange(left + 1, device=y.device)
    x = pad(y, (left, 0, up, 0)).flatten(3)
    for row, column in diagonals(rows, columns, y.device):
        corner = row * width + column  # of the window that ends at the point
        window = x[..., back.view(-1, 1) + corner].movedim(0, 3)  # (group, c, tap, batch, point)
        values = torch.bmm(matrix, window.flatten(1, 2).flatten(2)).view(groups, c, batch, -1)
        x[..., corner + up * width + left] = values.movedim(2, 0)
    return x.view(batch, groups, c, rows + up, width)[..., up:, left:]


def row_scan(y: Tensor, taps: Tensor) -> Tensor:
    """Solve one row at a time, by a dense triangle for the points of a row."""
    batch, groups, c, rows, columns = y.shape
    up, left = (k - 1 for k in taps.shape[-2:])
    corner = taps[..., -1, -1]
    y = torch.einsum("goi,bgirw->rgwob", corner, y).flatten(2, 3)  # (row, group, column c, batch)
    behind = torch.arange(columns, device=y.device)[:, None] - torch.arange(columns, device=y.device)
    kept = (behind >= 0) & (behind <= left)
    places = (left - behind).clamp(0, left)
    blocks = taps[..., places] * kept  # (group, o, i, kr, column, column)
    blocks = blocks.permute(3, 0, 4, 1, 5, 2).flatten(4, 5).flatten(2, 3)
    x: list[Tensor] = []
    for r in range(rows):
        right = y[r]
        for a in range(1, min(r, up) + 1):
            right = right - blocks[up - a] @ x[r - a]
        # The diagonal blocks of the triangle hold A^-1 and count as the identity's.
        x.append(torch.linalg.solve_triangular(_unit(blocks[up], c), right, upper=False, unitriangular=True))
    return torch.stack(x).unflatten(2, (columns, c)).permute(4, 1, 3, 0, 2)


def _unit(triangle: Tensor, c: int) -> Tensor:
    n = triangle.shape[-1]
    block = torch.arange(n, device=triangle.device) // c
    return triangle * (block[:, None] != block) + torch.eye(n, dtype=triangle.dtype, device=triangle.device)


def plane_scan(
    y: Tensor, taps: Tensor, solve_plane: Callable[[Tensor, Tensor, Sequence[int]], Tensor]
) -> Tensor:
    """Solve `(batch, channel, plane, row, column)` plane by plane, each by `solve_plane(y, taps, flips)`."""
    groups = len(taps)
    back, forward = taps.shape[3] - 1, [0] * groups
    corner = taps[..., -1, -1, -1]
    y = torch.einsum("goi,bgi...->bgo...", corner, y.unflatten(1, (groups, -1))).flatten(1, 2)
    in_plane = taps[..., -1, :, :].clone()
    in_plane[..., -1, -1] = torch.eye(taps.shape[1], dtype=y.dtype, device=y.device)
    x: list[Tensor] = []
    for p in range(y.shape[2]):
        right = y[:, :, p]
        for a in range(1, min(p, back) + 1):
            right = right - convolve(x[p - a], taps[..., back - a, :, :].flatten(0, 1), forward, groups)
        x.append(solve_plane(right, in_plane, forward))
    return torch.stack(x, 2)
