"""Codecs: labels as fields in which a flow can move, and back."""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor


class Codec(abc.ABC):
    """A code for the labels 0 to K - 1 in `channels` real channels.

    A subclass has `n_classes` and `perturbation`: codes are perturbed by uniform noise of that total width,
    for which None stands for half of the least distance between two anchors in a channel.
    """

    n_classes: int
    perturbation: float | None

    @property
    @abc.abstractmethod
    def channels(self) -> int:
        """Channels of a code."""

    @property
    @abc.abstractmethod
    def gap(self) -> float:
        """Least distance between the codes of two labels, in the channel where they differ most."""

    @abc.abstractmethod
    def encode(self, labels: Tensor) -> Tensor:
        """Map labels `(batch, *space)` to codes `(batch, channels, *space)`, float32.

        Raises:
            ValueError: a label is not an integer from 0 to K - 1.
        """

    @abc.abstractmethod
    def logits(self, code: Tensor) -> Tensor:
        """Map codes `(batch, channels, *space)` to log-weights of the labels `(batch, K, *space)`."""

    def probabilities(self, code: Tensor) -> Tensor:
        """Map codes `(batch, channels, *space)` to probabilities of the labels `(batch, K, *space)`."""
        return self.logits(code).softmax(1)

    def decode(self, code: Tensor) -> Tensor:
        """Map codes `(batch, channels, *space)` to the nearest labels `(batch, *space)`, int64."""
        return self.logits(code).argmax(1)

    def perturb(self, code: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Add uniform noise that leaves the decoded label alone."""
        width = self.gap / 2 if self.perturbation is None else self.perturbation
        noise = torch.rand(code.shape, generator=generator, dtype=code.dtype, device=code.device)
        return code + width * (noise - 0.5)

    def _checked(self, labels: Tensor) -> Tensor:
        if labels.is_floating_point() or labels.is_complex():
            raise ValueError(f"labels are integers, got {labels.dtype}: convert with `.long()`")
        labels = labels.long()
        if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < self.n_classes:
            low, high = int(labels.min()), int(labels.max())
            outside = low if low < 0 else high
            raise ValueError(
                f"label {outside} is outside of the {type(self).__name__} of {self.n_classes} classes: "
                f"labels are 0 to {self.n_classes - 1}"
            )
        return labels


class AnchorCodec(Codec):
    r"""A codec with one point per label, the anchor; decoding takes the nearest one.

    Probabilities are those of anchors blurred by a Gaussian: :math:`p_k \propto \exp(-|y - a_k|^2 / 2 s^2)`,
    s a quarter of the gap.
    """

    @abc.abstractmethod
    def anchors(self) -> Tensor:
        """Return the anchors `(K, channels)`, float32."""

    @property
    def channels(self) -> int:
        """See `Codec.channels`."""
        return self.anchors().shape[1]

    @property
    def gap(self) -> float:
        """See `Codec.gap`."""
        a = self.anchors()
        apart = (a[:, None] - a[None]).abs().amax(-1)
        return float(apart[~torch.eye(len(a), dtype=torch.bool)].min())

    def encode(self, labels: Tensor) -> Tensor:
        """See `Codec.encode`."""
        return self.anchors().to(labels.device)[self._checked(labels)].movedim(-1, 1)

    def logits(self, code: Tensor) -> Tensor:
        """See `Codec.logits`."""
        shape = (self.n_classes, -1, *(1,) * (code.ndim - 2))
        distances = [(code - a).square().sum(1) for a in self.anchors().to(code).reshape(shape)]
        return -torch.stack(distances, 1) / (2 * (self.gap / 4) ** 2)

    def mean(self, probabilities: Tensor) -> Tensor:
        """Return the mean code `(batch, channels, *space)` under probabilities `(batch, K, *space)`."""
        return torch.einsum("bk...,kc->bc...", probabilities, self.anchors().to(probabilities))


@dataclass(frozen=True)
class Palette(AnchorCodec):
    r"""Colours: the label written in base `levels`, digit d as the value :math:`-1 + d \cdot` `step`.

    `Palette(K, 3, levels=6, step=50 / 127.5)` is the palette of SemFlow, `Palette(K, 3, levels=4, step=75 /
    127.5, spread=True)` that of MedSymmFlow.

    Args:
        n_classes: K, at least 2.
        depth: channels of a colour.
        levels: values per channel; as few as are enough when None.
        step: distance of two values; as far as fills [-1, 1] when None.
        spread: take K colours evenly from all, not the first ones.
        perturbation: see `Codec`.

    Raises:
        ValueError: too few colours for K labels.

    Source: Wang et al., SemFlow, 2024; Caetano et al., SymmFlow and MedSymmFlow, 2025.

    Example:
        >>> Palette(3, 2).anchors()
        tensor([[-1., -1.],
                [-1.,  1.],
                [ 1., -1.]])
        >>> Palette(2, 1).decode(torch.tensor([[[0.2, -0.7]]]))
        tensor([[1, 0]])
    """

    n_classes: int
    depth: int = 3
    levels: int | None = None
    step: float | None = None
    spread: bool = False
    perturbation: float | None = None

    def __post_init__(self):
        _require_classes(self.n_classes)
        if self.depth < 1:
            raise ValueError(f"depth={self.depth} must be at least 1")
        if self.levels is not None and self.levels**self.depth < self.n_classes:
            raise ValueError(
                f"levels={self.levels} in {self.depth} channels make {self.levels**self.depth} "
                f"colours, too few for n_classes={self.n_classes}"
            )

    def anchors(self) -> Tensor:
        """See `AnchorCodec.anchors`."""
        levels = self.levels or next(
            b for b in range(2, 1 + self.n_classes) if b**self.depth >= self.n_classes
        )
        step = 2 / (levels - 1) if self.step is None else self.step
        index = torch.arange(self.n_classes)
        if self.spread:
            index = (index * (levels**self.depth - 1) / (self.n_classes - 1)).round().long()
        digits = [index // levels**place % levels for place in reversed(range(self.depth))]
        return torch.stack(digits, 1) * step - 1.0


@dataclass(frozen=True)
class OneHot(AnchorCodec):
    """One channel per label, 1 for the label and -1 for others.

    Example:
        >>> OneHot(3).encode(torch.tensor([1]))
        tensor([[-1.,  1., -1.]])
    """

    n_classes: int
    perturbation: float | None = None

    def __post_init__(self):
        _require_classes(self.n_classes)

    def anchors(self) -> Tensor:
        """See `AnchorCodec.anchors`."""
        return 2 * torch.eye(self.n_classes) - 1


@dataclass(frozen=True)
class Grey(AnchorCodec):
    r"""One channel, in which labels are levels in their order: :math:`\beta (c / (K - 1) - 1/2)`.

    Args:
        n_classes: K.
        span: :math:`\beta`, from the first level to the last; published: 4.
        perturbation: see `Codec`.

    Source: Caetano et al., SymmFlow, 2025.

    Example:
        >>> Grey(3).anchors().flatten()
        tensor([-2.,  0.,  2.])
    """

    n_classes: int
    span: float = 4.0
    perturbation: float | None = None

    def __post_init__(self):
        _require_classes(self.n_classes)
        if not self.span > 0:
            raise ValueError(f"span={self.span} must be positive")

    def anchors(self) -> Tensor:
        """See `AnchorCodec.anchors`."""
        return self.span * (torch.arange(self.n_classes)[:, None] / (self.n_classes - 1) - 0.5)


@dataclass(frozen=True)
class SignedDistance(Codec):
    r"""Distances to the boundary of each label's region, positive inside: fields with a limit on fine grids.

    With two labels there is one channel, that of label 1. A distance d, in points, becomes
    :math:`\tanh(d / w)`. Points next to a boundary are half a point away from it.

    Args:
        n_classes: K.
        width: w, in points.
        perturbation: see `Codec`.

    Raises:
        ValueError: a number out of range; labels without space axes.

    Example:
        >>> SignedDistance(2, width=2.0).encode(torch.tensor([[0, 0, 1, 1]])).squeeze().round(decimals=2)
        tensor([-0.6400, -0.2400,  0.2400,  0.6400])
    """

    n_classes: int
    width: float = 4.0
    perturbation: float | None = None

    def __post_init__(self):
        _require_classes(self.n_classes)
        if not self.width > 0:
            raise ValueError(f"width={self.width} must be positive")

    @property
    def channels(self) -> int:
        """See `Codec.channels`."""
        return 1 if self.n_classes == 2 else self.n_classes

    @property
    def gap(self) -> float:
        """See `Codec.gap`."""
        return 2 * math.tanh(0.5 / self.width)

    def encode(self, labels: Tensor) -> Tensor:
        """See `Codec.encode`."""
        import numpy as np
        from scipy.ndimage import distance_transform_edt

        labels = self._checked(labels)
        if labels.ndim < 2:
            raise ValueError(
                f"signed distances are for maps of labels (batch, *space), got shape {tuple(labels.shape)}"
            )
        code = np.empty((len(labels), self.channels, *labels.shape[1:]), dtype=np.float32)
        for channel, label in enumerate([1] if self.n_classes == 2 else range(self.n_classes)):
            for i, inside in enumerate((labels == label).cpu().numpy()):
                if inside.all() or not inside.any():
                    code[i, channel] = np.inf if inside.all() else -np.inf
                    continue
                within, without = (np.asarray(distance_transform_edt(m)) for m in (inside, ~inside))
                code[i, channel] = np.where(inside, within - 0.5, 0.5 - without)
        return torch.as_tensor(np.tanh(code / self.width)).to(labels.device)

    def logits(self, code: Tensor) -> Tensor:
        """See `Codec.logits`."""
        scaled = 2 * code / self.gap  # e^2 to one for a point next to a boundary
        return torch.cat([-scaled, scaled], 1) if self.n_classes == 2 else scaled


def _require_classes(n_classes: int) -> None:
    if n_classes < 2:
        raise ValueError(f"n_classes={n_classes} must be at least 2")
