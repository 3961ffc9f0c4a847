"""What a model promises, read from what it was built with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import nn

from opflow.nn.representations import channels_of
from opflow.operators.symmetrize import Symmetrize


@final
@dataclass(frozen=True)
class Claims:
    """What a model promises.

    Attributes:
        group: name of the group that it commutes with, or None.
        in_kinds: how its input fields turn, None for scalars.
        out_kinds: how its output fields turn, likewise.
        translation: whether it commutes with translations of a periodic grid.
        alias_free: whether it is one operator on all grids, up to rounding.
    """

    group: str | None
    in_kinds: tuple[str, ...] | None
    out_kinds: tuple[str, ...] | None
    translation: bool
    alias_free: bool


def claims_of(model: nn.Module) -> Claims:
    """Read the claims of an operator.

    Example:
        >>> from opflow import FNO
        >>> claims_of(FNO((4, 4), 1, 1, 4, positional_embedding=None)).translation
        True
    """
    inner = model.model if isinstance(model, Symmetrize) else model
    arguments = _arguments(inner)
    periodic = arguments.get("periodic", True)
    periodic = periodic is True or (isinstance(periodic, Sequence) and all(periodic))
    unbounded = periodic and not arguments.get("domain_padding")
    return Claims(
        group=getattr(model, "group", arguments.get("group")),
        in_kinds=getattr(model, "in_kinds", arguments.get("in_kinds")),
        out_kinds=getattr(model, "out_kinds", arguments.get("out_kinds")),
        translation=arguments.get("positional_embedding", "unknown") is None and unbounded,
        alias_free=bool(arguments.get("project")),
    )


def channels_in(model: nn.Module, kinds: str | Sequence[str] | None, n_dim: int) -> int:
    """Return the number of input channels, from the model or from kinds of fields."""
    count = getattr(model, "in_channels", None)
    if count is None and kinds is not None and not isinstance(kinds, str):
        count = channels_of(kinds, n_dim)
    if count is None:
        raise ValueError(
            f"a {type(model).__name__} does not tell its in_channels: give in_kinds, one kind per field, or "
            "fields"
        )
    return count


def n_modes_of(model: nn.Module) -> tuple[int, ...]:
    """Return the modes that a model keeps per axis, () where it does not tell."""
    inner = model.model if isinstance(model, Symmetrize) else model
    return tuple(_arguments(inner).get("n_modes", ()))


def _arguments(model: nn.Module) -> dict[str, Any]:
    config = getattr(model, "config", None)
    if not isinstance(config, dict):
        return {}
    return config.get("arguments", config)  # a model of neuraloperator keeps its own in there
