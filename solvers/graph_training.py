"""Training the weights of a graph preconditioner: gradients of conjugate gradients on small dense matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from solvers.graph_hierarchy import aggregate, describe, relaxed, unit_diagonal
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
    gradients, and follows the gradient of the mean of

    $$ \frac1m \log \frac{\|x_m - A^{-1}b\|_A}{\|A^{-1}b\|_A} . $$

    Everything is dense, in float64: take matrices of 200 to 1 000 unknowns. What is learned is local and holds
    for larger ones.

    Args:
        matrices: pairs `(A, B)` as `GraphPreconditioner.setup` takes them; `B` may be None.
        family: what they are, in words, kept with the weights.
        weights: where to start; classical ones when None.
        steps: of Adam, with a learning rate that falls to zero along a cosine.
        batch: matrices per step.
        learning_rate: at the start.
        iterations: of conjugate gradients.
        max_coarse: unknowns of the coarsest level; fewer than when solving, so that small matrices have as many
            levels as large ones.
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
            solve = differentiable_cycle(A, B, block, parameters, max_coarse)
            loss = _rate(torch.tensor(A.toarray()), b, solve, iterations) / len(drawn)
            loss.backward()
            mean += loss.item()
        torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
        optimizer.step()
        schedule.step()
        if progress is not None:
            progress(step, mean)
    return GraphWeights({name: value.detach().numpy() for name, value in parameters.items()}, family)


def differentiable_cycle(
    A: sparse.csr_matrix, B: np.ndarray, block: int, parameters: dict[str, Tensor], max_coarse: int
) -> Callable[[Tensor], Tensor]:
    """The cycle of `GraphPreconditioner` for a matrix with unit diagonal, in dense torch operations.

    Gradients flow through prolongations, coarse matrices and relaxation, not through what the network is told
    about coarse levels. `B` has been relaxed already. Returns a function of columns `(n, k)`.
    """
    import torch

    matrix, levels = torch.tensor(A.toarray()), []
    while A.shape[0] > max_coarse:
        found = aggregate(A, B, block, 0.0)
        if found is None or found.tentative.shape[1] > 0.8 * A.shape[0]:
            break
        features, neighbours, total = describe(A, B, found, len(levels))
        row = row_weights(
            parameters,
            torch.tensor(features),
            torch.tensor(neighbours.toarray()),
            torch.tensor(total),
            torch.tanh,
        )
        pattern = found.tentative.copy()
        pattern.data = np.ones_like(pattern.data)
        mask, P = torch.tensor(pattern.toarray()), torch.tensor(found.tentative.toarray())
        coarse = torch.tensor(found.coarse)
        gram = torch.linalg.pinv(torch.einsum("nm,ma,mb->nab", mask, coarse, coarse), hermitian=True)
        for step in (row.first, row.second):
            change = (matrix @ P) * mask
            shift = torch.einsum("nab,nb->na", gram, change @ coarse) @ coarse.T
            P = P - step[:, None] * (change - row.kept[:, None] * mask * shift)
        below = P.T @ matrix @ P
        diagonal = torch.diagonal(below)
        good = diagonal > 1e-13 * diagonal.max()
        scale = torch.where(good, torch.where(good, diagonal, 1.0).rsqrt(), 0.0)
        P = P * scale
        levels.append((matrix, P, _sweeps(matrix, row.down, row.up)))
        matrix = below * scale * scale[:, None]
        known = scale.detach().numpy()
        A = sparse.csr_matrix(matrix.detach().numpy())
        B, block = found.coarse / np.where(known > 0, known, np.inf)[:, None], B.shape[1]
    coarsest = matrix + torch.diag((torch.diagonal(matrix) == 0).to(matrix.dtype))

    def cycle(depth: int, b: Tensor) -> Tensor:
        if depth == len(levels):
            return torch.linalg.solve(coarsest, b)
        matrix, P, (down, up, up_adjoint, down_adjoint) = levels[depth]
        x = down(b)
        x = x + up(b - matrix @ x)
        x = x + P @ cycle(depth + 1, P.T @ (b - matrix @ x))
        x = x + up_adjoint(b - matrix @ x)
        return x + down_adjoint(b - matrix @ x)

    return lambda b: cycle(0, b)


def _sweeps(matrix: Tensor, down: Tensor, up: Tensor) -> tuple[Callable[[Tensor], Tensor], ...]:
    """Sweeps of over-relaxation forwards and backwards, and their adjoints in the order of use."""
    import torch

    def sweep(factors: Tensor, forward: bool) -> Callable[[Tensor], Tensor]:
        part = torch.tril(matrix, -1) if forward else torch.triu(matrix, 1)
        part = part + torch.diag(1 / factors)
        return lambda b: torch.linalg.solve_triangular(part, b, upper=not forward)

    return sweep(down, True), sweep(up, False), sweep(up, True), sweep(down, False)


def _rate(A: Tensor, b: Tensor, solve: Callable[[Tensor], Tensor], iterations: int) -> Tensor:
    """Mean logarithm of the factor by which a step of conjugate gradients makes the error smaller."""
    import torch

    exact = torch.linalg.solve(A, b)
    x, r = torch.zeros_like(b), b
    z = solve(r)
    p, rz = z, (r * z).sum(0)
    for _ in range(iterations):
        Ap = A @ p
        step = rz / (p * Ap).sum(0)
        x, r = x + step * p, r - step * Ap
        z = solve(r)
        rz, last = (r * z).sum(0), rz
        p = z + rz / last * p
    error = exact - x
    ratio = (error * (A @ error)).sum(0) / (exact * b).sum(0)
    return torch.log(ratio).mean() / (2 * iterations)
