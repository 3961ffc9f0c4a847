"""Activations by name, real and complex."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "tanh": torch.tanh,
    "identity": torch.clone,
}


def activation_name(activation: str | Callable[[Tensor], Tensor]) -> str:
    """Return the name of an activation given by name or as a function of torch.

    Raises:
        ValueError: it is not one of the named ones, so that it could not be saved with a model.

    Example:
        >>> activation_name(torch.nn.functional.silu)
        'silu'
    """
    name = activation if isinstance(activation, str) else getattr(activation, "__name__", repr(activation))
    if name not in ACTIVATIONS:
        raise ValueError(f"non_linearity={name!r} is not one of {', '.join(ACTIVATIONS)}")
    return name


class SplitActivation(torch.nn.Module):
    """Apply a real activation to the real and the imaginary part of a complex field."""

    def __init__(self, activation: Callable[[Tensor], Tensor]):
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Activate `x`, complex of any shape."""
        return torch.complex(self.activation(x.real), self.activation(x.imag))
