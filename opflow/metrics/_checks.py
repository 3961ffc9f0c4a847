"""Checks and small formulas that every metric shares."""

from collections.abc import Sequence

import torch
from torch import Tensor


def pair(prediction: Tensor, target: Tensor, least_ndim: int, layout: str) -> tuple[Tensor, Tensor]:
    prediction, target = torch.as_tensor(prediction), torch.as_tensor(target)
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction and target must have one shape, got {tuple(prediction.shape)} "
            f"and {tuple(target.shape)}: resample one of them to the grid of the other first"
        )
    if target.ndim < least_ndim:
        raise ValueError(f"expected {layout}, got a tensor of shape {tuple(target.shape)}")
    return prediction, target


def ratio(error: Tensor, scale: Tensor) -> Tensor:
    return error / torch.where(scale > 0, scale, torch.ones_like(scale))


def norm(u: Tensor, dims: tuple[int, ...]) -> Tensor:
    return torch.linalg.vector_norm(u, dim=dims)


def per_axis(value, n_dim: int, name: str) -> list:
    values = list(value) if isinstance(value, Sequence) else [value] * n_dim
    if len(values) != n_dim:
        raise ValueError(f"{name} needs one value or one per space axis ({n_dim}), got {len(values)}")
    return values
