"""Walk through a batch of fields in blocks that fit the cache."""

from collections.abc import Iterator

import torch
from torch import Tensor

# Bytes of one temporary of a block. The half dozen alive at a time should stay in the last-level cache and
# be recycled by the allocator; far smaller blocks pay more for dispatch and for waking threads.
_BLOCK_BYTES = 1 << 22


def blocks(batch: int, rows: int, row_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Yield (samples, rows): several whole samples, or some rows of one sample when samples are large.

    Example:
        >>> [(b.start, b.stop, r.start, r.stop) for b, r in blocks(2, rows=4, row_bytes=1 << 21)]
        [(0, 1, 0, 2), (0, 1, 2, 4), (1, 2, 0, 2), (1, 2, 2, 4)]
    """
    samples = _BLOCK_BYTES // (row_bytes * rows)
    if samples >= 1:
        for b in range(0, batch, samples):
            yield slice(b, min(b + samples, batch)), slice(0, rows)
        return
    step = max(1, _BLOCK_BYTES // row_bytes)
    for b in range(batch):
        for r in range(0, rows, step):
            yield slice(b, b + 1), slice(r, min(r + step, rows))


def runs_in_blocks(x: Tensor) -> bool:
    """Whether blocks pay: eagerly, on a CPU, in the dtype of the tensors."""
    return (
        x.device.type == "cpu" and not torch.compiler.is_compiling() and not torch.is_autocast_enabled("cpu")
    )


def matrix_gradient(g: Tensor, x: Tensor) -> Tensor:
    """Return g^T x for tall `(points, m)` and `(points, n)`.

    In pieces: a product of two tall matrices runs at half the speed of a batch of shorter ones.
    """
    points = len(g)
    pieces = points // 1024
    if pieces < 2:
        return g.T @ x
    even = pieces * 1024
    total = torch.bmm(g[:even].view(pieces, 1024, -1).mT, x[:even].view(pieces, 1024, -1)).sum(0)
    return total if even == points else total.addmm_(g[even:].T, x[even:])
