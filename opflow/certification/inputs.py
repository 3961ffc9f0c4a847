"""Random functions that models are certified on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from opflow.nn.spectral import fourier_resample
from pde_data import Grid
from pde_data.random_fields import GaussianRandomField, generator

SAMPLES = 2
_SIDES = (1.0, 0.7, 0.45)
_LAW = GaussianRandomField(tau=20.0, alpha=1.0)  # rough: much of it is at the highest modes


def periodic_fields(channels: int, highest: int, grid: Sequence[int], like: Tensor) -> Tensor:
    """Return fields `(sample, channels, *grid)` of unit mean square, with modes up to `highest` per axis.

    They are samples of the same functions on every grid that resolves the modes.
    """
    coarse = Grid((2 * highest + 1,) * len(grid))
    drawn = [_LAW.sample(0, range(SAMPLES), coarse, component=c) for c in range(channels)]
    fields = torch.from_numpy(np.stack(drawn, 1))
    fields /= fields.square().mean(tuple(range(2, fields.ndim)), keepdim=True).sqrt()
    return fourier_resample(fields, grid).to(like)


def scattered_fields(channels: int, coords: Tensor, like: Tensor) -> Tensor:
    """Return smooth functions at the points of a cloud `(point, dim)`: `(sample, point, channels)`."""
    law, points = GaussianRandomField(alpha=3.0), coords.double().cpu().numpy()
    scale = law.deviation(3, points.shape[1])
    drawn = [[law.at(points, generator(0, i, c), 3) / scale for c in range(channels)] for i in range(SAMPLES)]
    return torch.from_numpy(np.array(drawn)).mT.to(like)


def jittered_points(per_axis: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor]:
    """Return one random point in each cell of a box, `(point, dim)`, and the volumes of the cells.

    The box lies in the unit cube and is longer than it is wide, so that its points have principal axes.
    """
    sides = np.array(_SIDES[: len(per_axis)])
    cells = np.stack(np.meshgrid(*map(np.arange, per_axis), indexing="ij"), -1).reshape(-1, len(per_axis))
    points = sides * (cells + np.random.default_rng(0).random(cells.shape)) / np.array(per_axis)
    weights = torch.full((len(points),), np.prod(sides) / len(points)).to(like)
    return torch.from_numpy(points).to(like), weights


def domain_of(model: nn.Module, n_dim: int) -> Tensor | None:
    """Return the box `(dim, 2)` that holds the points of a model, float64, None where it may be anywhere.

    Example:
        >>> from opflow import MINO
        >>> domain_of(MINO(1, 1, hidden_channels=16, domain=[(0, 2), (1, 5)]), 2).tolist()
        [[0.0, 2.0], [1.0, 5.0]]
    """
    config = getattr(model, "config", None)
    if not isinstance(config, dict) or "domain" not in config:
        return None
    unit_box = [(0.0, 1.0)] * n_dim
    return torch.tensor(unit_box if config["domain"] is None else config["domain"], dtype=torch.float64)


def in_physical_units(fields: Tensor, model: nn.Module, axis: int) -> Tensor:
    """Give fields the mean and spread of the training data of a model, where it has a normaliser."""
    normalizer: Any = getattr(model, "normalizer", None)
    if normalizer is None:
        return fields
    shape = [1] * fields.ndim
    shape[axis] = -1
    return fields * normalizer.input_std.view(shape) + normalizer.input_mean.view(shape)
