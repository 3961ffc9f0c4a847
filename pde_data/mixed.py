"""Sets on different grids, trained as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from pde_data import loading
from pde_data.dataset import FieldDataset
from pde_data.grids import Grid


@final
class MixedDataset(Dataset):
    """Several sets of class `FieldDataset` as one, whose batches are each of one resolution.

    Items are numbered through the sets in the order given. `loader`, and `opflow.fit`, draw every batch from
    the sets of one resolution, which come in an order drawn from `(seed, epoch)`; sets of the same
    resolution share batches. Raises `ValueError` for sets that differ in their channels, in window, horizon
    or time step, or in the box: a model takes all of these for the same.

    >>> arrays = [np.zeros((3, n)) for n in (8, 16)]
    >>> sets = [FieldDataset.from_arrays(inputs=a, targets=a) for a in arrays]
    >>> [tuple(x.shape) for x, y in MixedDataset(sets).loader(batch_size=2)]
    [(2, 1, 8), (1, 1, 8), (2, 1, 16), (1, 1, 16)]
    """

    def __init__(self, sets: Sequence[FieldDataset]):
        self.sets = list(sets)
        if not self.sets:
            raise ValueError("sets=[], expected at least one FieldDataset")
        first = _described(self.sets[0])
        for number, other in enumerate(self.sets):
            for key, value in _described(other).items():
                if not _same(value, first[key]):
                    raise ValueError(
                        f"set {number} ({other.name}) has {key} {value}, set 0 ({self.sets[0].name}) has "
                        f"{first[key]}: sets are mixed over resolutions alone"
                    )
        self._starts = np.cumsum([0, *map(len, self.sets)])
        sizes = [dataset.grid.sizes for dataset in self.sets]
        self.groups = [
            np.concatenate(
                [np.arange(*self._starts[i : i + 2]) for i, other in enumerate(sizes) if other == size]
            )
            for size in dict.fromkeys(sizes)
        ]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.gather([index])
        return x[0], y[0]

    def __getitems__(self, indices: Sequence[int]) -> loading.Batch:
        """Read several items at once; `torch.utils.data.DataLoader` calls this."""
        return loading.Batch(*self.gather(indices))

    @property
    def grid(self) -> Grid:
        """Grid of the first set: the box is that of all, the sizes are not."""
        return self.sets[0].grid

    @property
    def in_channels(self) -> int:
        """Number of channels of `x`."""
        return self.sets[0].in_channels

    @property
    def out_channels(self) -> int:
        """Number of channels of `y`."""
        return self.sets[0].out_channels

    @property
    def device(self) -> torch.device:
        """Where the batches are."""
        return self.sets[0].device

    def to(self, device: torch.device | str) -> MixedDataset:
        """Keep the fields of all sets in the memory of a device; see `FieldDataset.to`."""
        return MixedDataset([dataset.to(device) for dataset in self.sets])

    def gather(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Read a batch of one resolution, shapes `(b, channel, *space)`.

        Raises `ValueError` for items of several, `IndexError` for numbers outside of the set.
        """
        items, total = np.asarray(indices, dtype=np.int64), len(self)
        if items.size and (items.min() < -total or items.max() >= total):
            raise IndexError(f"item {int(items[np.abs(items).argmax()])} of a set with {total} items")
        items = items % total
        owners = np.searchsorted(self._starts, items, side="right") - 1
        present = np.unique(owners).tolist() or [0]
        parts = {i: self.sets[i].gather(items[owners == i] - self._starts[i]) for i in present}
        if len(parts) == 1:
            return parts[present[0]]
        sizes = sorted({self.sets[i].grid.sizes for i in present})
        if len(sizes) > 1:
            raise ValueError(
                f"items of grids {', '.join(map(str, sizes))} cannot share a batch: take the batches of "
                "`loader`, or items of one of `groups`"
            )
        # Each part is in the order of its items; this is where the items of the parts, put together, go.
        places = np.argsort(np.argsort(owners, kind="stable"), kind="stable")
        order = torch.from_numpy(places).to(self.device)
        x, y = (torch.cat(tensors)[order] for tensors in zip(*parts.values()))
        return x, y

    def loader(
        self,
        batch_size: int = 32,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        num_workers: int = 0,
        pin_memory: bool = False,
        rank: int = 0,
        processes: int = 1,
    ) -> DataLoader:
        """Make a `DataLoader` of batches of one resolution each; see `FieldDataset.loader`."""
        return loading.loader(
            self,
            batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            num_workers=num_workers,
            pin_memory=pin_memory,
            sampler=None,
            rank=rank,
            processes=processes,
        )


def _described(dataset: FieldDataset) -> dict[str, Any]:
    """What sets in a mixture share."""
    grid = dataset.grid
    return {
        "inputs": dataset.input_names,
        "targets": dataset.target_names,
        "window": dataset.window,
        "horizon": dataset.horizon,
        "time step": dataset.time_step,
        "lengths": grid.lengths,
        "periodic axes": grid.periodic,
        "location": grid.location,
        "device": dataset.device,
    }


def _same(first: Any, other: Any) -> bool:
    if isinstance(first, float) and isinstance(other, float):
        return bool(np.isclose(first, other, rtol=1e-5))
    if isinstance(first, tuple) and isinstance(other, tuple):
        return len(first) == len(other) and all(map(_same, first, other))
    return first == other
