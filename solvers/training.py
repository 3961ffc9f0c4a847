"""Training of the multigrid cycle: on random domains, by how far conjugate gradients get with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from opflow.training import TrainConfig, fit
from solvers.cycle import LearnedCycle, pack
from solvers.cycle_losses import LOSSES
from solvers.domains import KINDS, random_stencil
from solvers.multigrid import MultigridPreconditioner


class RandomProblems(Dataset):
    """Random domains with white right-hand sides, drawn anew from the seed each time: `(input, target)`.

    Shapes: `(2 d + 2, *sizes)`, see `LearnedCycle`, and `(1, 1)`, a zero: what should be left.

    Args:
        count: number of items.
        sizes: cells along each axis.
        seed: item i is drawn from `(seed, i)`.
        contrast: a quarter of the domains have a smooth coefficient with this deviation of its logarithm.
    """

    def __init__(self, count: int, sizes: Sequence[int], seed: int = 0, contrast: float = 1.0):
        self.count, self.sizes, self.seed, self.contrast = count, tuple(sizes), seed, contrast
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        index = range(self.count)[index]
        if index not in self._kept:
            rng = np.random.default_rng((self.seed, index))
            contrast = self.contrast if rng.random() < 0.25 else 0.0
            kind = str(rng.choice(KINDS[1:]))  # on boxes there is nothing to learn
            domain = pack([random_stencil(rng, self.sizes, kind, contrast)])[0].float()
            b = torch.from_numpy(rng.standard_normal(self.sizes)).float() * domain[-1]
            self._kept[index] = torch.cat([domain, b[None]]), torch.zeros(1, 1)
        return self._kept[index]


def train_preconditioner(
    ndim: int = 2,
    *,
    size: int | None = None,
    samples: int = 512,
    hidden: int = 16,
    n_steps: int = 2,
    iterations: int = 8,
    loss: str = "residual",
    start: MultigridPreconditioner | None = None,
    config: TrainConfig | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    seed: int = 0,
) -> tuple[MultigridPreconditioner, list[dict[str, Any]]]:
    r"""Learn the weights of a multigrid cycle on random domains of all kinds.

    Conjugate gradients are run with the cycle for a number of iterations, and differentiated through all of
    them. Nothing has to be solved beforehand. The loss is the mean logarithm of a factor that a step leaves:

    - "residual": in the norm of the residual, $(|r_n| / |r_0|)^{1/n}$;
    - "energy": in the $A$-norm of the error, estimated from the lengths of the steps;
    - "rate": what the condition number promises, $(\sqrt\kappa - 1) / (\sqrt\kappa + 1)$, from the
      Lanczos matrix of the run;
    - "direction": in the norm of the residual, of the first step alone, as for the Deep Conjugate Direction
      Method.

    Args:
        ndim: 2 or 3 axes.
        size: cells along each axis, a multiple of 8; 64 in two dimensions and 32 in three when None.
        samples: random domains.
        hidden: width of the network at faces.
        n_steps: smoothing steps.
        iterations: unrolled iterations $n$, at least 2.
        loss: one of the above; all but "direction" are multiplied by the iterations.
        start: weights to go on from, with their `hidden` and `n_steps`; classical ones when None.
        config: how to train; a few minutes on one core when None.
        folder: where metrics and states to resume from are kept.
        resume: go on with what is in the folder.
        seed: of domains and weights.

    Returns:
        The preconditioner, to be set up, with the weights that left least on an eighth as many other domains,
        and the history of the training, in which `valid_l2` is that mean factor.

    Raises:
        ValueError: an argument is out of range.
    """
    if ndim not in (2, 3):
        raise ValueError(f"ndim={ndim} should be 2 or 3")
    size = size or {2: 64, 3: 32}[ndim]
    if size < 24 or size % 8:
        raise ValueError(f"size={size} should be a multiple of 8, at least 24: a cycle needs two levels")
    if iterations < 2:
        raise ValueError(f"iterations={iterations} should be at least 2")
    if loss not in LOSSES:
        raise ValueError(f"loss={loss!r} is unknown, choose one of {', '.join(LOSSES)}")
    if config is None:
        config = TrainConfig(
            epochs=8, batch_size=8, learning_rate=5e-3, schedule="cosine", weight_decay=0.0, seed=seed
        )
    torch.manual_seed(seed)
    if start is None:
        model = LearnedCycle(ndim, hidden, n_steps, iterations, loss)
    else:
        model = LearnedCycle.of(start.weights, ndim, iterations=iterations, loss=loss)
    train, valid = (
        RandomProblems(n, (size,) * ndim, s)
        for n, s in ((samples, 2 * seed), (max(samples // 8, 8), 2 * seed + 1))
    )
    times = 1 if loss == "direction" else iterations

    def criterion(factors: Tensor, _: Tensor) -> Tensor:
        return times * factors.log().mean()

    criterion.__name__ = loss
    result = fit(model, train, valid, loss=criterion, config=config, folder=folder, resume=resume)
    return MultigridPreconditioner(model.weights()), result.history
