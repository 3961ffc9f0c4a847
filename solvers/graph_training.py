"""Training the weights of a graph preconditioner by the gradient of conjugate gradients on small matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from solvers.graph_hierarchy import Csr, aggregate, describe, relaxed, unit_diagonal
from solvers.graph_operands import DenseOperand, SparseOperand
from solvers.graph_weights import GraphWeights, initial_weights, row_weights

if TYPE_CHECKING:
    from torch import Tensor


def train_graph(
    matrices: Sequence[tuple[Any, Any]],
    *,
    family: str,
    weights: GraphWeights | None = None,
    steps: int = 200,
    batch: int = 4,
    learning_rate: float = 5e-3,
    iterations: int = 8,
    max_coarse: int = 20,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> GraphWeights:
    r"""Train weights on matrices of a family, so that conjugate gradients converge faster on others of it.

    Each step draws matrices and right-hand sides, takes `iterations` steps $x_m$ of preconditioned conjugate
    gradients, fewer where eight digits have been gained before, and follows the gradient of the mean of

    $$ \frac1m \log \frac{\|x_m - A^{-1}b\|_A}{\|A^{-1}b\|_A} . $$

    Prolongations and coarse matrices are dense, in float64: take matrices of 200 to 3 000 unknowns. What is
    learned is local and holds for larger ones.

    Args:
        matrices: pairs `(A, B)` as `GraphPreconditioner.setup` takes them; `B` may be None.
        family: what they are, in words, kept with the weights.
        weights: where to start, with `theta` and `drop`, which stay; classical ones when None.
        steps: of Adam, with a learning rate that falls to zero along a cosine.
        batch: matrices per step.
        learning_rate: at the start.
        iterations: of conjugate gradients.
        max_coarse: unknowns of the coarsest level; fewer than when solving, so that small matrices have as
            many levels as large ones.
        seed: of the draws and of the initial weights.
        progress: called with the number of the step and its loss.

    Raises:
        ValueError: there are no matrices, or one does not suit a preconditioner.

    Example:
        >>> import pyamg
        >>> A = pyamg.gallery.poisson((12, 12), format="csr")
        >>> train_graph([(A, None)], family="Poisson, 12 x 12", steps=2, batch=1).family
        'Poisson, 12 x 12'
    """
    import torch

    from solvers.graph import prepared

    if len(matrices) == 0:
        raise ValueError("matrices is empty: train_graph learns from at least one")
    systems = []
    for A, B in matrices:
        A, B, block = prepared(A, B)
        scaled, scale = unit_diagonal(A)
        systems.append((scaled, relaxed(scaled, B / scale[:, None]), block))
    start = initial_weights(seed) if weights is None else weights
    parameters = {
        name: torch.tensor(np.asarray(value), requires_grad=True) for name, value in start.parameters.items()
    }
    optimizer = torch.optim.Adam(parameters.values(), learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = np.random.default_rng(seed)
    for step in range(steps):
        drawn = rng.choice(len(systems), min(batch, len(systems)), replace=False)
        optimizer.zero_grad()
        mean = 0.0
        for which in drawn:
            A, B, block = systems[which]
            b = torch.tensor(rng.standard_normal((A.shape[0], 4)))
            solve = differentiable_cycle(A, B, block, parameters, start, max_coarse)
            loss = _rate(SparseOperand(A), b, solve, iterations) / len(drawn)
            loss.backward()
            mean += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step, mean)
    learned = {name: value.detach().numpy() for name, value in parameters.items()}
    return replace(start, parameters=learned, family=family)


def differentiable_cycle(
    A: Csr,
    B: np.ndarray,
    block: int,
    parameters: dict[str, Tensor],
    weights: GraphWeights,
    max_coarse: int,
) -> Callable[[Tensor], Tensor]:
    """The cycle of `GraphPreconditioner` for a matrix with unit diagonal, in torch.

    Gradients flow through prolongations, coarse matrices and relaxation, not through what the network is told
    about coarse levels. Of `weights` `theta` and `drop` count; `B` has been relaxed already. Returns a
    function of columns `(n, k)`.
    """
    import torch

    matrix: Any = SparseOperand(A)
    levels = []
    while A.shape[0] > max_coarse:
        found = aggregate(A, B, block, weights.theta, weights.drop)
        if found is None or found.tentative.shape[1] > 0.8 * A.shape[0]:
            break
        features, neighbours, total = describe(A, B, found, len(levels))
        row = row_weights(
            parameters,
            torch.tensor(features),
            SparseOperand(neighbours),
            torch.tensor(total),
            torch.tanh,
        )
        pattern = found.tentative.copy()
        pattern.data = np.ones_like(pattern.data)
        mask, P = torch.tensor(pattern.toarray()), torch.tensor(found.tentative.toarray())
        coarse = torch.tensor(found.coarse)
        k = coarse.shape[1]
        pairs = (coarse[:, :, None] * coarse[:, None, :]).reshape(-1, k * k)
        gram = torch.linalg.pinv((mask @ pairs).reshape(-1, k, k), hermitian=True)
        for step in (row.first, row.second):
            change = (matrix @ P) * mask
            shift = torch.einsum("nab,nb->na", gram, change @ coarse) @ coarse.T
            P = P - step[:, None] * (change - row.kept[:, None] * mask * shift)
        below = P.T @ (matrix @ P)
        diagonal = torch.diagonal(below)
        good = diagonal > 1e-13 * diagonal.max()
        scale = torch.where(good, torch.where(good, diagonal, 1.0).rsqrt(), 0.0)
        levels.append((matrix, P * scale, row))
        matrix = DenseOperand(below * scale * scale[:, None])
        known = scale.detach().numpy()
        A = sparse.csr_matrix(matrix.entries.detach().numpy())
        B, block = found.coarse / np.where(known > 0, known, np.inf)[:, None], B.shape[1]

    def cycle(depth: int, b: Tensor) -> Tensor:
        if depth == len(levels):
            return matrix.solve(b)
        level, P, row = levels[depth]
        x = level.sweep(b, row.down, True)
        x = x + level.sweep(b - level @ x, row.up, False)
        x = x + P @ cycle(depth + 1, P.T @ (b - level @ x))
        x = x + level.sweep(b - level @ x, row.up, True)
        return x + level.sweep(b - level @ x, row.down, False)

    return lambda b: cycle(0, b)


def _rate(A: SparseOperand, b: Tensor, solve: Callable[[Tensor], Tensor], iterations: int) -> Tensor:
    """Mean logarithm of the factor by which a step of conjugate gradients makes the error smaller."""
    import torch

    exact = A.solve(b)
    x, r = torch.zeros_like(b), b
    z = solve(r)
    p, rz = z, (r * z).sum(0)
    start, taken = rz.detach(), 0
    # Beyond that the gradient would be that of rounding.
    while taken < iterations and (rz.detach() > 1e-16 * start).all():
        taken += 1
        Ap = A @ p
        step = rz / (p * Ap).sum(0)
        x, r = x + step * p, r - step * Ap
        z = solve(r)
        rz, last = (r * z).sum(0), rz
        p = z + rz / last * p
    error = exact - x
    ratio = (error * (A @ error)).sum(0) / (exact * b).sum(0)
    return torch.log(ratio).mean() / (2 * taken)
