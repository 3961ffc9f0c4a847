"""Fields that stay in the memory of one device, read there by sample and frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

import numpy as np
import torch

from pde_data.arrays import FieldArray


@final
class Resident:
    """The chosen samples of several fields, as float32 tensors `(sample, [time,] *space)` on one device."""

    def __init__(self, arrays: Mapping[str, FieldArray], samples: Sequence[int], device: torch.device | str):
        self._fields = {}
        for name, array in arrays.items():
            field = torch.empty(len(samples), *array.shape[1:], device=device)
            for place, sample in enumerate(samples):
                # A copy, since torch warns of the read-only pages of a mapped file.
                field[place] = torch.from_numpy(np.array(array.sample(sample), np.float32))
            self._fields[name] = field
        self.device = field.device

    def read(
        self, names: Sequence[str], places: np.ndarray, starts: np.ndarray | None, frames: int, stride: int
    ) -> torch.Tensor:
        """Batch `(b, frames * len(names), *space)`; without `starts` fields have no time axis."""
        rows = torch.from_numpy(places).to(self.device)
        if starts is None:
            return torch.stack([self._fields[name][rows] for name in names], dim=1)
        times = torch.from_numpy(starts[:, None] + np.arange(frames) * stride).to(self.device)
        parts = [self._fields[name][rows[:, None], times] for name in names]
        return torch.stack(parts, dim=2).flatten(1, 2)
