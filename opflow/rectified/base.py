"""What every rectified flow is: a velocity network with the units of the fields, seeds and files."""

import abc
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from opflow.nn.generative import Generative
from opflow.nn.moments import Moments
from opflow.nn.normalize import Normalizer


class RectifiedFlow(Generative):
    """A generative model of fields by the velocity of an ordinary differential equation.

    A subclass sets `config`, its constructor arguments, JSON values only, and writes `loss`, `field_of` and
    `pair_loss`.

    Args:
        channels: channels of the field.
    """

    def __init__(self, channels: int):
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        self.channels = channels
        self.normalizer = Normalizer(channels, channels)

    @abc.abstractmethod
    def loss(self, *batch: Tensor) -> Tensor:
        """Return the scalar loss of a batch."""

    def fit_normalizer(self, fields: Tensor) -> None:
        """Take mean and standard deviation of each channel from fields, channels first, in physical units.

        At points, `(batch, point, channel)`, pass `fields.mT`.
        """
        if fields.ndim < 2 or fields.shape[1] != self.channels:
            raise ValueError(
                f"{type(self).__name__} was built for channels={self.channels}, got fields of shape "
                f"{tuple(fields.shape)}"
            )
        self._fit_to([(fields, None)])

    @abc.abstractmethod
    def field_of(self, x: Tensor, y: Tensor) -> Tensor:
        """Return which member of a pair of training data is the field."""

    def fit_statistics(self, pairs: Iterable[tuple[Tensor, Tensor, Tensor | None]]) -> None:
        """Take mean and standard deviation of each channel of the fields of pairs, unless they are set."""
        if not self.normalizer.fitted:
            self._fit_to((self.field_of(x, y), weights) for x, y, weights in pairs)

    def _fit_to(self, batches: Iterable[tuple[Tensor, Tensor | None]]) -> None:
        moments = Moments()
        for fields, weights in batches:
            moments.add(fields, weights)
        mean, std = moments.mean.tolist(), moments.std.tolist()
        self.normalizer.set(mean, std, mean, std)

    def normalize(self, x: Tensor) -> Tensor:
        """Bring fields, channels first, to mean zero and variance one."""
        return self.normalizer.normalize(x)

    def denormalize(self, x: Tensor) -> Tensor:
        """Bring fields, channels first, to physical units."""
        return self.normalizer.denormalize(x, torch.zeros_like(x))


class LabelledFlow(RectifiedFlow):
    """A rectified flow between fields and their labels, trained on pairs of the two."""

    def field_of(self, x: Tensor, y: Tensor) -> Tensor:
        """Return x: pairs are of a field and its labels."""
        return x

    def pair_loss(
        self, x: Tensor, y: Tensor, coords: Tensor | None = None, weights: Tensor | None = None
    ) -> Tensor:
        """Return the loss of fields x and labels y, `(batch, 1, *space)` or `(batch, 1)` in any dtype."""
        return self.loss(x, y[:, 0].round().long())


def generator_of(seed: int | torch.Generator | None, device: torch.device) -> torch.Generator:
    """Return a generator on a device: one that is given, or a new one from a seed, at random when None.

    Raises:
        ValueError: the generator draws on another device.

    Example:
        >>> generator_of(3, torch.device("cpu")).initial_seed()
        3
    """
    if isinstance(seed, torch.Generator):
        if seed.device.type != device.type:
            raise ValueError(f"the generator draws on {seed.device}, the model is on {device}")
        return seed
    generator = torch.Generator(device)
    if seed is None:
        generator.manual_seed(int(torch.randint(2**62, ())))  # so that torch.manual_seed reaches it
    else:
        generator.manual_seed(seed)
    return generator


def require_skew(skew: float) -> None:
    """Refuse a skew of times that is not positive."""
    if not skew > 0:
        raise ValueError(f"skew={skew} must be positive: times are drawn as u ** skew")


def device_of(module: nn.Module) -> torch.device:
    """Return the device of the parameters."""
    return next(module.parameters()).device
