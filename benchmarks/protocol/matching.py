"""Widths at which models of different make have the same number of parameters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

from torch import nn

TOLERANCE = 0.05


def count_parameters(model: nn.Module) -> int:
    """Return the number of trained reals; a complex weight counts as two.

    >>> count_parameters(nn.Linear(3, 4))
    16
    """
    return sum(p.numel() * (1 + p.is_complex()) for p in model.parameters() if p.requires_grad)


def match(builders: Mapping[str, Callable[[int], nn.Module]], width: int) -> dict[str, int]:
    """Return a width for each model, such that all have as many parameters as the first within 5 %.

    The first stays as near to `width` as the others allow, whose widths are whole numbers too. Sizes must
    grow with the width.

    Args:
        builders: for each model a function of its width.
        width: width of the first model that is aimed at.

    Raises:
        ValueError: no width of the first model up to a quarter from `width` can be matched.

    >>> match({"a": lambda w: nn.Linear(w, w), "b": lambda w: nn.Linear(2 * w, 2 * w)}, 30)
    {'a': 30, 'b': 15}
    """
    sizes = {
        name: cache(lambda w, build=build: count_parameters(build(w))) for name, build in builders.items()
    }
    first, *others = sizes
    for reference in sorted(range(math.ceil(0.75 * width), 5 * width // 4 + 1), key=lambda w: abs(w - width)):
        target = sizes[first](reference)
        widths = {first: reference, **{name: _nearest(sizes[name], target) for name in others}}
        if all(abs(sizes[name](w) / target - 1) <= TOLERANCE for name, w in widths.items()):
            return widths
    raise ValueError(
        f"no width of {first} near {width} gives {', '.join(others)} the same number of parameters within "
        f"{100 * TOLERANCE:g} %: at {width} they have {sizes[first](width):,} and "
        + ", ".join(f"{sizes[name](_nearest(sizes[name], sizes[first](width))):,}" for name in others)
        + "; name a greater width"
    )


def _nearest(size: Callable[[int], int], target: int) -> int:
    """Return the width whose size is nearest to `target` in proportion, by bisection."""
    high = 4
    while size(high) < target:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size(middle) < target else (low, middle)
    return min((low, high), key=lambda w: abs(math.log(size(w) / target)))
