"""Failure of a flow, found and named."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from opflow.flows.multiscale import Multiscale

_TOLERANCE = 1e-3  # error of a round trip that makes samples worthless


def require_invertible(body: "Multiscale", dtype: torch.dtype) -> None:
    """Refuse to invert causal convolutions that amplify rounding errors of a dtype beyond 0.001.

    Raises:
        FloatingPointError: names the worst layer, its growth and the remedy, or weights that are not finite.
    """
    broken = _broken(body)
    if broken:  # the solve would refuse them too, with no word of the remedy
        raise FloatingPointError(f"a sample is not finite: {broken}. To avoid it, {_SLOWER}")
    limit = _TOLERANCE / torch.finfo(dtype).eps
    worst, where = worst_growth(body)
    if not worst <= limit:
        raise FloatingPointError(
            f"the inverse convolution at {where} amplifies rounding errors {worst:.2g}-fold, beyond "
            f"{limit:.2g}, what {dtype} can bear. To avoid it, {_REMEDY}"
        )


def require_finite(values: Tensor, what: str, body: "Multiscale | None" = None) -> None:
    """Refuse values that are not finite, with the layer at fault where there is one.

    Raises:
        ValueError: without a body: the values were given.
        FloatingPointError: with a body: they were computed.
    """
    if bool(torch.isfinite(values).all()):
        return
    if body is None:
        bad = int((~torch.isfinite(values)).sum())
        raise ValueError(f"{what} of which {bad} values are not finite; remove them")
    cause, remedy = _broken(body) or "values overflow", _SLOWER
    if not _broken(body):
        worst, where = worst_growth(body)
        if where:
            cause, remedy = f"the inverse convolution at {where} amplifies {worst:.2g}-fold", _REMEDY
    raise FloatingPointError(f"{what} is not finite: {cause}. To avoid it, {remedy}")


def worst_growth(body: "Multiscale") -> tuple[float, str]:
    """Return the largest growth of a causal convolution that nothing bounds, and its place; 1 for none."""
    worst, where = 1.0, ""
    for name, weight, grid in body.causal_weights():
        if weight.gain_bound is not None and weight.gain_bound < 1:
            continue
        growth = weight.growth(grid)
        growth = growth if growth == growth else math.inf  # overflow of both signs
        if growth > worst:
            worst, where = growth, name
    return worst, where


def _broken(body: "Multiscale") -> str:
    """Say which parameters are not finite, if any."""
    names = [name for name, p in body.named_parameters() if not bool(torch.isfinite(p).all())]
    return f"{len(names)} parameters are not finite, {names[0]} among them" if names else ""


_SLOWER = "lower the learning rate, warm it up, clip gradients, and go back to weights from before"
_REMEDY = f"build the flow with gain_bound=0.9, which keeps inverses bounded in training, or {_SLOWER}"
