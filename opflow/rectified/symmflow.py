"""SymmFlow: field and labels in one state, each with noise at its other end."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from opflow.nn.arguments import arguments
from opflow.rectified.base import LabelledFlow, device_of, generator_of, require_skew
from opflow.rectified.codecs import AnchorCodec, Codec
from opflow.rectified.describe import built, describe
from opflow.rectified.fixed_steps import FixedSteps
from opflow.rectified.noise import NoiseSource, White
from opflow.rectified.paths import Reversed, Straight
from opflow.rectified.sampling import Flowed, Velocity, in_chunks, integrate
from opflow.rectified.semflow import Segmentation, require_pair, require_share
from opflow.rectified.velocity import VelocityNetwork, beside

_SYNTHESIS, _SEGMENTATION = 0.5, 0.45  # shares of a batch; in the rest neither field nor labels are clean
_FROM_NOISE = 0.75  # share of the segmentation that starts from labels of which nothing is known yet

Square = tuple[tuple[float, float], tuple[float, float]]


class SymmFlow(LabelledFlow):
    r"""Rectified flow of the joint state of a field and its labels, for synthesis and segmentation.

    Field and labels have a time each, 0 where they are noise and 1 where they are clean, so that states lie
    over a square of times. With clean labels the flow of the field synthesises, with a clean field that of
    the labels segments, or classifies, for labels of whole fields.

    The published form, `SymmFlow.published`, is one diagonal of the square, :math:`(t, 1 - t)`: either of the
    two appears while the other is lost, and the network learns both velocities by least squares. With
    `times="separate"` what is given stays clean, and the whole square is learned, pairs from noise alone
    included. With `label_head="target"` labels are learned by cross-entropy, and their velocity is that
    towards the mean code: one step segments as a network trained for that alone. With `field_head="target"`
    the network predicts what lies across the path of the field (`Path.across`), at time 0 the mean field.

    Args:
        network: see `VelocityNetwork`.
        codec: code of the labels, a `Codec` or its description.
        channels: channels of the field.
        noise: law of the field at time 0, a `NoiseSource` or its description; that of codes is white.
        times: "separate", or "shared" as published.
        field_head: "velocity", as published, or "target".
        label_head: "target", by least squares for codes without anchors, or "velocity" as published.
        weight: share w of the field in the loss, :math:`w L_x + (1 - w) L_y`.
        sigma: share of the start that is left at the end of a path.
        skew: times of the field are drawn as :math:`u^{skew}`, u uniform: above 1 more of them lie near the
            noise, where white noise decides early what becomes of it.

    Shapes:
        fields `(batch, channels, *space)`; labels `(batch, *space)`, or `(batch,)` for whole fields, which
        become constant codes.

    Raises:
        ValueError: an argument, or the shape of an input, does not fit; the message says what would.

    Source: Caetano et al., Symmetrical Flow Matching: Unified Image Generation, Segmentation, and
    Classification with Score-Based Generative Models, 2025 (arXiv 2506.10634).

    Example:
        >>> from opflow.rectified import Grey, OneHot
        >>> flow = SymmFlow({"class": "UNet", "config": {"hidden_channels": 8}}, OneHot(3))
        >>> field, labels = torch.randn(2, 1, 8, 8), torch.randint(3, (2, 8, 8))
        >>> flow.loss(field, labels).ndim
        0
        >>> flow.segment(field).labels.shape, flow.synthesise(labels, n_steps=2).samples.shape
        (torch.Size([2, 8, 8]), torch.Size([2, 1, 8, 8]))
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        codec: Codec | Mapping[str, Any],
        channels: int = 1,
        noise: NoiseSource | Mapping[str, Any] | None = None,
        times: str = "separate",
        field_head: str = "velocity",
        label_head: str = "target",
        weight: float = 0.5,
        sigma: float = 0.0,
        skew: float = 1.0,
    ):
        config = arguments(locals())
        super().__init__(channels)
        self.codec = built(Codec, codec)
        self.noise = built(NoiseSource, White() if noise is None else noise)
        self.config = config | {"codec": describe(self.codec), "noise": describe(self.noise)}
        for name, value, known in (
            ("times", times, ("separate", "shared")),
            ("field_head", field_head, ("velocity", "target")),
            ("label_head", label_head, ("target", "velocity")),
        ):
            if value not in known:
                raise ValueError(f"{name}={value!r} is not one of {', '.join(map(repr, known))}")
        require_share(weight)
        require_skew(skew)
        self.skew = skew
        self.shared, self.weight = times == "shared", weight
        self.field_target, self.label_target = field_head == "target", label_head == "target"
        self.path = Straight(sigma)
        self.label_path = Reversed(self.path)
        # Codes without anchors are predicted by least squares.
        self.classifies = self.label_target and isinstance(self.codec, AnchorCodec)
        labels = self.codec.n_classes if self.classifies else self.codec.channels
        n_in = channels + self.codec.channels
        self.network = VelocityNetwork(network, n_in, channels + labels, n_times=1 if self.shared else 2)

    @classmethod
    def published(cls, network: Mapping[str, Any], codec: Codec, channels: int = 1, weight: float = 0.7):
        """Make the flow as it was published."""
        options = {"times": "shared", "label_head": "velocity", "sigma": 1e-4}
        return cls(network, codec, channels, weight=weight, **options)

    def loss(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        field: Tensor,
        labels: Tensor,
        generator: torch.Generator | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of a batch at random times.

        Args:
            field: `(batch, channels, *space)`, in physical units.
            labels: `(batch, *space)`, or `(batch,)`.
            generator: where the random numbers come from.
            noise: the noise from which the fields came by this flow, to straighten it (see `reflow_pairs`);
                with separate times the loss is then that of synthesis alone.

        Raises:
            ValueError: fields and labels do not lie on one grid, or a label is outside of the codec.
        """
        require_pair(field, labels, self.channels)
        x1, y1 = self.normalize(field), self._code(labels, field)
        if not self.label_target:
            y1 = self.codec.perturb(y1, generator)
        sx, sy = self._draw(len(x1), generator, x1, noise is not None)
        x0 = self._noise(x1, generator) if noise is None else noise
        y0 = torch.randn(y1.shape, generator=generator, dtype=y1.dtype, device=y1.device)
        x, vx = self.path.point(x0, x1, sx)
        y, vy = self.label_path.point(y0, y1, sy)
        heads = self._heads(x, y, sx, sy)
        field_loss = (heads[0] - (self.path.across(x0, x1, sx) if self.field_target else vx)).square()
        if self.classifies:
            wanted = labels.reshape(*labels.shape, *(1,) * (field.ndim - 1 - labels.ndim))
            label_loss = cross_entropy(heads[1], wanted.expand(-1, *field.shape[2:]), reduction="none")
        else:
            label_loss = (heads[1] - (y1 if self.label_target else vy)).square()
        # With separate times, what is clean already is not there to be learned.
        of_field, of_labels = field_loss.flatten(1).mean(1), label_loss.flatten(1).mean(1)
        if not self.shared:
            of_field, of_labels = of_field * (sx < 1), of_labels * (sy < 1)
        return (self.weight * of_field + (1 - self.weight) * of_labels).mean()

    def velocity(self, x: Tensor, y: Tensor, sx: Tensor, sy: Tensor) -> tuple[Tensor, Tensor]:
        """Velocities of a normalised field and a code, each with respect to its own time `(batch,)`."""
        field, label = self._heads(x, y, sx, sy)
        if self.classifies:
            assert isinstance(self.codec, AnchorCodec)
            label = self.codec.mean(label.softmax(1))
        if self.label_target:
            label = self.label_path.velocity_to(label, y, sy)
        return self.path.velocity_across(field, x, sx) if self.field_target else field, label

    def segment(
        self,
        field: Tensor,
        *,
        seed: int | torch.Generator | None = None,
        n_steps: int | None = 1,
        chunk: int | None = None,
        **solver,
    ) -> Segmentation:
        """Find maps of labels, one label per point.

        One step gives the labels to be expected, as a network trained for them; more steps draw maps from
        their law.

        Args:
            field: `(batch, channels, *space)`, in physical units.
            seed: of the noise in the place of the labels.
            n_steps: as for `integrate`; None for an adaptive `method`.
            chunk: samples that are worked on at a time; all when None.
            solver: further arguments of `integrate`: `method`, `step_size`, `tolerance`, `power`, `keep`; or
                `sampler`, made by `fixed_steps`.
        """
        x = self.normalize(field)
        shape = (len(x), self.codec.channels, *x.shape[2:])
        y = torch.randn(shape, generator=generator_of(seed, device_of(self)), dtype=x.dtype, device=x.device)
        flowed = self._flow(x, y, self._square(False), chunk, {"n_steps": n_steps} | solver)
        code = flowed.samples[:, self.channels :]
        return Segmentation(self.codec.decode(code), self.codec.probabilities(code), flowed)

    def classify(self, field: Tensor, **options) -> Segmentation:
        """Find one label for each field: that of the mean code. Arguments as for `segment`."""
        flowed = self.segment(field, **options).flowed
        code = flowed.samples[:, self.channels :].flatten(2).mean(2)
        return Segmentation(self.codec.decode(code), self.codec.probabilities(code), flowed)

    def synthesise(
        self,
        labels: Tensor,
        grid: tuple[int, ...] | None = None,
        *,
        seed: int | torch.Generator | None = None,
        chunk: int | None = None,
        **solver,
    ) -> Flowed:
        """Draw fields with given labels.

        Args:
            labels: `(batch, *space)`, or `(batch,)`.
            grid: sizes of the fields, for labels of whole fields.
            seed: of the noise.
            chunk: samples that are worked on at a time; all when None.
            solver: for `integrate`: `method`, `n_steps`, `step_size`, `tolerance`, `power`, `keep`; or
                `sampler`, made by `fixed_steps`.

        Returns:
            Fields `(batch, channels, *space)` in physical units; the trajectory is that of the joint state,
            normalised.

        Raises:
            ValueError: labels of whole fields come without a grid.
        """
        generator = generator_of(seed, device_of(self))
        x, y = self._start(labels, grid, generator)
        flowed = self._flow(x, y, self._square(True), chunk, solver)
        fields = self.denormalize(flowed.samples[:, : self.channels])
        return Flowed(fields, flowed.nfe, flowed.times, flowed.trajectory)

    def sample(
        self,
        n: int,
        grid: tuple[int, ...],
        *,
        seed: int | torch.Generator | None = None,
        chunk: int | None = None,
        **solver,
    ) -> tuple[Flowed, Tensor]:
        """Draw pairs of a field and a map of labels from noise alone; arguments as for `synthesise`.

        Returns:
            The fields `(n, channels, *grid)` in physical units, and their labels `(n, *grid)`.

        Raises:
            ValueError: the flow has shared times, on which there are no pairs of noise.
        """
        if self.shared:
            raise ValueError("with times='shared' labels are clean where the field is noise: use synthesise")
        generator = generator_of(seed, device_of(self))
        like = self.normalizer.input_mean.new_empty(n, self.channels, *grid)
        y = torch.randn(
            (n, self.codec.channels, *grid), generator=generator, dtype=like.dtype, device=like.device
        )
        flowed = self._flow(self._noise(like, generator), y, ((0.0, 0.0), (1.0, 1.0)), chunk, solver)
        x, y = flowed.samples.split([self.channels, self.codec.channels], 1)
        return Flowed(self.denormalize(x), flowed.nfe, flowed.times, flowed.trajectory), self.codec.decode(y)

    def fixed_steps(
        self,
        method: str = "euler",
        n_steps: int = 25,
        *,
        synthesis: bool = True,
        power: float = 1.0,
        compile: bool = True,
    ) -> FixedSteps:
        """Make a sampler of fixed steps, compiled once and called often, for one of the two directions.

        Args:
            method: as for `FixedSteps`, like `n_steps`, `power` and `compile`.
            n_steps: number of steps.
            synthesis: from labels to fields; else from fields to labels.
            power: shorter steps at first.
            compile: compile a step with torch.compile, at its first call for each shape.
        """
        return FixedSteps(self._along(self._square(synthesis)), method, n_steps, power=power, compile=compile)

    def reflow_pairs(
        self, labels: Tensor, grid: tuple[int, ...] | None = None, *, seed: int | None = None, **solver
    ) -> tuple[Tensor, Tensor]:
        """Draw fields together with the noise they came from: `loss(fields, labels, noise=noise)` reflows.

        Returns:
            The noise and the fields, `(batch, channels, *space)` each, the fields in physical units.
        """
        seed = int(torch.randint(2**62, ())) if seed is None else seed
        noise, _ = self._start(labels, grid, generator_of(seed, device_of(self)))
        return noise, self.synthesise(labels, grid, seed=seed, **solver).samples

    def _heads(self, x: Tensor, y: Tensor, sx: Tensor, sy: Tensor) -> tuple[Tensor, Tensor]:
        times = sx[:, None] if self.shared else torch.stack([sx, sy], 1)
        if self.field_target:
            x = x / self.path.size(x, sx)
        if self.label_target:  # pure noise says nothing of the labels, and only disturbs
            y = y * (sy > 0).reshape(-1, *(1,) * (y.ndim - 1))
        output = self.network(beside(x, [y], on_points=False), times)
        return output[:, : self.channels], output[:, self.channels :]

    def _draw(self, n: int, generator, like: Tensor, synthesis: bool) -> tuple[Tensor, Tensor]:
        """Times of a batch, over the diagonal or over the square with weight on its edges."""
        place = {"generator": generator, "dtype": like.dtype, "device": like.device}
        sx = torch.rand(n, **place) ** self.skew
        if self.shared:
            return sx, 1 - sx
        sy, which, blank = torch.rand(n, **place), torch.rand(n, **place), torch.rand(n, **place)
        if synthesis:
            return sx, torch.ones_like(sy)
        given = which < _SYNTHESIS
        clean = ~given & (which < _SYNTHESIS + _SEGMENTATION)
        sy = torch.where(clean & (blank < _FROM_NOISE), 0.0, sy)
        return torch.where(clean, 1.0, sx), torch.where(given, 1.0, sy)

    def _start(self, labels: Tensor, grid, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        space = tuple(labels.shape[1:]) or grid
        if space is None:
            raise ValueError("labels of whole fields need the grid of the fields: give grid=(n, m)")
        like = self.normalizer.input_mean.new_empty(len(labels), self.channels, *space)
        y = self._code(labels, like)
        return self._noise(like, generator), y if self.label_target else self.codec.perturb(y, generator)

    def _noise(self, like: Tensor, generator) -> Tensor:
        options = {"channels": self.channels, "dtype": like.dtype}
        return self.noise.sample(tuple(like.shape[2:]), len(like), generator, **options)

    def _code(self, labels: Tensor, field: Tensor) -> Tensor:
        code = self.codec.encode(labels).to(field)
        code = code.reshape(*code.shape, *(1,) * (field.ndim - code.ndim))
        return code.expand(-1, -1, *field.shape[2:])

    def _square(self, synthesis: bool) -> Square:
        """Times of field and labels at the start and at the end of either task."""
        if synthesis:
            return ((0.0, 1.0), (1.0, 0.0)) if self.shared else ((0.0, 1.0), (1.0, 1.0))
        return ((1.0, 0.0), (0.0, 1.0)) if self.shared else ((1.0, 0.0), (1.0, 1.0))

    def _along(self, square: Square) -> Velocity:
        """Velocity of the joint state along a line over the square of times."""
        (x0, y0), (x1, y1) = square

        def along(z: Tensor, t: Tensor) -> Tensor:
            field, code = z.split([self.channels, self.codec.channels], 1)
            sx, sy = (s.expand(len(z)) for s in (x0 + (x1 - x0) * t, y0 + (y1 - y0) * t))
            vx, vy = self.velocity(field, code, sx, sy)
            return torch.cat([(x1 - x0) * vx, (y1 - y0) * vy], 1)

        return along

    def _flow(self, x: Tensor, y: Tensor, square: Square, chunk: int | None, solver: dict) -> Flowed:
        sampler, keep = solver.pop("sampler", None), solver.get("keep", False)

        def solve(z: Tensor) -> Flowed:
            if sampler is not None:
                return sampler(z, keep=keep)
            return integrate(self._along(square), z, **solver)

        return in_chunks(solve, chunk, torch.cat([x, y], 1))
