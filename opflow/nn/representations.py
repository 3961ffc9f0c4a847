r"""How fields change when space is turned or mirrored.

A turn is an orthogonal matrix R over the first space axes (of fields on a grid: a signed permutation). It
moves a field as :math:`(R u)(x) = \rho(R) u(R^{-1} x)`, where :math:`\rho(R)` is 1 for a scalar,
:math:`\det R` for a pseudoscalar such as the vorticity of a plane flow, and R itself for a vector.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

KINDS = ("scalar", "pseudoscalar", "vector")

_QUARTER = torch.tensor([[0, -1], [1, 0]])
_MIRROR = torch.tensor([[-1, 0], [0, 1]])
_TURNS = tuple(torch.matrix_power(_QUARTER, k) for k in range(4))

GROUPS: dict[str, tuple[Tensor, ...]] = {
    "p4": _TURNS,
    "p4m": (*_TURNS, *(turn @ _MIRROR for turn in _TURNS)),
}
"""The point groups of a square grid as matrices over (x, y): quarter turns from identity, then mirrored."""


def channels_of(kinds: Sequence[str], n_dim: int = 2) -> int:
    """Return how many channels fields of these kinds have: one each, `n_dim` for a vector.

    Example:
        >>> channels_of(["scalar", "vector"])
        3
    """
    return sum(n_dim if kind == "vector" else 1 for kind in kinds)


def resolve_kinds(
    name: str, kinds: str | Sequence[str] | None, channels: int, n_dim: int = 2
) -> tuple[str, ...]:
    """Return one kind per field: a single name counts for all channels, None stands for scalars.

    Args:
        name: what the argument is called, for the message.
        kinds: kinds as a user gives them.
        channels: number of channels they must add up to.
        n_dim: components of a vector.

    Raises:
        ValueError: a kind is unknown, or the kinds do not add up to the channels.

    Example:
        >>> resolve_kinds("in_kinds", "vector", 4)
        ('vector', 'vector')
    """
    if kinds is None or isinstance(kinds, str):
        kind = kinds or "scalar"
        kinds = (kind,) * (channels // (n_dim if kind == "vector" else 1))
    unknown = sorted(set(kinds) - set(KINDS))
    if unknown:
        listed = ", ".join(map(repr, unknown))
        raise ValueError(f"{name}: unknown kind {listed}; there are {', '.join(KINDS)}")
    if channels_of(kinds, n_dim) != channels:
        raise ValueError(
            f"{name}={tuple(kinds)} make {channels_of(kinds, n_dim)} channels, a vector counting {n_dim}, "
            f"but there are {channels}"
        )
    return tuple(kinds)


def channel_matrix(kinds: Sequence[str], turn: Tensor) -> Tensor:
    r"""Return the matrix :math:`\rho(R)` on channels, in the dtype of R; `turn` may have batch axes in front.

    Example:
        >>> channel_matrix(["pseudoscalar", "vector"], torch.tensor([[-1.0, 0.0], [0.0, 1.0]]))
        tensor([[-1.,  0.,  0.],
                [ 0., -1.,  0.],
                [ 0.,  0.,  1.]])
    """
    n_dim = turn.shape[-1]
    matrix = turn.new_zeros(*turn.shape[:-2], *(channels_of(kinds, n_dim),) * 2)
    parity = torch.linalg.det(turn if turn.is_floating_point() else turn.double()).round().to(turn.dtype)
    first = 0
    for kind in kinds:
        size = n_dim if kind == "vector" else 1
        place = (..., slice(first, first + size), slice(first, first + size))
        if kind == "vector":
            matrix[place] = turn
        else:
            matrix[place] = (parity if kind == "pseudoscalar" else torch.ones_like(parity))[..., None, None]
        first += size
    return matrix
