"""What every flow is: a density that can be evaluated and sampled, from fields to standard normal noise."""

import abc
import math
from typing import ClassVar

import torch
from torch import Generator, Tensor

from opflow.flows.conditions import as_batch, from_pair
from opflow.flows.distribution import FlowDistribution
from opflow.flows.multiscale import Multiscale
from opflow.flows.stability import require_finite, require_invertible
from opflow.kernels.backend import is_eager
from opflow.nn.generative import Generative
from opflow.nn.invertible import Bijection


class Flow(Bijection, Generative):
    """A distribution of fields `(channels, rows, columns)`, as a bijection onto standard normal noise.

    A subclass sets `config`, its constructor arguments, JSON values only, and gives the bijection between its
    data and the space of `body`.

    Args:
        body: bijection between normalised fields and noise.
        door: bijection between the data and normalised fields.
        shape: `(channels, rows, columns)`.
        condition: number of classes, shape of a vector or field, or None.
    """

    loss_name: ClassVar[str]

    def __init__(
        self,
        body: Multiscale,
        door: Bijection,
        shape: tuple[int, ...],
        condition: int | tuple[int, ...] | None,
    ):
        super().__init__()
        self.door = door
        self.body = body
        self.shape = shape
        self.condition = condition

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to noise `(batch, channels * rows * columns)`, with log-determinants in float64."""
        self._check(x)
        y, door = self.door(x)
        z, body = self.body(y, as_batch(cond, self.condition, len(x), self._like))
        return z, body + door

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map noise to data, with log-determinants in float64."""
        if z.ndim != 2 or z.shape[1] != math.prod(self.shape):
            raise ValueError(
                f"{type(self).__name__} decodes noise of shape (batch, {math.prod(self.shape)}), got "
                f"{tuple(z.shape)}"
            )
        y, body = self.body.inverse(z, as_batch(cond, self.condition, len(z), self._like))
        x, door = self.door.inverse(y)
        return x, body + door

    def encode(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the noise `(batch, channels * rows * columns)` of data."""
        return self(x, cond)[0]

    def decode(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the data of noise; the inverse of `encode`."""
        return self.inverse(z, cond)[0]

    def log_prob(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the logarithm of the density of each sample, in nats.

        Args:
            x: `(batch, channels, rows, columns)`, floating point.
            cond: labels `(batch,)`, vectors `(batch, d)` or fields `(batch, c, rows, columns)`; one without a
                batch axis goes with all samples.

        Returns:
            `(batch,)`, the dtype of x.

        Raises:
            TypeError: integers, which have probabilities instead; another precision than that of the flow.
            ValueError: shapes do not fit, or a condition is missing or not expected.
            FloatingPointError: the density is not finite; the message names the layer and the remedy.
        """
        return self._log_prob(x, cond).to(x.dtype)

    def _log_prob(self, x: Tensor, cond: Tensor | None) -> Tensor:
        z, logdet = self(x, cond)
        squares = z.square().sum(1, dtype=logdet.dtype)
        log_prob = logdet - 0.5 * (squares + z.shape[1] * math.log(2 * math.pi))
        if is_eager(log_prob) and not bool(torch.isfinite(log_prob).all()):
            require_finite(x, "log_prob was given data")
            require_finite(log_prob, "the log-density", self.body)
        return log_prob

    @torch.no_grad()
    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        cond: Tensor | None = None,
        *,
        batch_size: int = 256,
        generator: Generator | None = None,
        progress: bool | None = None,
    ) -> Tensor:
        """Draw samples.

        Args:
            n: number of samples.
            temperature: factor on the noise of all levels; below 1 for samples nearer to the mode.
            cond: condition of each sample, or one without a batch axis for all.
            batch_size: samples that are decoded at once.
            generator: source of the noise; that of torch by default. A seeded one gives the same samples.
            progress: show a progress bar; by default in a terminal, when there are several batches.

        Returns:
            `(n, channels, rows, columns)`.

        Raises:
            ValueError: a number or temperature below zero, or a condition that does not fit.
            FloatingPointError: samples are not finite, or a layer amplifies rounding errors beyond use; the
                message names the layer and the remedy.
        """
        from tqdm import tqdm

        if not temperature >= 0:
            raise ValueError(f"temperature must not be negative, got {temperature}")
        if n < 0:
            raise ValueError(f"the number of samples must not be negative, got {n}")
        like = self._like
        cond = as_batch(cond, self.condition, n, like)
        require_invertible(self.body, like.dtype)
        device = like.device if generator is None else generator.device
        batches = []
        hidden = not progress if progress is not None else None if n > batch_size else True
        with tqdm(total=n, desc="samples", unit="sample", disable=hidden) as bar:
            for start in range(0, n, batch_size):
                stop = min(start + batch_size, n)
                size = (stop - start, math.prod(self.shape))
                z = torch.randn(size, generator=generator, device=device, dtype=like.dtype).to(like.device)
                batches.append(self.decode(temperature * z, None if cond is None else cond[start:stop]))
                bar.update(stop - start)
        samples = torch.cat(batches) if batches else like.new_empty(0, *self.shape)
        require_finite(samples, "a sample", self.body)
        return samples

    def distribution(self, cond: Tensor | None = None) -> FlowDistribution:
        """Return the distribution, for a condition if the flow was built with one.

        Its batch shape is that of `cond`: empty for none or one without a batch axis.
        """
        return FlowDistribution(self, cond)

    @abc.abstractmethod
    def losses(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss `(batch,)` of each sample y of pairs, as `loss_name` says, under conditions x."""

    def pair_loss(
        self, x: Tensor, y: Tensor, coords: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Return the mean of `losses`."""
        return self.losses(x, y).mean()

    def condition_of(self, x: Tensor) -> Tensor | None:
        """Return the condition that the first members of pairs are, None for a flow without."""
        return from_pair(x, self.condition)

    @property
    def _like(self) -> Tensor:
        """A parameter, for device and dtype."""
        return next(self.body.parameters())

    def _check(self, x: Tensor) -> None:
        name = type(self).__name__
        if not x.is_floating_point():
            raise TypeError(
                f"{name} has a density for floating-point data, got {x.dtype}: integers go to bits_per_dim "
                "of an ImageFlow, other data through .float()"
            )
        if x.dtype != self._like.dtype:
            raise TypeError(
                f"{name} has weights in {self._like.dtype}, got data in {x.dtype}: convert the data with "
                ".to(dtype) or the flow with .double() or .float()"
            )
        if x.ndim != 4 or tuple(x.shape[1:]) != self.shape:
            raise ValueError(
                f"{name} was built for shape={self.shape}, got a tensor of shape {tuple(x.shape)}; expected "
                "(batch, channels, rows, columns)"
            )
