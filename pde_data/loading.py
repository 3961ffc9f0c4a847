"""Batches for training: an order that depends on seed and epoch alone, and no copying after the read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, final

import torch
from torch.utils.data import DataLoader, Sampler


@final
class EpochSampler(Sampler[int]):
    """Sample numbers in an order that is a function of `(seed, epoch)`; `set_epoch` chooses the epoch.

    Every process draws the same order, so that Accelerate or a `DistributedSampler`-like split of the
    batches by rank gives each process its own part. Without `shuffle` the order is 0, 1, 2, ...
    """

    def __init__(self, length: int, shuffle: bool, seed: int = 0):
        self.length = length
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration follows."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        if not self.shuffle:
            return iter(range(self.length))
        # Consecutive seeds of this generator are unrelated streams; the odd factor keeps (seed, epoch) apart.
        generator = torch.Generator().manual_seed((self.seed * 0x9E3779B97F4A7C15 + self.epoch) % 2**63)
        return iter(torch.randperm(self.length, generator=generator).tolist())


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
) -> DataLoader:
    """Build the `DataLoader` of `FieldDataset.loader`."""
    if sampler is not None and shuffle:
        raise ValueError("give either shuffle=True or a sampler, not both")
    return DataLoader(
        dataset,
        batch_size,
        sampler=EpochSampler(len(dataset), shuffle, seed) if sampler is None else sampler,
        num_workers=num_workers,
        collate_fn=_tensors,
        pin_memory=pin_memory,
        drop_last=drop_last,
        persistent_workers=num_workers > 0,
    )
