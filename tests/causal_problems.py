"""Problems for causal convolutions: kernels well away from singular, and the matrix by its definition."""

from itertools import product
from math import prod

import torch

# batch, channels, groups, kernel, space, reversed axes
PROBLEMS = {
    "line": (2, 3, 1, (3,), (7,), None),
    "line-grouped-reversed": (3, 4, 2, (2,), (6,), ((True,), (False,))),
    "wide": (3, 2, 1, (3, 3), (4, 7), None),
    "tall-2x3": (1, 3, 1, (2, 3), (8, 3), (True, False)),
    "four-corners": (5, 8, 4, (3, 3), (5, 4), ((False, False), (True, False), (False, True), (True, True))),
    "one-tap": (2, 3, 1, (1, 1), (3, 2), None),
    "one-row": (2, 2, 1, (1, 3), (1, 5), None),
    "one-column-4x1": (2, 2, 1, (4, 1), (5, 1), (False, True)),
    "5x5": (1, 2, 1, (5, 5), (6, 5), (True, True)),
    "7x6": (2, 1, 1, (7, 6), (7, 9), None),
    "depthwise": (2, 3, 3, (2, 2), (4, 4), None),
    "volume": (2, 2, 1, (2, 3, 2), (3, 4, 3), (False, True, False)),
    "volume-grouped": (1, 4, 2, (3, 2, 2), (3, 3, 2), ((True, True, True), (False, False, True))),
}


def problem(name, dtype=torch.float64, scale=0.1):
    """Return a right-hand side, a kernel whose corner is neither triangular nor the identity, and options."""
    batch, channels, groups, kernel, space, reverse = PROBLEMS[name]
    torch.manual_seed(0)
    c = channels // groups
    weight = scale * torch.randn(channels, c, *kernel, dtype=torch.float64)
    corner = torch.eye(c).roll(1, 0).double() + 0.2 * torch.randn(groups, c, c, dtype=torch.float64)
    weight[(..., *(-1,) * len(kernel))] = corner.flatten(0, 1)
    y = torch.randn(batch, channels, *space, dtype=torch.float64)
    return y.to(dtype), weight.to(dtype), {"groups": groups, "reverse": reverse}


def dense(weight, space, groups, reverse):
    """Return the matrix of `causal_conv` on flattened fields, entry by entry from the definition."""
    channels, c, *kernel = weight.shape
    matrix = torch.zeros(channels, *space, channels, *space, dtype=weight.dtype)
    for o in range(channels):
        group = o // c
        turned = reverse or (False,) * len(space)
        if isinstance(turned[0], tuple):
            turned = turned[group]
        for i, back in product(product(*map(range, space)), product(*map(range, kernel))):
            j = tuple(at + a if t else at - a for at, a, t in zip(i, back, turned))
            if all(0 <= at < n for at, n in zip(j, space)):
                tap = tuple(k - 1 - a for k, a in zip(kernel, back))
                for s in range(c):
                    matrix[(o, *i, group * c + s, *j)] = weight[(o, s, *tap)]
    size = channels * prod(space)
    return matrix.view(size, size)
