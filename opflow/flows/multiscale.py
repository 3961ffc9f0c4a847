"""The body of a flow: levels of steps, each of which halves the grid and sends off half of the channels."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from opflow.flows.table import COUPLINGS, LAYERS
from opflow.nn.convolution import channels_last
from opflow.nn.invertible import Bijection, Chain, Condition, SplitPrior, Squeeze, TopPrior
from opflow.nn.invertible.causal_weight import CausalWeight
from opflow.nn.invertible.conditioning import squeezed


class Multiscale(Bijection):
    """A multi-scale flow from a field to standard normal noise.

    A level squeezes 2 x 2 points into channels, takes its steps, and standardises half of the channels by
    what the other half predicts of them; they leave the flow. All channels of the last level leave it by a
    learned prior. A step mixes channels and neighbours, then couples them.

    Args:
        shape: `(channels, rows, columns)` of the field.
        levels: number of levels; 0 for one on the grid of the field, without squeezing.
        steps: steps per level.
        layer: how a step mixes, a row of `LAYERS`.
        coupling: how it couples, a row of `COUPLINGS`.
        hidden_channels: width of the networks of the couplings.
        condition: what conditions couplings and priors: a number of classes, `(d,)` for vectors, or the shape
            of a field on the same grid.
        kernel_size: points per axis of invertible convolutions, where the grid has as many.
        gain_bound: see `CausalWeight`.
        circular: networks continue fields periodically.

    Shapes:
        x `(batch, channels, rows, columns)`, z `(batch, channels * rows * columns)`, finest level first.
        Log-determinants are summed over the levels in float64.

    Raises:
        ValueError: sides that `2**levels` does not divide, unknown layers, sizes below one.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        levels: int,
        steps: int,
        layer: str,
        coupling: str,
        hidden_channels: int,
        condition: Condition,
        kernel_size: int,
        gain_bound: float | None,
        circular: bool,
    ):
        super().__init__()
        _check(shape, levels, steps, layer, coupling, hidden_channels, condition)
        channels, *grid = shape
        self.squeeze = Squeeze() if levels else None
        self.steps, self.priors = nn.ModuleList(), nn.ModuleList()
        self.grids: list[tuple[int, int]] = []
        self.sizes: list[tuple[int, int]] = []  # channels per level: all, and those that stay
        for level in range(max(levels, 1)):
            if levels:
                channels, grid, condition = 4 * channels, [n // 2 for n in grid], squeezed(condition)
            chain: list[Bijection] = []
            size = min(kernel_size, *grid)
            for step in range(steps):
                chain += LAYERS[layer](channels, step, size, gain_bound)
                chain.append(
                    COUPLINGS[coupling](channels, hidden_channels, condition=condition, circular=circular)
                )
            self.steps.append(Chain(*chain))
            last = level + 1 >= levels
            self.priors.append((TopPrior if last else SplitPrior)(channels, condition, circular))
            stay = 0 if last else channels - channels // 2
            self.grids.append((grid[0], grid[1]))
            self.sizes.append((channels, stay))
            channels = stay

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map fields to noise."""
        total, noise = _wide_zeros(x), []
        for steps, prior, (_, stay) in zip(self.steps, self.priors, self.sizes):
            if self.squeeze is not None:
                x, cond = self.squeeze(x)[0], self._squeezed(cond)
            x, logdet = steps(x, cond)
            total = total + logdet
            x, logdet = prior(x, cond)
            total = total + logdet
            noise.append(x[:, stay:].flatten(1))
            x = x[:, :stay]
        return torch.cat(noise, 1), total

    def inverse(self, z: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map noise to fields."""
        conds = [cond]
        for _ in self.grids:
            conds.append(conds[-1] if self.squeeze is None else self._squeezed(conds[-1]))
        total, end = _wide_zeros(z), z.shape[1]
        x = z.new_empty(len(z), 0, *self.grids[-1])
        for level in reversed(range(len(self.grids))):
            channels, stay = self.sizes[level]
            start = end - (channels - stay) * self.grids[level][0] * self.grids[level][1]
            part = z[:, start:end].unflatten(1, (channels - stay, *self.grids[level]))
            x = torch.cat([x, channels_last(part)], 1)
            x, logdet = cast(Bijection, self.priors[level]).inverse(x, conds[level + 1])
            total = total + logdet
            x, logdet = cast(Bijection, self.steps[level]).inverse(x, conds[level + 1])
            total = total + logdet
            if self.squeeze is not None:
                x, _ = self.squeeze.inverse(x)
            end = start
        return x, total

    def causal_weights(self) -> Iterator[tuple[str, CausalWeight, tuple[int, int]]]:
        """Yield name, weight and grid of all causal convolutions."""
        for level, (steps, grid) in enumerate(zip(self.steps, self.grids)):
            for name, module in steps.named_modules():
                if isinstance(module, CausalWeight):
                    yield (
                        f"level {level}, {name.removeprefix('bijections.').removesuffix('.weight')}",
                        module,
                        grid,
                    )

    def _squeezed(self, cond: Tensor | None) -> Tensor | None:
        return (
            self.squeeze(cond)[0]
            if self.squeeze is not None and cond is not None and cond.ndim == 4
            else cond
        )


def _wide_zeros(x: Tensor) -> Tensor:
    """Return `(batch,)` zeros in float64, where the device has it."""
    return x.new_zeros(len(x), dtype=torch.float32 if x.device.type == "mps" else torch.float64)


def _check(shape, levels, steps, layer, coupling, hidden_channels, condition) -> None:
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"shape must be (channels, rows, columns), got {tuple(shape)}")
    if levels < 0 or any(n % 2**levels for n in shape[1:]):
        raise ValueError(
            f"levels={levels} halve the grid as often: 2**levels must divide both sides of {tuple(shape[1:])}"
            "; take fewer levels, or pad or crop the fields"
        )
    for name, size in {"steps": steps, "hidden_channels": hidden_channels}.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    for name, value, table in (("layer", layer, LAYERS), ("coupling", coupling, COUPLINGS)):
        if value not in table:
            raise ValueError(f"{name} must be one of {', '.join(table)}, got {value!r}")
    sizes = condition if isinstance(condition, tuple) else (1 if condition is None else condition,)
    fits = not isinstance(condition, tuple) or len(sizes) == 1 or (len(sizes) == 3 and sizes[1:] == shape[1:])
    if not fits or min(sizes) < 1:
        raise ValueError(
            f"condition={condition}: expected a number of classes, (d,) for vectors, or the shape of a field "
            f"on the grid {tuple(shape[1:])}"
        )
