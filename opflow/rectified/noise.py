"""Sources of noise: laws of functions, drawn on grids or at points."""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pde_data import Grid

Where = Sequence[int] | Grid | Tensor
"""Sizes of a grid of the whole box, a grid, or points `(point, dim)`, `(n, point, dim)` where they differ."""


class NoiseSource(abc.ABC):
    """A centred law of fields from which a flow starts; channels are independent copies."""

    @abc.abstractmethod
    def sample(
        self,
        where: Where,
        n: int,
        generator: torch.Generator | None = None,
        *,
        channels: int = 1,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """Draw fields on a grid or at points.

        Args:
            where: sizes of a grid, a `pde_data.Grid`, or points `(point, dim)` or `(n, point, dim)`.
            n: number of fields.
            generator: where the random numbers come from; its device is that of the result. Torch's own for
                the CPU when None.
            channels: channels of a field.
            dtype: float32 or float64.

        Returns:
            `(n, channels, *sizes)` on a grid, `(n, point, channels)` at points.
        """

    @abc.abstractmethod
    def log_prob(self, values: Tensor, where: Where | None = None) -> Tensor:
        """Return the log density of fields, per sample.

        Args:
            values: `(n, channels, *sizes)` on a grid, `(n, point, channels)` at points.
            where: the grid or the points; the grid of the values on the unit box when None.

        Returns:
            `(n,)`, with respect to Lebesgue measure on the values.
        """


@dataclass(frozen=True)
class White(NoiseSource):
    """Independent standard normal values: what images are made from, without a limit on finer grids.

    Example:
        >>> White().sample((4, 5), 3, channels=2).shape
        torch.Size([3, 2, 4, 5])
        >>> round(-float(White().log_prob(torch.zeros(1, 1, 2))), 5) == round(math.log(2 * math.pi), 5)
        True
    """

    def sample(
        self,
        where: Where,
        n: int,
        generator: torch.Generator | None = None,
        *,
        channels: int = 1,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:
        """See `NoiseSource.sample`."""
        shape = field_shape(where, n, channels)
        return torch.randn(shape, generator=generator, dtype=dtype, device=device_of(generator))

    def log_prob(self, values: Tensor, where: Where | None = None) -> Tensor:
        """See `NoiseSource.log_prob`."""
        return -0.5 * (values.square() + math.log(2 * math.pi)).flatten(1).sum(1)


def field_shape(where: Where, n: int, channels: int) -> tuple[int, ...]:
    """Return the shape of n fields: channels first on grids, last at points.

    Raises:
        ValueError: points for another number of samples.

    Example:
        >>> field_shape((8, 8), 2, 1), field_shape(torch.rand(50, 2), 2, 1)
        ((2, 1, 8, 8), (2, 50, 1))
    """
    if isinstance(where, Tensor):
        if where.ndim not in (2, 3) or (where.ndim == 3 and len(where) != n):
            raise ValueError(
                f"points are (point, dim), or (n, point, dim) with n={n} here, got shape {tuple(where.shape)}"
            )
        return (n, where.shape[-2], channels)
    return (n, channels, *(where.sizes if isinstance(where, Grid) else where))


def device_of(generator: torch.Generator | None) -> torch.device:
    """Return the device on which a generator draws."""
    return torch.device("cpu") if generator is None else generator.device
