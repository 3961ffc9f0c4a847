"""The convolutional network of the Deep Conjugate Direction Method."""

from __future__ import annotations

from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
_POOLS = {2: F.avg_pool2d, 3: F.avg_pool3d}
_FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}  # twice as fast on a CPU
_LINEAR = {2: "bilinear", 3: "trilinear"}
_COARSEST = 4  # cells along the shortest axis of the coarsest grid, where the levels are not given


@final
class DCDMNetwork(nn.Module):
    r"""Residual on a grid to search direction: a U-shaped network of $3^d$ convolutions.

    A linear convolution opens channels, ReLU convolutions and residual pairs
    $x \leftarrow x + \sigma(W_2\,\sigma(W_1 x))$ follow, half of them on a grid that average pooling made
    twice as coarse; what comes back up is added to what went down, and a linear map closes the channels.

    The defaults are the published network for $64^3$. Four arguments are additions of this package. With
    `bias=False` it is positively homogeneous, $f(\lambda r) = \lambda f(r)$ for $\lambda > 0$, so the size of
    the grid, on which the entries of a normalised residual depend, does not matter. With `levels=None` it
    goes down as far as the grid allows, with the *same* weights on all levels, so that a larger grid gets one
    level more. With `smooth=True` it interpolates linearly on the way up. With `odd=True` it is
    $\frac12 (f(r) - f(-r))$.

    Args:
        ndim: axes of the grid, 2 or 3.
        width: channels.
        pairs: residual pairs before the pooling, on the coarsest grid, and after it.
        levels: how often it pools, with weights of their own for each grid; None for as often as the grid
            allows, with shared weights.
        bias: whether the convolutions have biases.
        smooth: whether to interpolate linearly on the way up, or to repeat values as published.
        odd: whether to make it odd.

    Raises:
        ValueError: a number is out of range.

    Source: Kaneda, Akar, Chen, Kala, Hyde and Teran, A Deep Conjugate Direction Method for Iteratively
    Solving Linear Systems, ICML 2023; their network for $128^3$ has `pairs=(2, 5, 3)`.

    Example:
        >>> network = DCDMNetwork(3)
        >>> sum(p.numel() for p in network.parameters())
        97457
        >>> network(torch.zeros(1, 1, 8, 12, 8)).shape
        torch.Size([1, 1, 8, 12, 8])
    """

    def __init__(
        self,
        ndim: int,
        *,
        width: int = 16,
        pairs: tuple[int, int, int] = (1, 3, 2),
        levels: int | None = 1,
        bias: bool = True,
        smooth: bool = False,
        odd: bool = False,
    ):
        super().__init__()
        if ndim not in _CONVOLUTIONS:
            raise ValueError(f"ndim={ndim} should be 2 or 3")
        if width < 1 or (levels is not None and levels < 1):
            raise ValueError(f"width={width} and levels={levels} should be at least 1")
        if len(pairs) != 3 or min(pairs) < 0:
            raise ValueError(f"pairs={pairs} should be three numbers, none negative")
        self.ndim, self.levels, self.odd = ndim, levels, odd
        self.upsampling = _LINEAR[ndim] if smooth else "nearest"
        self.config: dict[str, Any] = {
            "ndim": ndim,
            "width": width,
            "pairs": list(pairs),
            "levels": levels,
            "bias": bias,
            "smooth": smooth,
            "odd": odd,
        }

        def convolution(channels: int = width) -> nn.Module:
            return _CONVOLUTIONS[ndim](channels, width, 3, padding=1, bias=bias)

        def sequence(count: int) -> nn.Sequential:
            return nn.Sequential(*(_Pair(convolution(), convolution()) for _ in range(count)))

        self.first, self.second = convolution(1), convolution()
        grids = 1 if levels is None else levels
        self.down = nn.ModuleList(sequence(pairs[0]) for _ in range(grids))
        self.turn = nn.ModuleList(convolution() for _ in range(grids))
        self.coarsest = sequence(pairs[1])
        self.up = nn.ModuleList(sequence(pairs[2]) for _ in range(grids))
        self.last = _CONVOLUTIONS[ndim](width, 1, 1, bias=bias)
        self.to(memory_format=_FORMATS[ndim])  # pyright: ignore[reportCallIssue]

    def levels_on(self, sizes: tuple[int, ...]) -> int:
        """How often it pools on a grid; its sizes must be multiples of two to that power."""
        if self.levels is not None:
            return self.levels
        levels = 1
        while min(sizes) >> (levels + 1) >= _COARSEST:
            levels += 1
        return levels

    def forward(self, r: Tensor, levels: int | None = None) -> Tensor:
        """Return the direction for a residual, both `(batch, 1, *sizes)`.

        Args:
            r: the residual.
            levels: how often to pool; `levels_on(sizes)` when None.

        Raises:
            ValueError: the grid has another number of axes, or a size that cannot be halved so often.
        """
        sizes = tuple(r.shape[2:])
        if len(sizes) != self.ndim or r.shape[1] != 1:
            raise ValueError(f"r has shape {tuple(r.shape)}, expected (batch, 1, {self.ndim} axes)")
        levels = self.levels_on(sizes) if levels is None else levels
        if any(size % 2**levels for size in sizes):
            raise ValueError(f"sizes {sizes} should be multiples of {2**levels}: pad the residual with zeros")
        if self.odd:
            plus, minus = self._once(torch.cat([r, -r]), levels).chunk(2)
            return (plus - minus) / 2
        return self._once(r, levels)

    def _once(self, r: Tensor, levels: int) -> Tensor:
        # After the first convolution: with one channel the format of a tensor is not defined.
        x = self.first(r).contiguous(memory_format=_FORMATS[self.ndim])
        return self.last(self._cycle(F.relu(self.second(x)), 0, levels))

    def _cycle(self, x: Tensor, depth: int, levels: int) -> Tensor:
        """Go down from a grid, and come back to it."""
        if depth == levels:
            return self.coarsest(x)
        own = 0 if self.levels is None else depth
        x = F.relu(self.turn[own](self.down[own](x)))
        below = self._cycle(_POOLS[self.ndim](x, 2), depth + 1, levels)
        return self.up[own](F.interpolate(below, scale_factor=2.0, mode=self.upsampling) + x)


@final
class _Pair(nn.Module):
    """Two ReLU convolutions and a way around them."""

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return x + F.relu(self.second(F.relu(self.first(x))))
