"""Numbers as waves: coordinates or times, told to a network at many scales."""

import torch
from torch import Tensor

_SCALE, _LONGEST = 128.0, 10_000.0  # as published for MINO: coordinates are of order one


def position_code(coords: Tensor, channels: int) -> Tensor:
    r"""Return sines and cosines of each coordinate at geometrically spaced frequencies.

    With :math:`s = 2 \lfloor C / 2d \rfloor` channels for each of the d coordinates,
    :math:`\sin(\omega_j x), \cos(\omega_j x)` with :math:`\omega_j = 128 \cdot 10^{-8j/s}`,
    :math:`j = 0, \dots, s/2 - 1`; channels that are left over are zero.

    Args:
        coords: `(..., d)`, of order one.
        channels: C, at least 2 d.

    Returns:
        `(..., channels)`: first all sines of the first coordinate, then its cosines, then those of the next.

    Source: Vaswani et al., Attention Is All You Need, 2017, section 3.5; scaled as in Shi et al.,
    Mesh-Informed Neural Operator, 2025.

    Example:
        >>> position_code(torch.zeros(3, 2), 9)[0].tolist()
        [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0]
    """
    n_dim = coords.shape[-1]
    half = channels // (2 * n_dim)
    exponents = torch.arange(half, dtype=coords.dtype, device=coords.device) / half
    angles = coords[..., None] * (_SCALE * _LONGEST**-exponents)
    code = torch.cat((angles.sin(), angles.cos()), -1).flatten(-2)
    return torch.nn.functional.pad(code, (0, channels - 2 * n_dim * half))
