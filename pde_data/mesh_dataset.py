"""Point data for training: fields at the nodes of meshes, each sample on its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, final

import numpy as np
import torch
from torch.utils.data import Dataset

from pde_data import sources, ugrid
from pde_data.arrays import check_finite
from pde_data.loading import EpochBatches, Loader
from pde_data.meshes import TriangleMesh
from pde_data.storage import DatasetError, Schema

if TYPE_CHECKING:
    import xarray


class PointBatch(NamedTuple):
    """Fields at points: of one sample, or of a batch with one more axis in front.

    Samples of a batch are filled up to the longest: a point that is no node has the position of the first
    node, values 0, and the weight 0, so that sums and means with the weights do not see it.
    """

    coords: torch.Tensor
    """Positions `([batch,] point, 2)`."""
    x: torch.Tensor
    """Inputs `([batch,] point, channel)`."""
    y: torch.Tensor
    """Targets `([batch,] point, channel)`."""
    weights: torch.Tensor
    """Quadrature weights `([batch,] point)`; for a sample they sum to the area of its domain."""

    @property
    def mask(self) -> torch.Tensor:
        """Whether a point is a node, `([batch,] point)`."""
        return self.weights > 0


@final
class MeshDataset(Dataset):
    """Items `(coords, x, y, weights)` of float32 tensors, one for each sample, which has a mesh of its own.

    Shapes are `(point, 2)`, `(point, channel)`, `(point, channel)` and `(point,)`; channels are in the
    order of the names, see `PointBatch`.

    Args:
        source: path of a file or folder with meshes (stays on disk), or what `pde_data.open` made of it.
        inputs: names of the input variables; by default what the file recommends.
        targets: names of the target variables; by default what the file recommends.
        split: "train", "valid" or "test"; `None` takes every sample, see `FieldDataset`.
        fractions: parts of the three splits.
        samples: use the first so many samples of the split, or exactly these positions in the source.
        seed: seed of the split.
        distances: give the distance of each node to every part of the boundary as inputs too, after those of
            `inputs`; points alone do not tell where a domain ends.

    Raises `DatasetError` for files without meshes, unknown variables (the message lists what there is), empty
    splits, `distances` from a boundary without named parts, and, when a sample is read, NaN, infinity, and
    weights that are not positive.
    """

    def __init__(
        self,
        source: str | os.PathLike | xarray.Dataset | Schema,
        inputs: str | Sequence[str] | None = None,
        targets: str | Sequence[str] | None = None,
        *,
        split: str | None = None,
        fractions: Sequence[float] = (0.8, 0.1, 0.1),
        samples: int | Sequence[int] | None = None,
        seed: int = 0,
        distances: bool = False,
    ):
        schema, self.name = sources.describe(source)
        if not ugrid.is_mesh(schema):
            raise DatasetError(f"{self.name} has no meshes; read it with pde_data.FieldDataset")
        self.input_names, self.target_names = sources.field_names(schema, inputs, targets, self.name)
        self.meshes = ugrid.Meshes(schema, self.name)
        self.split, self._schema = split, schema
        self.boundary_parts = self.meshes.boundary_parts if distances else ()
        if distances and not self.boundary_parts:
            raise DatasetError(
                f"{self.name} names no parts of the boundary (flag_meanings of {ugrid.BOUNDARY!r}) to be "
                "distant from; leave out distances=True"
            )
        self.samples = sources.choose_samples(
            schema, self.name, len(self.meshes), split, fractions, samples, seed
        )

    def _repr_html_(self) -> str:
        """A table and a small picture, which notebooks show."""
        from pde_data.notebook import summary

        low, high = self.node_counts.min(), self.node_counts.max()
        return summary(self, self._schema, {"mesh": f"one for each sample, {low} to {high} nodes"})

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> PointBatch:
        sample = int(self.samples[range(len(self))[index]])
        coords, weights = self.meshes.points(sample), self.meshes.weights(sample)
        if not (np.isfinite(coords).all() and weights.min() > 0):
            raise DatasetError(
                f"{self.name}: sample {sample} has positions that are not finite, or weights that are not "
                "positive; leave it out with samples=, or repair the data"
            )
        x, y = self._read(self.input_names, sample), self._read(self.target_names, sample)
        if self.boundary_parts:
            x = np.concatenate([x, self.mesh(index).boundary_distances(len(self.boundary_parts))], 1)
        parts = (coords, x, y, weights)
        return PointBatch(*(torch.from_numpy(part.astype(np.float32)) for part in parts))

    @property
    def in_channels(self) -> int:
        """Number of channels of `x`: variables, then distances."""
        return len(self.input_names) + len(self.boundary_parts)

    @property
    def out_channels(self) -> int:
        """Number of channels of `y`."""
        return len(self.target_names)

    @property
    def node_counts(self) -> np.ndarray:
        """Number of points of each item."""
        return self.meshes.node_counts[self.samples]

    def mesh(self, index: int) -> TriangleMesh:
        """Mesh of one item, its positions in float64."""
        return self.meshes[int(self.samples[range(len(self))[index]])]

    def loader(
        self,
        batch_size: int = 8,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        num_workers: int = 0,
        pin_memory: bool = False,
        rank: int = 0,
        processes: int = 1,
    ) -> Loader:
        """Make a `DataLoader` of `PointBatch` tuples, in which samples are filled up to the longest.

        Order, epochs, shares of several processes and taking up a pass again are as in `FieldDataset.loader`.
        """
        order = EpochBatches(
            [np.arange(len(self))],
            batch_size,
            seed=seed if shuffle else None,
            drop_last=drop_last,
            rank=rank,
            processes=processes,
        )
        return Loader(
            self,
            order,
            num_workers=num_workers,
            collate_fn=collate,
            pin_memory=pin_memory,
            persistent_workers=num_workers > 0,
        )

    def _read(self, names: list[str], sample: int) -> np.ndarray:
        values = [self.meshes.values(name, sample) for name in names]
        for name, value in zip(names, values):
            remedy = "leave the sample out with samples=, or repair the data"
            check_finite(value, self.name, name, sample, False, remedy)
        return np.stack(values, axis=1)


def collate(items: Sequence[PointBatch]) -> PointBatch:
    """Fill samples up to the longest and stack them.

    >>> small, large = (PointBatch(*torch.ones(3, n, 2), torch.ones(n)) for n in (2, 5))
    >>> batch = collate([small, large])
    >>> batch.x.shape, batch.weights.sum(1)
    (torch.Size([2, 5, 2]), tensor([2., 5.]))
    """
    longest = max(len(item.coords) for item in items)
    coords = torch.stack(
        [torch.cat([item.coords, item.coords[:1].expand(longest - len(item.coords), -1)]) for item in items]
    )
    rest = (torch.nn.utils.rnn.pad_sequence(list(part), batch_first=True) for part in list(zip(*items))[1:])
    return PointBatch(coords, *rest)
