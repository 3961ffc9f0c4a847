"""Tasks of pairs, a field and its labels, and what a task is asked."""

import abc
import os
from pathlib import Path

from torch import Tensor

GRID, TRAINING = 32, 1024


class Pairs(abc.ABC):
    """Pairs for training and tests, and what is known of the law of fields under given labels.

    A subclass sets the attributes in its constructor.
    """

    training: tuple[Tensor, Tensor]
    """Fields `(n, channel, *space)` and labels `(n, *space)`, or `(n,)` for whole fields, int64."""
    tests: tuple[Tensor, Tensor]
    """Unseen pairs."""
    n_classes: int
    """Number of labels."""
    law: Tensor | None = None
    """Fields under the labels of the tests `(test, draw, channel, *space)`, where a solver can draw them."""
    perfect: Tensor | None = None
    """Others, as many as models draw."""
    turns = False
    """Whether pairs that are turned by quarters and mirrored follow the same law."""
    seconds = 180.0
    """CPU seconds of training."""

    @property
    def whole(self) -> bool:
        """Whether labels are of whole fields."""
        return self.training[1].ndim == 1

    @property
    def space(self) -> tuple[int, ...]:
        """Sizes of the grid."""
        return tuple(self.training[0].shape[2:])

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the channels of fields, `(1, channel, 1, 1)` each."""
        axes = (0, 2, 3)
        fields = self.training[0]
        return fields.mean(axes, keepdim=True), fields.std(axes, keepdim=True)

    @abc.abstractmethod
    def known(self, fields: Tensor) -> dict[str, Tensor]:
        """Return what can be said of drawn fields alone: their `labels` by another rule, numbers."""


def real_data(name: str) -> Path:
    """Return a published file in the folder `$OPFLOW_DATA`, or where tests look for it too."""
    path = Path(os.environ.get("OPFLOW_DATA", Path(__file__).parents[3] / "shared" / "data")) / name
    if not path.is_file():
        raise SystemExit(f"{name} is not in the folder {path.parent}: set OPFLOW_DATA to the folder it is in")
    return path
