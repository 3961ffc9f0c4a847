"""Parts of a flow as JSON: what `config.json` says of a path, a noise, a coupling or a codec."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, cast

Part = TypeVar("Part")


def describe(part: Any) -> dict[str, Any]:
    """Return the class and the fields of a frozen dataclass: `{"class": name, field: value, ...}`.

    Example:
        >>> from opflow.rectified import Straight
        >>> describe(Straight(sigma=0.1))
        {'class': 'Straight', 'sigma': 0.1, 'blur': 0.0}
    """
    return {"class": type(part).__name__, **dataclasses.asdict(part)}


def built(kind: type[Part], part: Part | Mapping[str, Any]) -> Part:
    """Return a part as it is, or build it from its description.

    Args:
        kind: the base class of the parts that may be meant.
        part: a part, or what `describe` returned for one.

    Raises:
        ValueError: there is no such class, or it does not take these arguments.

    Example:
        >>> from opflow.rectified.paths import Path
        >>> built(Path, {"class": "Straight", "sigma": 0.5})
        Straight(sigma=0.5, blur=0.0)
    """
    if isinstance(part, kind):
        return part
    known = {k.__name__: k for k in _below(kind) if dataclasses.is_dataclass(k)}
    name = part.get("class") if isinstance(part, Mapping) else type(part).__name__
    if not isinstance(part, Mapping) or not isinstance(name, str) or name not in known:
        raise ValueError(f"{name!r} is no {kind.__name__}; there are {', '.join(sorted(known))}")
    try:
        return cast(
            Part, known[name](**{key: _tuples(value) for key, value in part.items() if key != "class"})
        )
    except TypeError as error:
        raise ValueError(f"a {name} cannot be built from {dict(part)}: {error}") from error


def _below(kind: type) -> Iterator[type]:
    for k in kind.__subclasses__():
        yield k
        yield from _below(k)


def _tuples(value: Any) -> Any:
    """JSON has lists only, and the parts are hashable."""
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value
