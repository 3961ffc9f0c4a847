"""Constructor arguments as a model writes them down."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor


def arguments(local: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a constructor from its `locals()`, arrays and numbers of NumPy as plain ones.

    Example:
        >>> arguments({"self": None, "n_modes": (np.int64(4), 4), "domain_length": np.array([1.0, 2.0])})
        {'n_modes': (4, 4), 'domain_length': [1.0, 2.0]}
    """
    return {name: _plain(value) for name, value in local.items() if name not in ("self", "__class__")}


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic | Tensor):
        return value.tolist()
    if type(value) in (tuple, list):
        return type(value)(map(_plain, value))
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    return value
