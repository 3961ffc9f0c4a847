"""Batches for training: an order that depends on seed and epoch alone, and no copying after the read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler


def groups_of(dataset: Any) -> list[np.ndarray]:
    """Item numbers that may share a batch: those of each grid of a `MixedDataset`, otherwise all."""
    groups = getattr(dataset, "groups", None)
    return [np.arange(len(dataset))] if groups is None else groups


def count_batches(groups: Sequence[np.ndarray], batch_size: int, drop_last: bool = False) -> int:
    """Count the batches of an epoch."""
    return sum((len(group) if drop_last else len(group) + batch_size - 1) // batch_size for group in groups)


def batches(
    groups: Sequence[np.ndarray],
    batch_size: int,
    seed: int | None,
    epoch: int,
    *,
    start: int = 0,
    drop_last: bool = False,
) -> Iterator[np.ndarray]:
    """Yield the item numbers of each batch of an epoch, from batch number `start` on.

    A batch is of one group. The order of the items within a group and that of the batches of several groups
    are drawn from `(seed, epoch)`; without a seed both are as given.

    >>> groups = [np.arange(5), np.arange(5, 8)]
    >>> [batch.tolist() for batch in batches(groups, 3, None, 0)]
    [[0, 1, 2], [3, 4], [5, 6, 7]]
    """
    draw = None if seed is None else np.random.default_rng((seed, epoch))
    orders = [group if draw is None else draw.permutation(group) for group in groups]
    counts = [count_batches([group], batch_size, drop_last) for group in groups]
    slots = np.stack(
        [np.repeat(np.arange(len(groups)), counts), np.concatenate([np.arange(count) for count in counts])],
        axis=1,
    )
    if draw is not None and len(groups) > 1:
        slots = draw.permutation(slots)
    for group, number in slots[start:]:
        yield orders[group][number * batch_size : (number + 1) * batch_size]


@final
class EpochBatches(Sampler[list[int]]):
    """Lists of item numbers, one for each batch, as seen by process `rank` of `processes`.

    The batches are those of `batches`, whatever the number of processes; each process takes a nearly equal
    part of each. So all have the same number of parts, and together they are the set. Of a batch with fewer
    items than processes, those without one take the first.
    """

    def __init__(
        self,
        groups: Sequence[np.ndarray],
        batch_size: int,
        *,
        seed: int | None = None,
        drop_last: bool = False,
        rank: int = 0,
        processes: int = 1,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}, expected at least 1")
        if not 0 <= rank < processes:
            raise ValueError(f"rank={rank} of processes={processes}: ranks count from 0 to processes - 1")
        self.groups, self.batch_size, self.seed, self.drop_last = groups, batch_size, seed, drop_last
        self.rank, self.processes = rank, processes
        self.epoch = self.start = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next pass follows."""
        self.epoch = epoch

    def __len__(self) -> int:
        return count_batches(self.groups, self.batch_size, self.drop_last)

    def __iter__(self) -> Iterator[list[int]]:
        # No generator: where to start is read now, not when the first batch is.
        options = {"start": self.start, "drop_last": self.drop_last}
        return map(self._part, batches(self.groups, self.batch_size, self.seed, self.epoch, **options))

    def _part(self, batch: np.ndarray) -> list[int]:
        part = np.array_split(batch, self.processes)[self.rank]
        return (part if len(part) else batch[:1]).tolist()


@final
class Loader(DataLoader):
    """A `DataLoader` whose passes follow `(seed, epoch)` and can be taken up again in the middle.

    Each whole pass moves on to the next epoch; `set_epoch` chooses one. `state_dict()`, at any moment, says
    how many batches of which epoch have been given out, and `load_state_dict` lets the next pass begin there,
    also with another number of processes.
    """

    batch_sampler: EpochBatches  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, dataset: Any, order: EpochBatches, **options: Any):
        # Its own generator, because a DataLoader draws from torch's global one whenever it starts, and a
        # pass that was taken up again starts once more than an undisturbed one.
        super().__init__(dataset, batch_sampler=order, generator=torch.Generator(), **options)
        self._given = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next pass follows; the present one stays where it stands."""
        if epoch != self.batch_sampler.epoch:
            self.load_state_dict({"epoch": epoch, "batch": 0})

    def __iter__(self) -> Iterator[Any]:
        order = self.batch_sampler
        epoch, self._given = order.epoch, order.start
        passing = super().__iter__()
        order.start = 0
        for batch in passing:
            self._given += 1
            yield batch
        self.load_state_dict({"epoch": epoch + 1, "batch": 0})

    def state_dict(self) -> dict[str, int]:
        """Where the current pass stands, as plain numbers."""
        return {"epoch": self.batch_sampler.epoch, "batch": self._given}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Let the next pass begin where another one stood."""
        epoch, batch = state["epoch"], state["batch"]
        if not 0 <= batch <= len(self):
            raise ValueError(
                f"batch={batch} of an epoch of {len(self)} batches: the state is of another set or batch_size"
            )
        self.batch_sampler.epoch, self.batch_sampler.start, self._given = epoch, batch, batch


@final
class Batch(Sequence):
    """A gathered batch that is also the sequence of its items, which is what a plain `DataLoader` expects."""

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor):
        self.tensors = (inputs, targets)

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: Any) -> Any:
        inputs, targets = self.tensors
        return inputs[index], targets[index]


def _tensors(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return batch.tensors


def loader(
    dataset: Any,
    batch_size: int,
    *,
    shuffle: bool,
    seed: int,
    drop_last: bool,
    num_workers: int,
    pin_memory: bool,
    sampler: Sampler[int] | None,
    rank: int,
    processes: int,
) -> DataLoader:
    """Build the `DataLoader` of `FieldDataset.loader` and `MixedDataset.loader`."""
    resident = dataset.device.type != "cpu"
    if resident and num_workers:
        raise ValueError(
            f"num_workers={num_workers}, but the set is on {dataset.device}, where no worker reads it; use 0"
        )
    options: dict[str, Any] = {
        "num_workers": num_workers,
        "collate_fn": _tensors,
        "pin_memory": pin_memory and not resident,
        "persistent_workers": num_workers > 0,
    }
    if sampler is not None:
        if shuffle or processes > 1:
            raise ValueError(
                "a sampler decides order and share: give either shuffle=True or a sampler, no rank"
            )
        return DataLoader(dataset, batch_size, sampler=sampler, drop_last=drop_last, **options)
    order = EpochBatches(
        groups_of(dataset),
        batch_size,
        seed=seed if shuffle else None,
        drop_last=drop_last,
        rank=rank,
        processes=processes,
    )
    return Loader(dataset, order, **options)
