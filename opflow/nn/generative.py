"""Models of distributions, as the training loop sees them."""

import abc
from collections.abc import Iterable
from os import PathLike
from typing import Any

from torch import Tensor, nn


class Generative(nn.Module, abc.ABC):
    """A model of a distribution: it has a loss of its own, and statistics to take before the first step.

    Training data are pairs, as for operators. What the two members mean is said by each model: to a flow the
    first is the condition, of no account without one, and the second the sample. A subclass sets `config`,
    its constructor arguments, JSON values only.
    """

    config: dict[str, Any]

    @abc.abstractmethod
    def pair_loss(
        self, x: Tensor, y: Tensor, coords: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Return the mean loss of a batch of pairs.

        Args:
            x: `(batch, channel, *space)`, or at scattered points `(batch, channel, point)`.
            y: likewise.
            coords: positions `(batch, point, dim)`, for models at points.
            weights: quadrature weights `(batch, point)`, likewise; zero for points that fill a batch up.
        """

    @abc.abstractmethod
    def fit_statistics(self, pairs: Iterable[tuple[Tensor, Tensor, Tensor | None]]) -> None:
        """Set what the training data say of the units of fields, from batches of x, y and weights."""

    def save_pretrained(self, folder: str | PathLike, **metadata) -> None:
        """Write `model.safetensors` and `config.json`; `opflow.load(folder)` reads them back.

        `metadata` (JSON values: grid, units, training set) is kept in `config.json`.
        """
        from opflow.save import save_pretrained

        save_pretrained(self, folder, metadata)
