"""SemFlow: one ordinary differential equation between a field and the map of its labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from opflow.nn.arguments import arguments
from opflow.rectified.base import LabelledFlow, device_of, generator_of
from opflow.rectified.codecs import AnchorCodec, Codec
from opflow.rectified.describe import built, describe
from opflow.rectified.paths import Path, Straight
from opflow.rectified.sampling import Flowed, in_chunks, integrate
from opflow.rectified.velocity import VelocityNetwork


@dataclass(frozen=True)
class Segmentation:
    """Labels that a flow has found, and what that cost."""

    labels: Tensor
    """`(batch, *space)`, or `(batch,)` for labels of whole fields, int64."""
    probabilities: Tensor
    """`(batch, K, *space)`, or `(batch, K)`."""
    flowed: Flowed
    """The codes, in which the flow moved, the evaluations, and the trajectory."""


class SemFlow(LabelledFlow):
    r"""Rectified flow between fields and label maps: run forwards it segments, backwards it synthesises.

    At t = 0 the state is the normalised field, at t = 1 the code of its labels with a finite perturbation,
    from which different fields of the same labels come. There is no other noise.

    In the published form the network is the velocity and learns it by least squares. With `heads="ends"` it
    has two heads, one for either end: the field :math:`\hat z_0` by least squares and the labels by
    cross-entropy; the velocity is :math:`\sum_k p_k a_k - \hat z_0` with the anchors a of the labels. One
    step then segments as a network trained for that alone.

    Args:
        network: see `VelocityNetwork`.
        codec: code of the labels, a `Codec` or its description, with as many channels as the field or one,
            which is then repeated.
        channels: channels of the field.
        heads: "velocity", as published, or "ends".
        weight: share of the field in the loss of "ends", the rest is that of the labels.

    Shapes:
        fields `(batch, channels, *space)`, labels `(batch, *space)`.

    Raises:
        ValueError: an argument, or the shape of an input, does not fit; the message says what would.

    Source: Wang et al., SemFlow: Binding Semantic Segmentation and Image Synthesis via Rectified Flow, 2024
    (arXiv 2405.20282).

    Example:
        >>> from opflow.rectified import Palette
        >>> flow = SemFlow({"class": "UNet", "config": {"hidden_channels": 8}}, Palette(2, 1))
        >>> field = torch.randn(2, 1, 8, 8)
        >>> flow.loss(field, (field[:, 0] > 0).long()).ndim
        0
        >>> flow.segment(field, n_steps=2).labels.shape
        torch.Size([2, 8, 8])
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        codec: Codec | Mapping[str, Any],
        channels: int = 1,
        heads: str = "velocity",
        weight: float = 0.5,
    ):
        config = arguments(locals())
        super().__init__(channels)
        self.codec = built(Codec, codec)
        self.config = config | {"codec": describe(self.codec)}
        if heads not in ("velocity", "ends"):
            raise ValueError(f"heads={heads!r} is not one of 'velocity', 'ends'")
        require_share(weight)
        if self.codec.channels not in (1, channels):
            raise ValueError(
                f"a {type(self.codec).__name__} with {self.codec.channels} channels cannot be one end of a "
                f"path whose other end has channels={channels}: use a Palette of that depth"
            )
        if heads == "ends" and not isinstance(self.codec, AnchorCodec):
            raise ValueError(f"heads='ends' needs a codec with anchors, not {type(self.codec).__name__}")
        self.heads, self.weight = heads, weight
        self.path: Path = Straight()
        outputs = channels if heads == "velocity" else channels + self.codec.n_classes
        self.network = VelocityNetwork(network, channels, outputs)

    def loss(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, field: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the loss of a batch at random times.

        Args:
            field: `(batch, channels, *space)`, in physical units.
            labels: `(batch, *space)`.
            generator: where the random numbers come from.

        Raises:
            ValueError: fields and labels do not lie on one grid, or a label is outside of the codec.
        """
        require_pair(field, labels, self.channels)
        z0, z1 = self.normalize(field), self._code(labels, generator)
        t = torch.rand(len(field), generator=generator, dtype=z0.dtype, device=z0.device)
        z, target = self.path.point(z0, z1, t)
        output = self.network(z, t[:, None])
        if self.heads == "velocity":
            return (output - target).square().mean()
        ends = output[:, : self.channels]
        wrong = cross_entropy(output[:, self.channels :], labels)
        return self.weight * (ends - z0).square().mean() + (1 - self.weight) * wrong

    def velocity(self, z: Tensor, t: Tensor) -> Tensor:
        """Velocity of normalised states `(batch, channels, *space)` at a time in [0, 1]."""
        output = self.network(z, t.expand(len(z))[:, None])
        if self.heads == "velocity":
            return output
        assert isinstance(self.codec, AnchorCodec)
        code = self.codec.mean(output[:, self.channels :].softmax(1))
        return code - output[:, : self.channels]

    def segment(self, field: Tensor, *, chunk: int | None = None, **solver) -> Segmentation:
        """Find the labels of fields: from t = 0 to t = 1.

        Args:
            field: `(batch, channels, *space)`, in physical units.
            chunk: samples that are worked on at a time; all when None.
            solver: for `integrate`: `method`, `n_steps`, `step_size`, `tolerance`, `power`, `keep`.
        """
        z0 = self.normalize(field)
        flowed = in_chunks(lambda z: integrate(self.velocity, z, **solver), chunk, z0)
        code = flowed.samples
        if self.codec.channels == 1:
            code = code.mean(1, keepdim=True)
        return Segmentation(self.codec.decode(code), self.codec.probabilities(code), flowed)

    def synthesise(
        self,
        labels: Tensor,
        *,
        seed: int | torch.Generator | None = None,
        chunk: int | None = None,
        **solver,
    ) -> Flowed:
        """Make fields with given labels: from t = 1, perturbed, to t = 0.

        Args:
            labels: `(batch, *space)`.
            seed: of the perturbation.
            chunk: samples that are worked on at a time; all when None.
            solver: as for `segment`.

        Returns:
            Fields `(batch, channels, *space)` in physical units; the trajectory is normalised.
        """
        code = self._code(labels, generator_of(seed, device_of(self)))
        flowed = in_chunks(lambda z: integrate(self.velocity, z, span=(1.0, 0.0), **solver), chunk, code)
        return Flowed(self.denormalize(flowed.samples), flowed.nfe, flowed.times, flowed.trajectory)

    def _code(self, labels: Tensor, generator: torch.Generator | None) -> Tensor:
        code = self.codec.encode(labels).to(self.normalizer.input_mean)
        code = code.expand(-1, self.channels, *code.shape[2:])
        return self.codec.perturb(code, generator)


def require_pair(field: Tensor, labels: Tensor, channels: int) -> None:
    """Refuse fields and label maps that do not belong together.

    Raises:
        ValueError: another number of channels, or another grid.
    """
    if field.ndim < 3 or field.shape[1] != channels:
        raise ValueError(
            f"fields are (batch, {channels}, *space), got a tensor of shape {tuple(field.shape)}"
        )
    if labels.shape[0] != field.shape[0] or labels.shape[1:] not in (field.shape[2:], ()):
        raise ValueError(
            f"labels of shape {tuple(labels.shape)} do not lie on the grid of fields of shape "
            f"{tuple(field.shape)}: bring both members of a pair to one grid, {tuple(field.shape[2:])}"
        )


def require_share(weight: float) -> None:
    """Refuse a share that is not between zero and one."""
    if not 0 < weight < 1:
        raise ValueError(f"weight={weight} must be between 0 and 1: a share of the loss")
