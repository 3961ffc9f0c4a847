"""Weights that are assembled once for many calls."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from opflow.kernels.backend import is_eager


class Remembered:
    """What was made of some parameters last, as long as they hold the same numbers.

    Sampling calls a layer many times with the same parameters, and to assemble a small kernel from them takes
    as long as to convolve with it. The parameters are compared by value: however they were changed, nothing
    stale is used. Only on a CPU and where no gradients are recorded; else everything is made anew.

    Example:
        >>> made, weight = Remembered(), torch.ones(2)
        >>> with torch.no_grad():
        ...     a, b = (made(lambda: 2 * weight, weight) for _ in range(2))
        ...     _ = weight.data.add_(1)
        ...     c = made(lambda: 2 * weight, weight)
        >>> a is b, c.tolist()
        (True, [4.0, 4.0])
    """

    def __init__(self):
        self._last: tuple[list[Tensor], Any] | None = None

    def __call__(self, make: Callable[[], Any], *parameters: Tensor) -> Any:
        """Return what `make` returns, or returned for the same parameters."""
        keeps = not torch.is_grad_enabled() and parameters[0].device.type == "cpu" and is_eager(*parameters)
        if keeps and self._last and all(map(_same, parameters, self._last[0])):
            return self._last[1]
        # Under autocast too: the determinant of a rounded matrix is another.
        with torch.autocast(parameters[0].device.type, enabled=False):
            made = make()
        if keeps:
            self._last = [p.detach().clone() for p in parameters], made
        return made

    def __deepcopy__(self, memo: dict) -> "Remembered":
        """Forget: tensors with a history cannot be copied, and what is made is made again."""
        return Remembered()


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)


def weights_of(module: nn.Module) -> list[Tensor]:
    """Return the parameters and buffers of a module and of those in it, without asking for their names.

    Example:
        >>> [tuple(t.shape) for t in weights_of(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))]
        [(3, 2), (3,), (3,), (3,), (3,), (3,), ()]
    """
    own = (*module._parameters.values(), *module._buffers.values())
    found = [tensor for tensor in own if tensor is not None]
    for part in module._modules.values():
        found += [] if part is None else weights_of(part)
    return found
