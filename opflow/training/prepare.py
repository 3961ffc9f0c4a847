"""What has to be known or set before the first step."""

import contextlib
import functools
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from opflow.operators.base import Operator, placed
from opflow.operators.points import PointOperator
from opflow.operators.symmetrize import Symmetrize
from opflow.training.batches import read
from opflow.training.config import TrainConfig
from opflow.training.objective import apply


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (data sets may draw from it)
    torch.manual_seed(seed)


def check_validation(config: TrainConfig, valid: Dataset | None) -> None:
    """Raise ValueError where a configuration asks for validation data that are not there."""
    if config.patience and valid is None:
        raise ValueError(
            f"patience={config.patience} waits for a better validation error, but there are no "
            "validation data: give `valid`, or set patience=0"
        )
    if config.rollout_steps and not getattr(valid, "time_dependent", False):
        found = "none" if valid is None else f"a {type(valid).__name__} without time"
        raise ValueError(
            f"rollout_steps={config.rollout_steps} needs trajectories as validation data, a "
            f"pde_data.FieldDataset over time, and there is {found}; set rollout_steps=0"
        )


def real_dtype(model: nn.Module) -> torch.dtype:
    """Return float64 for a model with weights in double precision, float32 otherwise."""
    double = any(p.dtype in (torch.float64, torch.complex128) for p in model.parameters())
    return torch.float64 if double else torch.float32


@torch.no_grad()
def frame_channels(model: nn.Module, dataset: Dataset, dtype: torch.dtype) -> int:
    """Return the output channels of a model, from one prediction that also shows whether the data fit it.

    Raises:
        ValueError: the model works on a grid and the data lie at points, or the other way round, the target
            is neither one output of the model nor a stack of several that the model can
            be unrolled for, or the model has modes that the fields do not.
    """
    x, y, *points = read(dataset, np.arange(1))
    on_grids = isinstance(model, Operator) and not isinstance(model, Symmetrize)  # which works on both
    if on_grids if points else isinstance(model, PointOperator):
        kinds = ("grids", "points") if points else ("points", "grids")
        raise ValueError(
            f"{type(model).__name__} works on {kinds[0]}, and the data lie on {kinds[1]}: "
            + ("use a point operator such as MINO" if points else "use a pde_data.MeshDataset, or an FNO")
        )
    _check_modes(model, tuple(x.shape[2:]))
    was_training, parameter = model.training, next(model.parameters())
    prediction = apply(model.eval(), *(placed(t, parameter.device, dtype) for t in (x, *points)))
    model.train(was_training)
    channels = prediction.shape[1]
    if y.shape[1] % channels or prediction.shape[2:] != y.shape[2:]:
        raise ValueError(
            f"the model maps {tuple(x.shape)} to {tuple(prediction.shape)}, but the target is "
            f"{tuple(y.shape)}: it needs the same grid and a multiple of {channels} channels"
        )
    if y.shape[1] > channels and x.shape[1] % channels:
        raise ValueError(
            f"the target holds {y.shape[1] // channels} frames of {channels} channels, but the {x.shape[1]} "
            "input channels are not whole frames, so predictions cannot be fed back; use horizon=1"
        )
    return channels


def _check_modes(model: Any, grid: tuple[int, ...]) -> None:
    """Weights of modes beyond the training grid would stay random, and act on finer grids."""
    while isinstance(model, Symmetrize):
        model = model.model
    if not isinstance(model, Operator) or not hasattr(model, "n_modes"):
        return
    kept: Any = model.n_modes
    resolved: Any = getattr(model, "resolved_modes", None)
    if resolved is not None:  # degrees on the sphere
        largest = min(kept, resolved(grid))
        fits = largest == kept
    else:
        padding = getattr(model, "padding", (0.0,) * len(grid))
        largest = tuple(min(m, n) for m, n in zip(kept, grid))
        fits = all(m <= n + 2 * round(p * n) for m, n, p in zip(kept, grid, padding))
    if not fits:
        raise ValueError(
            f"the model keeps n_modes={kept}, but the training fields have {grid} points, which leaves its "
            f"highest modes untrained: build it with n_modes={largest}, or train on finer fields"
        )


def uncompiled(config: TrainConfig) -> contextlib.AbstractContextManager:
    """Run compiled modules eagerly: evaluation is rare, and would be compiled anew for each shape."""
    return torch.compiler.set_stance("force_eager") if config.compile else contextlib.nullcontext()


@contextlib.contextmanager
def recomputed_blocks(model: nn.Module) -> Iterator[None]:
    """Let the members of the outermost `ModuleList`s recompute their activations in the backward pass.

    Holds for the time of a `with` block; names in the state dict stay as they are.

    Raises:
        ValueError: the model has no `ModuleList`.
    """
    from torch.utils.checkpoint import checkpoint

    blocks = list(_blocks(model))
    if not blocks:
        raise ValueError(
            "checkpoint_activations works on models whose blocks stand in a ModuleList; "
            f"{type(model).__name__} has none"
        )
    for block in blocks:
        block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        yield from child if isinstance(child, nn.ModuleList) else _blocks(child)
