"""Update rules, learning-rate schedules and the moving average of the weights."""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from opflow.training.config import TrainConfig

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": lambda parameters, **options: torch.optim.SGD(parameters, momentum=0.9, nesterov=True, **options),
}


def _onecycle(progress: float) -> float:
    if progress < 0.3:
        return 1 / 25 + (1 - 1 / 25) * 0.5 * (1 - math.cos(math.pi * progress / 0.3))
    return 0.5 * (1 + math.cos(math.pi * (progress - 0.3) / 0.7))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "onecycle": _onecycle,
    "step": lambda progress: 0.5 ** int(5 * progress),
    "constant": lambda progress: 1.0,
}
"""Learning rate as a share of the largest one, against the progress of the run in [0, 1].

`cosine` falls to zero, `step` halves after every fifth of the run, `onecycle` rises from 1/25 during the
first 30 % and falls to zero (Smith and Topin 2018).
"""


def learning_rate(config: TrainConfig, progress: float) -> float:
    """Return the learning rate at `progress` in [0, 1], warm-up included.

    Example:
        >>> config = TrainConfig(learning_rate=1.0, schedule="cosine", warmup=0.1)
        >>> [round(learning_rate(config, p), 3) for p in (0.05, 0.1, 0.55, 1.0)]
        [0.5, 1.0, 0.5, 0.0]
    """
    warmup = 0.0 if config.schedule == "onecycle" else config.warmup
    if progress < warmup:
        return config.learning_rate * progress / warmup
    return config.learning_rate * SCHEDULES[config.schedule]((progress - warmup) / (1 - warmup))


def make_optimizer(config: TrainConfig, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Return the optimiser of a configuration, fused where torch can (real weights on CPU or CUDA)."""
    parameters = [p for p in parameters if p.requires_grad]
    if not parameters:
        raise ValueError("the model has no parameter to train: all of them have requires_grad=False")
    # One pass over all weights instead of a Python loop over tensors: 5 to 10 times faster for small models.
    fused = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
    return OPTIMIZERS[config.optimizer](
        parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=fused or None
    )


class EMA:
    r"""Exponential moving average of weights, with warm-up.

    After step `t` (from 0) :math:`\bar w \leftarrow d \bar w + (1 - d) w` with
    :math:`d = \min(\mathrm{decay}, (1 + t) / (10 + t))`, so that the first weights are soon forgotten.

    Example:
        >>> weight = torch.zeros(1)
        >>> ema = EMA([weight], decay=0.99)
        >>> _ = weight.fill_(1.0)
        >>> ema.update(step=0)
        >>> with ema.applied():
        ...     print(weight)
        tensor([0.9000])
        >>> weight
        tensor([1.])
    """

    def __init__(self, parameters: Iterable[Tensor], decay: float):
        self.parameters = list(parameters)
        self.averages = [p.detach().clone() for p in self.parameters]
        self.decay = decay

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the weights after optimiser step `step`."""
        torch._foreach_lerp_(self.averages, self.parameters, 1 - min(self.decay, (1 + step) / (10 + step)))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averages in the place of the weights for the time of a `with` block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self.parameters, self.averages):
            kept = parameter.clone()
            parameter.copy_(average)
            average.copy_(kept)
