"""What a model promises, read from what it was built with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from torch import nn

from opflow.nn.representations import channels_of
from opflow.operators.foreign import NeuralopModel
from opflow.operators.local_sfno import LocalSFNO
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
        rotation: whether it commutes with rotations about the axis of the sphere.
    """

    group: str | None
    in_kinds: tuple[str, ...] | None
    out_kinds: tuple[str, ...] | None
    translation: bool
    alias_free: bool
    rotation: bool


def claims_of(model: nn.Module) -> Claims:
    """Read the claims of an operator.

    Example:
        >>> from opflow import FNO
        >>> claims_of(FNO((4, 4), 1, 1, 4, positional_embedding=None)).translation
        True
    """
    arguments = arguments_of(model)
    sphere = takes_sphere(model)
    periodic = arguments.get("periodic", True)
    periodic = periodic is True or (isinstance(periodic, Sequence) and all(periodic))
    unbounded = periodic and not arguments.get("domain_padding")
    blind = arguments.get("positional_embedding", "unknown") is None
    return Claims(
        group=getattr(model, "group", arguments.get("group")),
        in_kinds=getattr(model, "in_kinds", arguments.get("in_kinds")),
        out_kinds=getattr(model, "out_kinds", arguments.get("out_kinds")),
        translation=blind and unbounded and not sphere,
        alias_free=bool(arguments.get("project")),
        rotation=sphere and (blind or arguments.get("positional_embedding") == "latitude"),
    )


def takes_sphere(model: nn.Module) -> bool:
    """Whether the fields of a model are on the sphere.

    Example:
        >>> from opflow import FNO
        >>> takes_sphere(FNO((4, 4), 1, 1, 4))
        False
    """
    inner = _inner(model)
    foreign = isinstance(inner, NeuralopModel) and inner.config["name"] in ("SFNO", "LocalSFNO")
    return foreign or isinstance(inner, LocalSFNO)


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
    """Return the modes that a model keeps per axis, or of a sphere its degrees, () where it does not tell."""
    n_modes = arguments_of(model).get("n_modes", ())
    return (n_modes,) if isinstance(n_modes, int) else tuple(n_modes)


def arguments_of(model: nn.Module) -> dict[str, Any]:
    """Return what a model was built with, without what wraps it."""
    config = getattr(_inner(model), "config", None)
    if not isinstance(config, dict):
        return {}
    return config.get("arguments", config)  # a model of neuraloperator keeps its own in there


def _inner(model: nn.Module) -> nn.Module:
    return model.model if isinstance(model, Symmetrize) else model
