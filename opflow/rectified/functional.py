"""Functional flow matching: a flow from a Gaussian law of functions to the law of the data."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from opflow.nn.arguments import arguments
from opflow.nn.point_geometry import PointGeometry
from opflow.rectified.base import RectifiedFlow, device_of, generator_of, require_skew
from opflow.rectified.couplings import Coupling, Independent
from opflow.rectified.describe import built, describe
from opflow.rectified.fixed_steps import FixedSteps
from opflow.rectified.guidance import drop, guided, require_dropout
from opflow.rectified.likelihood import LogProb, log_prob
from opflow.rectified.noise import NoiseSource, Where, White
from opflow.rectified.paths import Path, Straight
from opflow.rectified.sampling import Flowed, Velocity, in_chunks, integrate
from opflow.rectified.velocity import VelocityNetwork, beside


class FunctionalFlow(RectifiedFlow):
    r"""Flow matching between a law of noise and the law of fields, on grids or at points.

    With a Gaussian process for the noise and a neural operator for the velocity it is a flow of functions:
    trained on one grid or mesh, it samples on others. Fields may depend on a condition, which lies on the
    same grid or points, or is one vector per sample.

    Args:
        network: see `VelocityNetwork`; an operator on points ("MINO") makes a flow at points.
        channels: channels of the field.
        noise: law at time 0, a `NoiseSource` or its description; white when None.
        path: a `Path` or its description; straight when None. OFM and MINO: `Straight(blur=1e-4)`, FFM:
            `Straight(sigma=1e-4)`.
        coupling: a `Coupling` or its description; independent when None. OFM: `PermutationOT()`.
        head: "velocity", as published, or "target", what lies across the path (`Path.across`), at time 0 its
            end.
        condition_channels: channels of the condition, 0 for none.
        dropout: share of the training samples without their condition, for guidance.
        skew: times are drawn as :math:`u^{skew}`, u uniform, 1 as published; see `SymmFlow`.

    Shapes:
        on grids `(batch, channels, *space)`, at points `(batch, point, channels)`; conditions likewise with
        `condition_channels`, or `(batch, condition_channels)`.

    Raises:
        ValueError: an argument, or the shape of an input, does not fit; the message says what would.

    Source: Kerrigan et al., Functional Flow Matching, 2024; Shi et al., Stochastic Process Learning via
    Operator Flow Matching, 2025; Shi et al., Mesh-Informed Neural Operator, 2025.

    Example:
        >>> from opflow.rectified import GaussianProcess
        >>> fno = {"class": "FNO", "config": {"n_modes": (4, 4), "hidden_channels": 4}}
        >>> flow = FunctionalFlow(fno, noise=GaussianProcess(length=0.3))
        >>> flow.loss(torch.randn(2, 1, 8, 8)).ndim
        0
        >>> flow.sample(3, (12, 12), n_steps=2).samples.shape
        torch.Size([3, 1, 12, 12])
    """

    def __init__(
        self,
        network: Mapping[str, Any],
        channels: int = 1,
        noise: NoiseSource | Mapping[str, Any] | None = None,
        path: Path | Mapping[str, Any] | None = None,
        coupling: Coupling | Mapping[str, Any] | None = None,
        head: str = "velocity",
        condition_channels: int = 0,
        dropout: float = 0.0,
        skew: float = 1.0,
    ):
        config = arguments(locals())
        super().__init__(channels)
        self.noise = built(NoiseSource, White() if noise is None else noise)
        self.path = built(Path, Straight() if path is None else path)
        self.coupling = built(Coupling, Independent() if coupling is None else coupling)
        parts = {"noise": self.noise, "path": self.path, "coupling": self.coupling}
        self.config = config | {name: describe(part) for name, part in parts.items()}
        if head not in ("velocity", "target"):
            raise ValueError(f"head={head!r} is not one of 'velocity', 'target'")
        require_dropout(dropout)
        require_skew(skew)
        self.skew = skew
        if condition_channels < 0 or (dropout and not condition_channels):
            raise ValueError(
                f"condition_channels={condition_channels} with dropout={dropout}: a condition that is left "
                "out now and then has channels"
            )
        self.targets, self.condition_channels, self.dropout = head == "target", condition_channels, dropout
        flag = 1 if dropout else 0  # tells a condition of zero from none
        self.network = VelocityNetwork(network, channels + condition_channels + flag, channels)

    def loss(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        field: Tensor,
        condition: Tensor | None = None,
        coords: Tensor | PointGeometry | None = None,
        *,
        weights: Tensor | None = None,
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Return the loss of a batch at random times.

        Args:
            field: in physical units.
            condition: for flows with `condition_channels`.
            coords: at points, their positions `(point, dim)` or `(batch, point, dim)`, or a geometry (see
                `VelocityNetwork.geometry`), made once.
            weights: at points, quadrature weights `(point,)` or `(batch, point)` for the loss; zero for
                filling, of which the geometry has to know as well.
            noise: the noise from which the fields came by this flow, to straighten it (see `reflow_pairs`).
            generator: where the random numbers come from.

        Raises:
            ValueError: a shape does not fit.
        """
        x1 = self._units(field, self.normalize)
        condition = self._condition(condition, x1)
        if noise is None:
            x0 = self._noise(self._where(x1, coords), len(x1), x1.dtype, generator)
            x0 = x0[self.coupling(x0, x1, condition)]
        else:
            x0 = noise
        t = torch.rand(len(x1), generator=generator, dtype=x1.dtype, device=x1.device) ** self.skew
        blur = None
        if self.path.blur:
            blur = self._noise(self._where(x1, coords), len(x1), x1.dtype, generator)
        x, velocity = self.path.point(x0, x1, t, blur)
        there = None
        if self.dropout and condition is not None:
            condition, there = drop(condition, self.dropout, generator)
        output = self._network(x, t, condition, there, coords)
        wanted = self.path.across(x0, x1, t) if self.targets else velocity
        error = (output - wanted).square()
        if weights is None:
            return error.mean()
        share = weights.expand(error.shape[:2])
        return ((share / share.sum(1, keepdim=True))[..., None] * error).sum(1).mean()

    def field_of(self, x: Tensor, y: Tensor) -> Tensor:
        """Return y: pairs are of a condition and a field."""
        return y

    def pair_loss(
        self, x: Tensor, y: Tensor, coords: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Return the loss of fields y, under conditions x where the flow has any."""
        given = x if self.condition_channels else None
        if coords is None:
            return self.loss(y, given)
        given = None if given is None else given.mT
        return self.loss(y.mT, given, self.network.geometry(coords, weights), weights=weights)

    def velocity(
        self,
        condition: Tensor | None = None,
        coords: Tensor | PointGeometry | None = None,
        guidance: float = 1.0,
    ) -> Velocity:
        """Return the velocity, a function of normalised states and a time, for a condition and points.

        Args:
            condition: `(batch, ...)`; None for the law without, if there was dropout in training.
            coords: at points, their positions or a geometry.
            guidance: how much the condition is stressed; 1 is the law that was learned.

        Raises:
            ValueError: guidance is asked of a flow that never was without its condition.
        """
        if guidance != 1 and (not self.dropout or condition is None):
            raise ValueError(f"guidance={guidance} needs a condition, and dropout > 0 in training")

        def v(x: Tensor, t: Tensor) -> Tensor:
            times = t.expand(len(x))
            if condition is None or not self.dropout:
                given, there = self._condition(condition, x), x.new_zeros(len(x)) if self.dropout else None
                return self._velocity(x, times, given, there, coords)

            def conditioned(c: Tensor, there: Tensor) -> Tensor:
                twice = len(c) // len(x)
                states, at = x.repeat(twice, *(1,) * (x.ndim - 1)), coords
                if twice > 1 and isinstance(coords, Tensor) and coords.ndim == 3:
                    at = coords.repeat(twice, 1, 1)
                return self._velocity(states, times.repeat(twice), c, there, at)

            full = self._condition(condition, x)
            assert full is not None
            return guided(conditioned, full, guidance)

        return v

    def sample(
        self,
        n: int,
        where: Where | PointGeometry,
        *,
        condition: Tensor | None = None,
        guidance: float = 1.0,
        seed: int | torch.Generator | None = None,
        chunk: int | None = None,
        **solver,
    ) -> Flowed:
        """Draw fields on a grid or at points.

        Args:
            n: number of fields.
            where: sizes of a grid, a `pde_data.Grid`, points `(point, dim)` or `(n, point, dim)`, or the
                geometry of points that all share.
            condition: `(n, ...)`.
            guidance: see `velocity`.
            seed: of the noise, or a generator.
            chunk: samples that are worked on at a time; all when None.
            solver: for `integrate`: `method`, `n_steps`, `step_size`, `tolerance`, `power`, `keep`.

        Returns:
            Fields in physical units; the trajectory is normalised.

        Raises:
            ValueError: the condition is not for n fields, or a shape does not fit.
        """
        start = self.draw_noise(n, where, seed)
        return self.transport(start, where, condition=condition, guidance=guidance, chunk=chunk, **solver)

    def draw_noise(
        self, n: int, where: Where | PointGeometry, seed: int | torch.Generator | None = None
    ) -> Tensor:
        """Draw n states at time 0."""
        place = where.coords if isinstance(where, PointGeometry) else where
        generator = generator_of(seed, device_of(self))
        return self._noise(place, n, self.normalizer.input_mean.dtype, generator)

    def transport(
        self,
        noise: Tensor,
        where: Where | PointGeometry | None = None,
        *,
        condition: Tensor | None = None,
        guidance: float = 1.0,
        chunk: int | None = None,
        sampler: FixedSteps | None = None,
        **solver,
    ) -> Flowed:
        """Carry given noise to time 1; arguments as for `sample`.

        A `sampler` from `fixed_steps` takes the place of the points, the guidance and the solver.
        """
        coords = where if isinstance(where, PointGeometry | Tensor) else None
        if condition is not None and len(condition) != len(noise):
            raise ValueError(f"condition of shape {tuple(condition.shape)} is not for {len(noise)} samples")
        own = coords if isinstance(coords, Tensor) and coords.ndim == 3 else None

        def solve(x: Tensor, c: Tensor | None, at: Tensor | None) -> Flowed:
            if sampler is not None:
                return sampler(x, c)
            return integrate(self.velocity(c, coords if at is None else at, guidance), x, **solver)

        flowed = in_chunks(solve, chunk, noise, condition, own)
        fields = self._units(flowed.samples, self.denormalize)
        return Flowed(fields, flowed.nfe, flowed.times, flowed.trajectory)

    def fixed_steps(
        self,
        method: str = "euler",
        n_steps: int = 25,
        *,
        coords: PointGeometry | None = None,
        guidance: float = 1.0,
        power: float = 1.0,
        compile: bool = True,
    ) -> FixedSteps:
        """Make a sampler of fixed steps, compiled once and called often, for `transport(..., sampler=...)`.

        Args:
            method: as for `FixedSteps`, like `n_steps`, `power` and `compile`.
            n_steps: number of steps.
            coords: at points, the geometry that all samples share.
            guidance: see `velocity`.
            power: shorter steps at first.
            compile: compile a step with torch.compile, at its first call for each shape.
        """

        def v(x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
            return self.velocity(condition, coords, guidance)(x, t)

        return FixedSteps(v, method, n_steps, power=power, compile=compile)

    def reflow_pairs(
        self, n: int, where: Where | PointGeometry, *, seed: int | None = None, **options
    ) -> tuple[Tensor, Tensor]:
        """Draw fields together with the noise they came from: `loss(fields, ..., noise=noise)` reflows.

        Returns:
            The noise and the fields, in physical units; arguments as for `sample`.
        """
        noise = self.draw_noise(n, where, seed)
        return noise, self.transport(noise, where, **options).samples

    def log_prob(
        self,
        field: Tensor,
        where: Where | None = None,
        *,
        condition: Tensor | None = None,
        seed: int | torch.Generator | None = None,
        **options,
    ) -> LogProb:
        """Log density of fields in physical units.

        Args:
            field: on a grid or at points.
            where: the grid or the points; the grid of the field on the unit box when None.
            condition: as for `sample`.
            seed: of the probes.
            options: for `likelihood.log_prob`: `probes`, `method`, `n_steps`, `tolerance`, `differentiable`.

        Raises:
            ValueError: a shape does not fit, or the noise has no density there.
        """
        coords = where if isinstance(where, Tensor) else None
        generator = generator_of(seed, device_of(self))
        velocity = self.velocity(condition, coords)
        x = self._units(field, self.normalize)
        found = log_prob(velocity, x, self.noise, where, generator=generator, **options)
        per_channel = x[0].numel() // self.channels
        scale = per_channel * self.normalizer.output_std.log().sum()
        return LogProb(found.value - scale, found.standard_error, found.nfe)

    def _noise(self, where: Where, n: int, dtype: torch.dtype, generator) -> Tensor:
        return self.noise.sample(where, n, generator, channels=self.channels, dtype=dtype)

    def _where(self, x: Tensor, coords: Tensor | PointGeometry | None) -> Where:
        if not self.network.on_points:
            return tuple(x.shape[2:])
        if coords is None:
            raise ValueError("a flow at points needs the points: give coords, or a geometry")
        return coords.coords if isinstance(coords, PointGeometry) else coords

    def _units(self, x: Tensor, change) -> Tensor:
        axis = -1 if self.network.on_points else 1
        if x.ndim < 3 or x.shape[axis] != self.channels:
            layout = "(batch, point, channels)" if self.network.on_points else "(batch, channels, *space)"
            raise ValueError(f"fields are {layout} with channels={self.channels}, got shape {tuple(x.shape)}")
        return change(x.mT).mT if self.network.on_points else change(x)

    def _condition(self, condition: Tensor | None, x: Tensor) -> Tensor | None:
        """Bring a condition to the shape of a field."""
        if condition is None:
            if not self.condition_channels:
                return None
            if not self.dropout:
                raise ValueError(
                    f"this flow has condition_channels={self.condition_channels}: give a condition"
                )
            shape = list(x.shape)
            shape[-1 if self.network.on_points else 1] = self.condition_channels
            return x.new_zeros(shape)
        axis = -1 if self.network.on_points and condition.ndim > 2 else 1
        fits = condition.ndim in (2, x.ndim) and len(condition) == len(x)
        if not self.condition_channels or not fits or condition.shape[axis] != self.condition_channels:
            raise ValueError(
                f"the condition of a flow with condition_channels={self.condition_channels} has that many "
                f"channels for each of {len(x)} samples, got shape {tuple(condition.shape)}"
            )
        condition = condition.to(x)
        if condition.ndim == 2:
            if self.network.on_points:
                return condition[:, None].expand(-1, x.shape[1], -1)
            return condition.reshape(*condition.shape, *(1,) * (x.ndim - 2)).expand(-1, -1, *x.shape[2:])
        return condition

    def _network(self, x, t, condition, there, coords) -> Tensor:
        others = [] if condition is None else [condition]
        if self.targets:
            x = x / self.path.size(x, t)
        if there is not None:
            outer = x[..., :1] if self.network.on_points else x[:, :1]
            others.append(there.reshape(-1, *(1,) * (x.ndim - 1)).expand_as(outer))
        return self.network(beside(x, others, self.network.on_points), t[:, None], coords)

    def _velocity(self, x, t, condition, there, coords) -> Tensor:
        output = self._network(x, t, condition, there, coords)
        return self.path.velocity_across(output, x, t) if self.targets else output
