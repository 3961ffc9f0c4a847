"""What every operator is: a map between fields on grids, with its normalisation inside."""

import abc
import contextlib
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from opflow.nn.normalize import Normalizer


def require_positive(**sizes: int) -> None:
    """Refuse sizes below one, by name.

    Example:
        >>> require_positive(hidden_channels=16, n_layers=0)
        Traceback (most recent call last):
            ...
        ValueError: n_layers must be at least 1, got 0
    """
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


class BaseOperator(nn.Module, abc.ABC):
    """What maps of fields share, on grids (`Operator`) or at points (`PointOperator`): units and files.

    A subclass sets `config`, its constructor arguments, JSON values only.

    Args:
        in_channels: channels of the input field.
        out_channels: channels of the output field.
    """

    config: dict[str, Any]

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.normalizer = Normalizer(in_channels, out_channels)

    @contextlib.contextmanager
    def _evaluating(self) -> Iterator[tuple[torch.device, torch.dtype]]:
        """Switch to evaluation mode without gradients for a `with` block; where and in which dtype."""
        weight, was_training = next(self.parameters()), self.training
        self.eval()
        try:
            with torch.no_grad():
                yield weight.device, weight.dtype
        finally:
            self.train(was_training)

    def save_pretrained(self, folder: str | PathLike, **metadata) -> None:
        """Write `model.safetensors` and `config.json`; `opflow.load(folder)` reads them back.

        `metadata` (JSON values: grid, units, training set) is kept in `config.json`.
        """
        from opflow.save import save_pretrained

        save_pretrained(self, folder, metadata)


class Operator(BaseOperator):
    """A map from fields `(batch, in_channels, *space)` to fields `(batch, out_channels, *out_grid)`.

    A subclass sets `config` (its constructor arguments, JSON values only) and writes `operate`, the map
    between normalised fields. Everything else is shared: argument checks, physical units, prediction at
    another resolution, saving.

    Args:
        in_channels: channels of the input field.
        out_channels: channels of the output field.
        n_dim: number of space dimensions, or None when the operator takes any.
    """

    exports_any_grid = True
    """Whether one exported graph serves every grid; else it is of the grid of its example."""

    def __init__(self, in_channels: int, out_channels: int, n_dim: int | None):
        super().__init__(in_channels, out_channels)
        self.n_dim = n_dim

    @abc.abstractmethod
    def operate(self, x: Tensor, out_grid: Sequence[int] | None) -> Tensor:
        """Map a normalised field to a normalised field, on `out_grid` when it is given."""

    def forward(self, x: Tensor, out_grid: Sequence[int] | None = None) -> Tensor:
        """Map raw fields to raw fields (physical units).

        Args:
            x: `(batch, in_channels, *space)`, the dtype of the parameters.
            out_grid: sizes of the output grid; the grid of `x` when None.

        Returns:
            `(batch, out_channels, *out_grid)`.

        Raises:
            ValueError: the rank or the channel count of `x` is not what the model was built for.
        """
        self._check(x, out_grid)
        y = self.operate(self.normalizer.normalize(x), out_grid)
        last_frame = x[:, -self.out_channels :]
        if y.shape[2:] != x.shape[2:] or last_frame.shape[1] != self.out_channels:
            # Only increment models read the frame; they bring it to the new grid themselves.
            last_frame = self._last_frame_on(y, x)
        return self.normalizer.denormalize(y, last_frame)

    def _last_frame_on(self, y: Tensor, x: Tensor) -> Tensor:
        from opflow.nn.spectral import fourier_resample

        if x.shape[1] < self.out_channels:
            return torch.zeros_like(y)
        return fourier_resample(x[:, -self.out_channels :], y.shape[2:])

    def _check(self, x: Tensor, out_grid: Sequence[int] | None = None) -> None:
        name = type(self).__name__
        if self.n_dim is not None and x.ndim != self.n_dim + 2:
            raise ValueError(
                f"{name} was built for {self.n_dim} space dimensions and takes (batch, {self.in_channels}, "
                f"*space), got a tensor of shape {tuple(x.shape)}"
            )
        if x.shape[1] != self.in_channels:
            raise ValueError(
                f"{name} was built for in_channels={self.in_channels}, got a tensor of shape {tuple(x.shape)}"
            )
        if out_grid is not None and (isinstance(out_grid, int) or len(out_grid) != x.ndim - 2):
            raise ValueError(f"out_grid={out_grid!r} needs one size per space axis, {x.ndim - 2} of them")
        dtype = next((p.real.dtype for p in self.parameters()), x.real.dtype)  # a map may have no weights
        if x.real.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(f"the input is {x.dtype} and the model {dtype}: convert one with `.to(dtype)`")

    def predict(self, x, out_grid: Sequence[int] | None = None) -> Tensor:
        """Evaluate without gradients, in evaluation mode, on the device and in the dtype of the model.

        Args:
            x: tensor or array `(batch, in_channels, *space)`, or one sample without the batch axis; real or
                complex as the model takes it.
            out_grid: sizes of the output grid; the grid of `x` when None.

        Returns:
            `(batch, out_channels, *out_grid)` on the CPU (without the batch axis when `x` had none).
        """
        with self._evaluating() as place:
            x = placed(torch.as_tensor(x), *place)
            single = self.n_dim is not None and x.ndim == self.n_dim + 1
            y = self(x[None] if single else x, out_grid)
        return (y[0] if single else y).cpu()


def placed(x: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Bring a field to a device and to the precision of `dtype`; what is complex stays complex.

    Example:
        >>> placed(torch.ones(2, dtype=torch.complex128), torch.device("cpu"), torch.float32).dtype
        torch.complex64
    """
    dtype = dtype.to_complex() if x.is_complex() else dtype.to_real()
    return x.to(device, dtype, non_blocking=device.type != "cpu")
