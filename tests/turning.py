"""Fields turned by one element of a point group."""

from collections.abc import Sequence

from torch import Tensor

from opflow.nn.grid_turns import GridTurn


def turn_field(x: Tensor, matrix: Tensor, kinds: Sequence[str], about: str = "middle") -> Tensor:
    """Turn a field by one element; see `GridTurn`."""
    return GridTurn(matrix, kinds, about)(x)
