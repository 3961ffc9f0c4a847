"""Weights from the published G-FNO (divelab/AIRS, OpenPDE/G-FNO)."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from opflow.operators.gfno import GFNO

_GROUPS = {4: "p4", 8: "p4m"}
_PIECES = ("00_modes", "y0_modes", "yposx_modes")


def from_gfno(state_dict: Mapping[str, Any]) -> GFNO:
    """Build our `GFNO` from the state dict of the published `GFNO2d`, the same function.

    Sizes, group and the positional embedding are read from names and shapes. The published model takes
    `(batch, y, x, step)`, ours the same axes as `(batch, step, y, x)`, and calls every channel a scalar.

    Args:
        state_dict: `torch.load(path, weights_only=True)`, arrays or tensors by parameter name.

    Raises:
        ValueError: a tensor is unknown, missing or of the wrong shape.

    Example:
        >>> from_gfno({"p.W": torch.zeros(3, 1, 2, 1, 1)})
        Traceback (most recent call last):
            ...
        ValueError: this is not the state dict of a published GFNO2d: p.B is missing
    """
    state = {name: torch.as_tensor(value) for name, value in state_dict.items()}
    # The bias of the last map is registered under two names.
    state.pop("q.mlp2.bias", None)
    lifting = _taken(state, "p.W")
    ...
