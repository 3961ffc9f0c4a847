"""What training makes small: how much a step of conjugate gradients leaves, from the numbers of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_LEAST = 1e-30  # of what is left over; logarithms stay finite


@dataclass(frozen=True, eq=False)
class Run:
    r"""The numbers of preconditioned conjugate gradients, `(step, right-hand side)`.

    Attributes:
        residuals: norms $|r_k|$, of the start and after each step.
        lengths: of the steps, $\alpha_k$.
        turns: what a direction keeps of the one before, $\beta_k$, one fewer than steps.
        products: $r_k^\top M r_k$ before each step.
    """

    residuals: Tensor
    lengths: Tensor
    turns: Tensor
    products: Tensor


def residual(run: Run) -> Tensor:
    r"""Mean factor of a step in the norm of the residual: $(|r_n| / |r_0|)^{1/n}$."""
    left = run.residuals[-1] / run.residuals[0]
    return left.clamp_min(_LEAST) ** (1 / len(run.lengths))


def direction(run: Run) -> Tensor:
    """Factor of the first step in the norm of the residual: the loss of Deep Conjugate Directions."""
    return (run.residuals[1] / run.residuals[0]).clamp_min(_LEAST)


def energy(run: Run) -> Tensor:
    r"""Mean factor of a step in the $A$-norm of the error, of which no solution has to be known.

    $$ |x - x_k|_A^2 = \sum_{i \ge k} \alpha_i\, r_i^\top M r_i $$

    The sum is cut off at the end of the run, so the last quarter of its steps tells what was left before it.

    Source: Hestenes and Stiefel 1952, theorem 6:1; Strakos and Tichy, ETNA 13 (2002), for the estimate.
    """
    gains = run.lengths * run.products
    tail = max(1, len(gains) // 4)
    left = gains[-tail:].sum(0) / gains.sum(0)
    return left.clamp_min(_LEAST) ** (0.5 / (len(gains) - tail))


def rate(run: Run) -> Tensor:
    r"""Factor that the condition number promises, $(\sqrt\kappa - 1) / (\sqrt\kappa + 1)$.

    $\kappa$ is the ratio of the extreme eigenvalues of the tridiagonal matrix that the run makes of $MA$.

    Source: Golub and Van Loan, Matrix Computations, section 10.3 (Lanczos from conjugate gradients).
    """
    lengths, turns = run.lengths.double(), run.turns.double().clamp_min(0)
    diagonal = 1 / lengths
    diagonal = torch.cat([diagonal[:1], diagonal[1:] + turns / lengths[:-1]])
    beside = turns.sqrt() / lengths[:-1]
    T = torch.diag_embed(diagonal.T) + torch.diag_embed(beside.T, 1) + torch.diag_embed(beside.T, -1)
    values = torch.linalg.eigvalsh(T)
    root = (values[:, -1] / values[:, 0]).sqrt()
    return ((root - 1) / (root + 1)).clamp_min(_LEAST).to(run.lengths.dtype)


LOSSES: dict[str, Callable[[Run], Tensor]] = {
    "residual": residual,
    "energy": energy,
    "rate": rate,
    "direction": direction,
}
"""From a run to a factor below 1 for each right-hand side; training lessens the mean of their logarithms."""
