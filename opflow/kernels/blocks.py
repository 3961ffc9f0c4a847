"""Walk through a batch of fields in blocks that fit the cache."""

from collections.abc import Iterator

from torch import Tensor

# Bytes of one temporary of a block: the half dozen alive at a time should stay in the last-level cache.
_BLOCK_BYTES = 1 << 20


def blocks(batch: int, rows: int, row_bytes: int) -> Iterator[tuple[slice, slice]]:
    """Yield (samples, rows): several whole samples, or some rows of one sample when samples are large.

    Example:
        >>> [(b.start, b.stop, r.start, r.stop) for b, r in blocks(2, rows=4, row_bytes=1 << 19)]
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


def add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add `a @ b^T`, summed over the batch, to `total`: `(b, m, p)` and `(b, n, p)` to `(m, n)`."""
    if len(a) == 1:
        total.addmm_(a[0], b[0].T)
    else:
        total.add_((a @ b.mT).sum(0))
