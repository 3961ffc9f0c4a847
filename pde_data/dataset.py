"""Pairs of fields for training, read from files or arrays a batch at a time."""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pde_data import loading, sources
from pde_data.arrays import FieldArray, MemoryArray, check_finite
from pde_data.grids import Grid
from pde_data.resident import Resident
from pde_data.storage import Schema, Variable

if TYPE_CHECKING:
    import xarray


@final
class FieldDataset(Dataset):
    r"""Pairs `(x, y)` of float32 tensors `(channel, *space)` from fields over samples and over time, if any.

    With a time axis, item number $i S + s$ is the window of sample $i$ that starts at frame $s$, where $S$
    is the number of windows in a sample: `x` holds `window` frames, `y` the next `horizon` frames, `stride`
    records apart. Frames become channels, oldest first, and within a frame the variables in the order of
    their names: `y.unflatten(0, (horizon, -1))` has shape `(horizon, variable, *space)`. Without a time
    axis `x` holds the variables of `inputs` and `y` those of `targets` of the same sample.

    Args:
        source: path of anything that `pde_data.open` reads (stays on disk), or an `xarray.Dataset` with
            dimensions `(sample[, time], *space)` (read into memory).
        inputs: names of the input variables; by default what the file recommends, or its only field.
        targets: names of the target variables; by default the inputs, for fields over time.
        window: number of input frames.
        horizon: number of target frames.
        stride: number of records from one frame to the next.
        split: "train", "valid" or "test"; `None` takes every sample. Samples are divided, not windows, by a
            hash of sample number and `seed` that stays the same when the set grows.
        fractions: parts of the three splits.
        resolution: points per axis; fields are resampled (`pde_data.resample`) once for each sample and
            kept in memory.
        samples: use the first so many samples of the split, or exactly these positions in the source.
        points: use these points (numbers into the flattened grid), or so many drawn with `seed`: items then
            have shape `(point, channel)`, and `coords` holds the positions `(point, dim)`.
        seed: seed of split and points.

    Raises `DatasetError` for unknown variables (the message lists what there is), fields on different grids,
    empty splits, and, when a sample is first read, NaN or infinity; `ValueError` for other arguments.

    >>> fields = np.arange(2 * 5 * 4, dtype=np.float32).reshape(2, 5, 4)
    >>> pairs = FieldDataset.from_arrays(trajectories=fields, window=2)
    >>> len(pairs), pairs[0][0].shape, pairs[0][1]
    (6, torch.Size([2, 4]), tensor([[ 8.,  9., 10., 11.]]))
    """

    def __init__(
        self,
        source: str | os.PathLike | xarray.Dataset | Schema,
        inputs: str | Sequence[str] | None = None,
        targets: str | Sequence[str] | None = None,
        *,
        window: int = 1,
        horizon: int = 1,
        stride: int = 1,
        split: str | None = None,
        fractions: Sequence[float] = (0.8, 0.1, 0.1),
        resolution: int | Sequence[int] | None = None,
        samples: int | Sequence[int] | None = None,
        points: int | Sequence[int] | None = None,
        seed: int = 0,
    ):
        schema, self.name = sources.describe(source)
        self.input_names, self.target_names = sources.field_names(schema, inputs, targets, self.name)
        chosen = list(dict.fromkeys((*self.input_names, *self.target_names)))
        dims = sources.common_dims(schema, chosen, self.name)
        self.time_dependent = "time" in dims
        self.grid = sources.grid_of(schema, dims[1 + self.time_dependent :], self.name)
        arrays = {name: sources.field_array(schema.fields[name], name, self.name) for name in chosen}
        if resolution is not None:
            arrays, self.grid = sources.resampled(arrays, self.grid, resolution)
        self._arrays = arrays
        count, *inner = arrays[self.input_names[0]].shape

        self.window, self.horizon, self.stride = window, horizon, stride
        self._frames = inner[0] if self.time_dependent else 1
        self._windows = self._count_windows()
        self.time_step = sources.time_step(schema, stride) if self.time_dependent else None
        self.samples = sources.choose_samples(schema, self.name, count, split, fractions, samples, seed)
        self._checked = np.zeros(count, bool)
        self._points = None if points is None else sources.choose_points(points, self.grid, seed)
        self._resident: Resident | None = None
        self.split, self._schema = split, schema

    @classmethod
    def from_xarray(cls, dataset: xarray.Dataset, inputs=None, targets=None, **options: Any) -> FieldDataset:
        """Take the fields of an `xarray.Dataset`, read into memory; see the class for the options."""
        return cls(dataset, inputs, targets, **options)

    @classmethod
    def from_arrays(
        cls,
        inputs: Any = None,
        targets: Any = None,
        *,
        trajectories: Any = None,
        dim: int | None = None,
        grid: Grid | None = None,
        time_step: float = 1.0,
        **options: Any,
    ) -> FieldDataset:
        """Take NumPy arrays or tensors: pairs of `inputs` and `targets`, or `trajectories`.

        Pairs have shape `(n, *space)` or `(n, channel, *space)`, trajectories one more axis, time, after
        the first. `dim` is the number of space axes; by default it is that of `grid`, and without a grid 1
        for `(n, x)`, 2 for `(n, x, y)` and `(n, channel, x, y)`, and 3 for `(n, channel, x, y, z)`. Without
        `grid` the domain is a periodic unit box. Channels are named `input_0`, ..., `target_0`, ...,
        `field_0`, ...

        >>> a, u = np.zeros((6, 8, 8)), np.ones((6, 8, 8))
        >>> x, y = FieldDataset.from_arrays(inputs=a, targets=u).gather([0, 3])
        >>> x.shape, y.mean()
        (torch.Size([2, 1, 8, 8]), tensor(1.))
        """
        if (trajectories is None) == (inputs is None) or (inputs is None) != (targets is None):
            raise ValueError("from_arrays takes inputs and targets, or trajectories alone")
        if grid is None and options.get("resolution") is not None:
            raise ValueError("resampling needs the domain: give grid=pde_data.Grid(...) of the arrays")
        if trajectories is not None:
            groups = {"field": sources.as_array(trajectories, "trajectories")}
        else:
            groups = {
                "input": sources.as_array(inputs, "inputs"),
                "target": sources.as_array(targets, "targets"),
            }
        time = ("time",) if trajectories is not None else ()
        variables, names = {}, {}
        for role, values in groups.items():
            space, values = sources.with_channels(values, role, len(time), grid.ndim if grid else dim)
            channels = [
                values[(slice(None),) * (1 + len(time)) + (c,)] for c in range(values.shape[1 + len(time)])
            ]
            names[role] = [f"{role}_{c}" for c in range(len(channels))]
            for name, channel in zip(names[role], channels):
                variables[name] = Variable(("sample", *time, *space), MemoryArray(channel))
        sizes = Schema(variables).sizes
        points = tuple(sizes[d] for d in space)
        if grid is not None and grid.sizes != points:
            raise ValueError(f"grid has sizes {grid.sizes}, but the arrays have {points} points")
        grid = grid or Grid(points)
        if time:
            variables["time"] = Variable(("time",), np.arange(sizes["time"]) * time_step)
        variables |= sources.coordinate_variables(grid)
        first, *rest = names.values()
        return cls(Schema(variables), first, rest[0] if rest else None, **options)

    def _repr_html_(self) -> str:
        """A table and a small picture, which notebooks show."""
        from pde_data.notebook import summary

        rows = {"grid": " x ".join(map(str, self.grid.sizes))}
        if self.time_dependent:
            rows["items"] = f"{len(self)}, {self.window} to {self.horizon} of {self._frames} frames"
        return summary(self, self._schema, rows)

    def __len__(self) -> int:
        return len(self.samples) * self._windows

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.gather([index])
        return x[0], y[0]

    def __getitems__(self, indices: Sequence[int]) -> loading.Batch:
        """Read several items at once; `torch.utils.data.DataLoader` calls this."""
        return loading.Batch(*self.gather(indices))

    @property
    def n_samples(self) -> int:
        """Number of samples (trajectories) in this split."""
        return len(self.samples)

    @property
    def in_channels(self) -> int:
        """Number of channels of `x`."""
        return self.window * len(self.input_names)

    @property
    def out_channels(self) -> int:
        """Number of channels of `y`."""
        return self.horizon * len(self.target_names)

    @property
    def device(self) -> torch.device:
        """Where the batches are: the CPU, or where `to` has put the set."""
        return torch.device("cpu") if self._resident is None else self._resident.device

    def to(self, device: torch.device | str) -> FieldDataset:
        """Copy of this set whose fields are read whole, at once, and stay in the memory of a device.

        Only the samples and variables in use are kept, as float32. On `"cpu"` this is a cache in RAM, which
        pays for compressed or remote files; on a GPU batches are gathered there, with no transfer.

        >>> a = np.arange(12.0).reshape(3, 4)
        >>> FieldDataset.from_arrays(inputs=a, targets=2 * a).to("cpu")[1]
        (tensor([[4., 5., 6., 7.]]), tensor([[ 8., 10., 12., 14.]]))
        """
        self._check(self.samples)
        moved = copy.copy(self)
        moved._resident = Resident(self._arrays, self.samples.tolist(), device)
        return moved

    @property
    def coords(self) -> torch.Tensor | None:
        """Positions `(point, dim)` when the set is restricted to points, float32."""
        if self._points is None:
            return None
        mesh = np.stack(np.meshgrid(*self.grid.coordinates, indexing="ij"), axis=-1).reshape(
            -1, self.grid.ndim
        )
        return torch.from_numpy(mesh[self._points].astype(np.float32))

    def gather(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Read a batch `(x, y)` of shapes `(b, channel, *space)` in one go.

        Raises `IndexError` for numbers outside of the set, `DatasetError` for NaN or infinity in the data.
        """
        items, total = np.asarray(indices, dtype=np.int64), len(self)
        if items.size and (items.min() < -total or items.max() >= total):
            raise IndexError(f"item {int(items[np.abs(items).argmax()])} of a set with {total} items")
        numbers, starts = np.divmod(items % total, self._windows)
        samples = self.samples[numbers]
        if not self._checked[samples].all():
            self._check(samples)
        same = self.time_dependent and self.input_names == self.target_names
        if same and self._resident is None and self._arrays[self.input_names[0]].costly:
            return self._read_together(numbers, starts)
        x = self._read(self.input_names, numbers, starts, self.window)
        y = self._read(
            self.target_names, numbers, starts + self.window * self.stride * self.time_dependent, self.horizon
        )
        return x, y

    def trajectory(self, index: int) -> torch.Tensor:
        """All frames `(time, channel, *space)` of the target variables of one sample of this split."""
        if not self.time_dependent:
            raise ValueError(f"{self.name} has no time axis, so no trajectories; use gather or indexing")
        number = np.array([range(self.n_samples)[index]])
        self._check(self.samples[number])
        frames = self._read(self.target_names, number, np.zeros(1, np.int64), self._frames, stride=1)[0]
        if self._points is not None:
            return frames.unflatten(-1, (self._frames, -1)).movedim(1, 0)
        return frames.unflatten(0, (self._frames, -1))

    def loader(
        self,
        batch_size: int = 32,
        *,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        num_workers: int = 0,
        pin_memory: bool = False,
        sampler: Sampler[int] | None = None,
        rank: int = 0,
        processes: int = 1,
    ) -> DataLoader:
        """Make a `DataLoader` of batches `(x, y)` that are gathered in one read each.

        With `shuffle` the order is a function of `(seed, epoch)`; each pass over the loader moves on to the
        next epoch, and `loader.set_epoch(epoch)` chooses one. `loader.state_dict()` says where a pass stands,
        and a loader that was given it by `load_state_dict` goes on there.

        Of several `processes`, each makes the loader with its `rank` and gets its part of every batch: the
        `batch_size` counts the samples of all together. (Accelerate, which divides the batches itself, takes
        the loader of one process.)

        For local uncompressed files `num_workers=0` is fastest: handing batches from process to process
        costs more than reading them.
        """
        return loading.loader(
            self,
            batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            num_workers=num_workers,
            pin_memory=pin_memory,
            sampler=sampler,
            rank=rank,
            processes=processes,
        )

    def _read(
        self,
        names: list[str],
        numbers: np.ndarray,
        starts: np.ndarray,
        frames: int,
        stride: int | None = None,
    ) -> torch.Tensor:
        stride = self.stride if stride is None else stride
        if self._resident is not None:
            batch = self._resident.read(
                names, numbers, starts if self.time_dependent else None, frames, stride
            )
        else:
            batch = torch.empty(len(numbers), frames * len(names), *self.grid.sizes)
            out = batch.numpy().reshape(len(numbers), frames, len(names), *self.grid.sizes)
            self._fill(out, [self._arrays[name] for name in names], self.samples[numbers], starts, stride)
        return self._at_points(batch)

    def _read_together(self, numbers: np.ndarray, starts: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets that are frames of the same variables, in one read for each item."""
        arrays = [self._arrays[name] for name in self.input_names]
        x, y = (torch.empty(len(numbers), c, *self.grid.sizes) for c in (self.in_channels, self.out_channels))
        past, future = (side.unflatten(1, (-1, len(arrays))).numpy() for side in (x, y))
        span = (self.window + self.horizon - 1) * self.stride + 1
        for item, (sample, start) in enumerate(zip(self.samples[numbers].tolist(), starts.tolist())):
            for channel, array in enumerate(arrays):
                frames = array.sample(sample)[start : start + span : self.stride]
                past[item, :, channel] = frames[: self.window]
                future[item, :, channel] = frames[self.window :]
        return self._at_points(x), self._at_points(y)

    def _at_points(self, batch: torch.Tensor) -> torch.Tensor:
        if self._points is None:
            return batch
        return batch.flatten(2)[:, :, self._points].transpose(1, 2).contiguous()

    def _fill(
        self,
        out: np.ndarray,
        arrays: list[FieldArray],
        samples: np.ndarray,
        starts: np.ndarray,
        stride: int,
    ) -> None:
        """Read `(item, frame, array, *space)`."""
        frames = out.shape[1]
        rows = arrays[0].rows if frames == len(arrays) == 1 else None
        if rows is not None and rows.dtype == np.float32 and len(samples):
            # One record for each item: a single take. Its default mode would go through a buffer.
            flat = rows.reshape(-1, math.prod(self.grid.sizes))
            target = out.reshape(len(samples), -1)
            flat.take(samples * self._frames + starts, axis=0, out=target, mode="clip")
            return
        for item, (sample, start) in enumerate(zip(samples.tolist(), starts.tolist())):
            record = slice(start, start + (frames - 1) * stride + 1, stride)
            for channel, array in enumerate(arrays):
                values = array.sample(sample)
                out[item, :, channel] = values[record] if self.time_dependent else values

    def _check(self, samples: np.ndarray) -> None:
        """Look for NaN and infinity in samples that are read for the first time."""
        remedy = "leave the sample out with samples=, or repair the data"
        for sample in np.unique(samples[~self._checked[samples]]).tolist():
            for name, array in self._arrays.items():
                values = np.asarray(array.sample(sample))
                check_finite(values, self.name, name, sample, self.time_dependent, remedy)
            self._checked[sample] = True

    def _count_windows(self) -> int:
        for key in ("window", "horizon", "stride"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key}={getattr(self, key)}, expected at least 1")
        if not self.time_dependent:
            if (self.window, self.horizon, self.stride) != (1, 1, 1):
                raise ValueError(f"{self.name} has no time axis: window, horizon and stride must be 1")
            return 1
        span = (self.window + self.horizon - 1) * self.stride + 1
        if span > self._frames:
            raise ValueError(
                f"window={self.window}, horizon={self.horizon}, stride={self.stride} need {span} frames; "
                f"{self.name} has {self._frames}"
            )
        return self._frames - span + 1
