"""Pairs of a field and its labels, from files of fields and from sets of images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from opflow.runs.images import ImageSet

if TYPE_CHECKING:
    from pde_data import FieldDataset, Grid, MeshDataset

LABELLED = ("SemFlow", "SymmFlow")
"""The models of fields and labels."""


class Labelled(Dataset):
    """Pairs of a field `(channel, *space)` and the numbers of its labels, `(1, *space)` or `(1,)`, float32.

    Args:
        pairs: the inputs are the field, and the target the variable whose values are classes; or images.
        classes: the values that are the labels 0, 1, ..., the nearest counts; empty for images.

    Raises:
        ValueError: there are no classes, or other pairs than of fields on a grid and one variable.

    Example:
        >>> from pde_data import FieldDataset
        >>> medium = torch.tensor([[3.0, 12.0, 12.0, 3.0]])
        >>> pairs = FieldDataset.from_arrays(inputs=2 * medium, targets=medium)
        >>> Labelled(pairs, (3.0, 12.0))[0][1]
        tensor([[0., 1., 1., 0.]])
    """

    def __init__(self, pairs: "FieldDataset | MeshDataset | ImageSet", classes: Sequence[float] = ()):
        from pde_data import MeshDataset

        self.name = pairs.name
        self._pairs: Any = pairs
        self.input_names, self.target_names = pairs.input_names, pairs.target_names
        self.of_images = isinstance(pairs, ImageSet)
        self.grid: Grid | None = None
        if isinstance(pairs, ImageSet):
            if classes:
                raise ValueError(f"images bring their labels: leave out classes={tuple(classes)}")
            labels, images = pairs.tensors
            self.input_names, self.target_names = pairs.target_names, pairs.input_names
            self.channels, self.n_classes = images.shape[1], int(labels.max()) + 1
            return
        if isinstance(pairs, MeshDataset) or pairs.out_channels != 1:
            raise ValueError(
                f"labels are one variable on a grid, and the targets of {pairs.name} are "
                f"{', '.join(pairs.target_names)}" + " on meshes" * isinstance(pairs, MeshDataset)
            )
        if len(classes) < 2:
            raise ValueError(
                f"classes={tuple(classes)} should be the values of {pairs.target_names[0]!r} in {pairs.name} "
                "that are the labels 0, 1, ..., such as classes=(3.0, 12.0)"
            )
        self.grid, self.channels, self.n_classes = pairs.grid, pairs.in_channels, len(classes)
        self._values = torch.tensor(classes)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = self.gather([index])
        return x[0], y[0]

    def gather(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Read a batch of pairs in one go."""
        if self.of_images:
            label, image = self._pairs[torch.as_tensor(indices)]
            return image, label
        x, y = self._pairs.gather(indices)
        return x, (y[..., None] - self._values).abs().argmin(-1).float()
