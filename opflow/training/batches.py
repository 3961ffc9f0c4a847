"""The batches of a data set in an order fixed by seed and epoch, shared among processes."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, TensorDataset

from pde_data.loading import batches, count_batches, groups_of
from pde_data.mesh_dataset import PointBatch, collate


class Piece(NamedTuple):
    """What one process sees of a batch in one forward pass: `count` samples that count.

    A batch may have fewer samples than there are pieces. A piece without samples then carries one that does
    not count, because all processes must run the same number of passes.

    Fields at scattered points are `(batch, channel, point)`, and `points` their positions `(batch, point,
    dim)` and quadrature weights `(batch, point)`; on a grid, `points` is empty.
    """

    x: Tensor
    y: Tensor
    count: int
    points: tuple[Tensor, ...] = ()


class Batch(NamedTuple):
    """The pieces of one process, and the number of samples in the whole batch."""

    pieces: list[Piece]
    size: int


def read(dataset: Dataset, indices: np.ndarray) -> tuple[Tensor, ...]:
    """Read samples as a pair `(batch, channel, *space)`: in one go where the data set has `gather`.

    Samples at points are filled up to the longest; their positions and weights follow, see `Piece`.

    Raises:
        ValueError: the samples lie on different grids.
        TypeError: the items are not pairs of tensors.
    """
    gather = getattr(dataset, "gather", None)
    if gather is not None:
        return gather(indices)
    if isinstance(dataset, TensorDataset):
        return _as_pair(dataset[torch.as_tensor(indices)])
    items = [dataset[int(i)] for i in indices]
    if isinstance(items[0], PointBatch):
        coords, x, y, weights = collate(items)
        return x.mT, y.mT, coords, weights
    items = [_as_pair(item) for item in items]
    for side in zip(*items):
        shapes = sorted({tuple(tensor.shape) for tensor in side})
        if len(shapes) > 1:
            raise ValueError(
                f"a batch mixes samples of shapes {', '.join(map(str, shapes))}; bring them to one grid "
                "(pde_data.resample), or join a data set of each grid with pde_data.MixedDataset"
            )
    return torch.stack([x for x, _ in items]), torch.stack([y for _, y in items])


def _as_pair(item) -> tuple[Tensor, Tensor]:
    if not (isinstance(item, tuple | list) and len(item) == 2 and all(torch.is_tensor(t) for t in item)):
        raise TypeError(
            "the data set must give pairs (input, target) of tensors (channel, *space), got "
            f"{type(item).__name__}" + (f" of {len(item)}" if isinstance(item, tuple | list) else "")
        )
    return item[0], item[1]


class Batches:
    """All batches of a data set, as seen by one process.

    The order is a permutation drawn from `(seed, epoch)` (the natural order without `seed`), so that any
    position of any epoch can be taken up again, by any number of processes. Each batch is cut into
    `processes * pieces` nearly equal parts. A batch of a `pde_data.MixedDataset` is of one grid.

    Example:
        >>> data = TensorDataset(torch.arange(5.0)[:, None], torch.zeros(5, 1))
        >>> [[piece.x.flatten().tolist() for piece in batch.pieces] for batch in Batches(data, 3).epoch(0)]
        [[[0.0, 1.0, 2.0]], [[3.0, 4.0]]]
        >>> [[piece.x.flatten().tolist() for piece in batch.pieces]
        ...  for batch in Batches(data, 3, rank=1, processes=2).epoch(0)]
        [[[2.0]], [[4.0]]]
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        *,
        seed: int | None = None,
        pieces: int = 1,
        rank: int = 0,
        processes: int = 1,
        workers: int = 0,
        pin_memory: bool = False,
    ):
        self.n_samples = len(dataset)  # pyright: ignore[reportArgumentType]
        if self.n_samples == 0:
            raise ValueError("the data set is empty")
        self._order = _Order(groups_of(dataset), batch_size, seed, pieces, rank, processes)
        self._loader = DataLoader(
            _Reader(dataset),
            batch_size=None,
            sampler=self._order,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=pin_memory and getattr(dataset, "device", torch.device("cpu")).type == "cpu",
            collate_fn=_unchanged,
            # Its own generator, because a DataLoader draws from torch's global one whenever it starts, which
            # would make a resumed epoch differ from an undisturbed one.
            generator=torch.Generator(),
        )

    def __len__(self) -> int:
        return count_batches(self._order.groups, self._order.batch_size)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from batch `start` on."""
        self._order.epoch, self._order.start = epoch, start
        return iter(self._loader)


class _Order(Sampler):
    """The indices of each batch, cut into the pieces of one process."""

    def __init__(self, groups, batch_size, seed, pieces, rank, processes):
        self.groups, self.batch_size, self.seed = groups, batch_size, seed
        self.pieces, self.rank, self.processes = pieces, rank, processes
        self.epoch = self.start = 0

    def __iter__(self) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
        for batch in batches(self.groups, self.batch_size, self.seed, self.epoch, start=self.start):
            parts = np.array_split(batch, self.processes * self.pieces)
            yield parts[self.rank * self.pieces : (self.rank + 1) * self.pieces], batch


class _Reader(Dataset):
    """Reads what `_Order` asks for; a `Dataset`, so that worker processes can do it."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __getitem__(self, order: tuple[list[np.ndarray], np.ndarray]) -> Batch:
        parts, batch = order
        return Batch([self._piece(part, batch) for part in parts], len(batch))

    def _piece(self, part: np.ndarray, batch: np.ndarray) -> Piece:
        x, y, *points = read(self.dataset, part if len(part) else batch[:1])
        return Piece(x, y, len(part), tuple(points))


def _unchanged(batch: Any) -> Any:
    return batch
