"""Trainings of the cycle in stages, by name: how the weights of the package are made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from opflow.training import TrainConfig
from solvers.multigrid import MultigridPreconditioner
from solvers.training import train_preconditioner


@dataclass(frozen=True)
class Stage:
    """One training; the arguments are those of `train_preconditioner` and `TrainConfig`."""

    size: int
    samples: int
    iterations: int
    epochs: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True)
class Recipe:
    """Stages, each of which goes on with the weights of the one before."""

    ndim: int
    stages: tuple[Stage, ...]


RECIPES = {
    "quick2d": Recipe(2, (Stage(64, 512, 8, 8, 8, 5e-3),)),
    "quick3d": Recipe(3, (Stage(32, 512, 8, 8, 8, 5e-3),)),
    # Domains nearer to those in use come last: more levels to learn, and few samples will do for them. Fewer
    # iterations in the end, for the last ones of many say little on easy domains.
    "poisson2d": Recipe(
        2,
        (
            Stage(128, 512, 12, 7, 8, 5e-3),
            Stage(256, 128, 12, 3, 4, 2e-3),
            Stage(256, 128, 8, 3, 4, 1e-3),
        ),
    ),
    "poisson3d": Recipe(
        3,
        (
            Stage(48, 256, 10, 5, 4, 5e-3),
            Stage(48, 128, 8, 3, 4, 2e-3),
            Stage(48, 128, 7, 3, 4, 1e-3),
        ),
    ),
}
"""By name. Each takes minutes on one core."""


def train_recipe(
    name: str,
    *,
    folder: str | Path | None = None,
    loss: str = "residual",
    hidden: int = 16,
    n_steps: int = 2,
    seed: int = 0,
    resume: bool = False,
    **changes: Any,
) -> tuple[MultigridPreconditioner, list[dict[str, Any]]]:
    """Train by the stages of a recipe; other arguments are those of `train_preconditioner`.

    Args:
        name: one of `RECIPES`.
        folder: has a folder `stage1`, `stage2`, ... for each stage.
        loss: of all stages.
        hidden: width of the network at faces.
        n_steps: smoothing steps.
        seed: of domains and weights.
        resume: go on with what is in the folder; stages that are done are not done again.
        changes: fields of `Stage`, for all stages.

    Returns:
        The preconditioner, to be set up, and the history of all stages.

    Raises:
        ValueError: the name is unknown, or an argument is out of range.
    """
    if name not in RECIPES:
        raise ValueError(f"recipe={name!r} is unknown, choose one of {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    M, history = None, []
    for number, stage in enumerate(recipe.stages, start=1):
        stage = replace(stage, **changes)
        own = seed * len(recipe.stages) + number - 1  # other domains in each
        config = TrainConfig(
            epochs=stage.epochs,
            batch_size=stage.batch_size,
            learning_rate=stage.learning_rate,
            weight_decay=0.0,
            seed=own,
        )
        M, rows = train_preconditioner(
            recipe.ndim,
            size=stage.size,
            samples=stage.samples,
            hidden=hidden,
            n_steps=n_steps,
            iterations=stage.iterations,
            loss=loss,
            start=M,
            config=config,
            folder=None if folder is None else Path(folder) / f"stage{number}",
            resume=resume,
            seed=own,
        )
        history += [{"stage": number, **row} for row in rows]
    assert M is not None
    return M, history
