"""Flexible conjugate gradients that never call a wrong answer converged."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.sparse.linalg import LinearOperator, aslinearoperator

from solvers.grid import GridPoisson
from solvers.vectors import dot, norm

_GROWTH = 1e3  # of the residual over that at the start: divergence
_STALL = 60  # iterations with M but without a better residual: stagnation
_COMPATIBLE = 1e-8  # share of b that may lie in the nullspace


@dataclass(frozen=True)
class SolveResult:
    """What a solver found, and how far it can be trusted.

    Attributes:
        x: the solution, in the shape of the right-hand side; the best one found if not converged.
        converged: whether the true residual `b - A x`, computed anew at the end, is as small as asked.
        reason: a sentence that says why it stopped.
        iterations: steps taken; with several right-hand sides those of the slowest.
        residuals: norm of the residual at the start and after each step; a list of them with several
            right-hand sides.
        residual: norm of the true residual at the end.
        setup_seconds: wall time that the preconditioner says its set-up took.
        solve_seconds: wall time of the iteration.
    """

    x: np.ndarray
    converged: bool
    reason: str
    iterations: int
    residuals: Any = field(repr=False)
    residual: float
    setup_seconds: float
    solve_seconds: float

    @property
    def info(self) -> int:
        """SciPy's number: 0 for success, the iterations when there were too many, -1 for a breakdown."""
        if self.converged:
            return 0
        return self.iterations if self.reason.startswith("maxiter") else -1


def fcg(
    A: Any,
    b: np.ndarray,
    x0: np.ndarray | None = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: Any = None,
    callback: Callable[[np.ndarray], Any] | None = None,
    m: int = 1,
    recompute_every: int = 50,
    nullspace: Any = None,
    fallback: bool = True,
    progress: bool = False,
    full_output: bool = True,
) -> Any:
    r"""Solve $Ax = b$ for a symmetric positive (semi-)definite matrix, with any preconditioner.

    The direction is $M(r)$ made $A$-orthogonal to the last `m` directions, the step the one that is best in
    the $A$-norm, so for such a matrix the error never grows, whatever $M$ is:

    $$ p = z - \sum_{j \le m} \frac{z^\top A p_j}{p_j^\top A p_j} p_j, \quad z = M(r), \qquad
    x \leftarrow x + \frac{p^\top r}{p^\top A p} p . $$

    `m=1` is the Polak-Ribiere form of conjugate gradients, `m=2` the rule of the Deep Conjugate Direction
    Method. One product with $A$ and one with $M$ per step, in float64. The residual is recomputed from `x`
    every `recompute_every` steps and before success is declared.

    Args:
        A: sparse matrix, array or `LinearOperator`, real and symmetric.
        b: right-hand side `(n,)`, `(n, 1)`, `(n, k)` for k of them, or, for a `GridPoisson`, a field on its
            grid. Integers are taken as float64; complex ones are solved part by part.
        x0: where to start, shaped like `b`; zero when None.
        rtol: the residual asked for, over the norm of b.
        atol: the residual asked for, whichever is greater.
        maxiter: most steps for each right-hand side; 10 n when None.
        M: approximation of the inverse: what A may be, or a function of a vector.
        callback: called with x after each step, as by SciPy.
        m: directions that a new one is made orthogonal to.
        recompute_every: steps between residuals computed from x; 0 for at the end only.
        nullspace: orthonormal columns `(n, k)`, dense or sparse; those of A when it has any.
        fallback: go on with a classical preconditioner where M fails, diverges or stagnates.
        progress: show steps and residual in a bar, where the output is a terminal.
        full_output: return a `SolveResult`; otherwise SciPy's `(x, info)`.

    Raises:
        ValueError: shapes do not fit, a number is not finite or out of range, or b is not in the range of a
            singular A.
        TypeError: A is complex.

    Source: Notay, Flexible Conjugate Gradients, SIAM J. Sci. Comput. 22 (2000).

    Example:
        >>> import numpy as np, scipy.sparse
        >>> A = scipy.sparse.diags_array([2.0, 3.0, 4.0])
        >>> result = fcg(A, np.array([2.0, 6.0, 12.0]))
        >>> result.x.round(6), result.converged
        (array([1., 2., 3.]), True)
    """
    from tqdm import tqdm

    operator = _operator(A, "A")
    n = operator.shape[0]
    for name, value, least in (
        ("rtol", rtol, 0),
        ("atol", atol, 0),
        ("m", m, 0),
        ("recompute_every", recompute_every, 0),
    ):
        if not value >= least:
            raise ValueError(f"{name}={value} should be at least {least}")
    if maxiter is not None and maxiter < 0:
        raise ValueError(f"maxiter={maxiter} should not be negative")
    if np.issubdtype(operator.dtype, np.complexfloating):
        raise TypeError(f"A is {operator.dtype}; fcg solves real symmetric systems")
    columns: Any
    columns, shaped = _columns(A, np.asarray(b), "b", n)
    starts: Any = None if x0 is None else _columns(A, np.asarray(x0), "x0", n)[0]
    if starts is not None and starts.shape != columns.shape:
        raise ValueError(
            f"x0 has shape {np.asarray(x0).shape}, b {np.asarray(b).shape}: they should be alike"
        )
    precondition, setup = _preconditioner(M, n)
    null = _nullspace(getattr(A, "nullspace", None) if nullspace is None else nullspace, n)
    options: dict[str, Any] = {
        "rtol": rtol,
        "atol": atol,
        "maxiter": 10 * n if maxiter is None else maxiter,
        "callback": callback,
        "m": m,
        "every": recompute_every,
        "null": null,
    }
    classical = (lambda: _classical(A)) if fallback and M is not None else None
    begun = time.perf_counter()
    found = []
    # None: silent where the output is no terminal.
    with tqdm(desc="fcg", unit=" steps", leave=False, disable=None if progress else True) as bar:
        for k in range(columns.shape[1]):
            parts = []
            real = [columns[:, k].real, columns[:, k].imag] if np.iscomplexobj(columns) else [columns[:, k]]
            for which, part in enumerate(real):
                first = None if starts is None else (starts[:, k].real, starts[:, k].imag)[which]
                parts.append(_solve(operator, part, first, precondition, classical, bar=bar, **options))
            found.append(parts)
    seconds = time.perf_counter() - begun
    every = [part for parts in found for part in parts]
    x = np.stack([p[0].x + 1j * p[1].x if len(p) == 2 else p[0].x for p in found], 1)
    worst = next((part for part in every if not part.converged), every[0])
    result = SolveResult(
        shaped(x),
        all(part.converged for part in every),
        worst.reason,
        max(part.iterations for part in every),
        every[0].residuals if len(every) == 1 else [part.residuals for part in every],
        max(part.residual for part in every),
        setup,
        seconds,
    )
    return result if full_output else (result.x, result.info)


def _operator(A: Any, name: str) -> LinearOperator:
    operator = aslinearoperator(A)
    if operator.shape[0] != operator.shape[1]:
        raise ValueError(f"{name} has shape {operator.shape}, expected a square matrix")
    return operator


def _columns(
    A: Any, b: np.ndarray, name: str, n: int
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Right-hand sides as columns `(n, k)`, and what brings solutions to their shape."""
    if b.dtype.kind not in "biufc":
        raise ValueError(f"{name} holds {b.dtype}, expected numbers")
    b = b.astype(np.complex128 if b.dtype.kind == "c" else np.float64)
    if not np.isfinite(b).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    if isinstance(A, GridPoisson) and b.shape == A.mask.shape and b.shape != (n,):
        return A.vector(b)[:, None], lambda x: A.field(x[:, 0])
    if b.ndim not in (1, 2) or b.shape[0] != n:
        grid = f", or {A.mask.shape} on the grid" if isinstance(A, GridPoisson) else ""
        raise ValueError(
            f"{name} has shape {b.shape}, but A has shape {(n, n)}: expected ({n},) or ({n}, k){grid}"
        )
    return b.reshape(n, -1), lambda x: x.reshape(b.shape)


def _preconditioner(M: Any, n: int) -> tuple[Any, float]:
    if M is None:
        return None, 0.0
    seconds = float(getattr(M, "setup_seconds", 0.0))
    if callable(M) and not hasattr(M, "shape"):
        return M, seconds
    if getattr(M, "shape", None) is None:
        raise ValueError(
            f"M, a {type(M).__name__}, has no shape yet: call its `setup` with the operator first"
        )
    operator = _operator(M, "M")
    if operator.shape[0] != n:
        raise ValueError(f"M has shape {operator.shape}, but A has shape {(n, n)}")
    return operator.matvec, seconds


def _nullspace(columns: Any, n: int) -> Any:
    if columns is None or columns.shape[1] == 0:
        return None
    if columns.shape[0] != n:
        raise ValueError(f"nullspace has shape {columns.shape}, but A has shape {(n, n)}")
    return columns


def _classical(A: Any) -> tuple[str, Callable[[np.ndarray], np.ndarray] | None]:
    """A preconditioner that does not depend on learning, and its name."""
    if isinstance(A, GridPoisson):
        from solvers.multigrid import MultigridPreconditioner

        return "classical multigrid", MultigridPreconditioner().setup(A).matvec
    diagonal = A.diagonal() if hasattr(A, "diagonal") else None
    if diagonal is None or not (diagonal > 0).all():
        return "no preconditioner", None
    return "Jacobi's preconditioner", lambda r: r / diagonal


class _Failed(Exception):
    """The preconditioner is of no use; says why."""


def _solve(A, b, x0, M, classical, *, rtol, atol, maxiter, callback, m, every, null, bar) -> SolveResult:
    """Solve for one real right-hand side."""

    def project(v: np.ndarray) -> np.ndarray:
        return v if null is None else v - null @ (null.T @ v)

    size = norm(b)
    target = max(rtol * size, atol)
    if null is not None and norm(null.T @ b) > max(_COMPATIBLE * size, target):
        raise ValueError(
            f"b is not in the range of A: {norm(null.T @ b) / size:.1e} of it lies in the "
            "nullspace, so there is no solution; project it first, `op.project(b)`"
        )
    b = project(b)
    x = np.zeros_like(b) if x0 is None else project(x0.astype(np.float64))
    r = b - A.matvec(x) if x.any() else b.copy()
    left = norm(r)
    history, best, best_step, steps = [left], (left, x.copy()), 0, 0
    notes: list[str] = []

    def finish(reason: str) -> SolveResult:
        # The best x by its true residual, whatever the recursion says.
        last = min(((norm(b - A.matvec(v)), v) for v in (x, best[1])), key=lambda pair: pair[0])
        done = bool(last[0] <= target)
        reason = "; ".join([*notes, reason])
        return SolveResult(last[1], done, reason, steps, np.array(history), last[0], 0.0, 0.0)

    def restarted() -> tuple[deque, int]:
        return deque(maxlen=m), 0

    previous, stalled = restarted()
    while True:
        if left <= target:
            r = project(b - A.matvec(x))
            left = norm(r)
            if left <= target:
                return finish(f"the true residual {left:.2e} is at most {target:.2e}")
            previous, stalled = restarted()  # rounding had crept in
            if left >= 0.9 * best[0] and len(history) > 1 and steps >= best_step + 2:
                return finish(
                    f"the residual {left:.2e} does not get smaller in float64, {target:.2e} was asked"
                )
        if steps >= maxiter:
            return finish(f"maxiter={maxiter} steps were not enough")
        try:
            z = r if M is None else np.asarray(M(r), np.float64).reshape(-1)
            if z.shape != r.shape:
                raise ValueError(f"M returned shape {z.shape} for a vector of shape {r.shape}")
            if not np.isfinite(z).all():
                raise _Failed("M returned numbers that are not finite")
            p = project(z)
            for q, Aq, qAq in previous:
                p = p - (dot(z, Aq) / qAq) * q
            Ap = A.matvec(p)
            curvature, slope = dot(p, Ap), dot(p, r)
            if not np.isfinite(curvature):
                return finish("A returned numbers that are not finite")
            if curvature <= 0:
                if not p.any():
                    raise _Failed("M returned nothing new")
                return finish(f"A is not positive definite: p.Ap = {curvature:.2e} for a direction p")
            step = slope / curvature
            x, r = x + step * p, r - step * Ap
            steps += 1
            previous.append((p, Ap, curvature))
            if every and steps % every == 0:
                r = project(b - A.matvec(x))
            left = norm(r)
            history.append(left)
            bar.set_postfix_str(f"residual {left:.1e} of {target:.1e}", refresh=False)
            bar.update()
            if callback is not None:
                callback(x)
            if left < best[0]:
                best, best_step, stalled = (left, x), steps, 0
            else:
                stalled += 1
            if not np.isfinite(left):
                raise _Failed("the residual is not finite")
            # Without another preconditioner at hand the method itself knows best.
            if classical is not None and left > _GROWTH * history[0]:
                raise _Failed(f"the residual grew to {left:.1e}")
            if classical is not None and stalled >= _STALL:
                raise _Failed(f"no progress in {_STALL} steps")
        except _Failed as failure:
            if classical is None:
                return finish(str(failure))
            name, M = classical()
            notes.append(f"{failure}, went on with {name} from step {steps}")
            classical = None
            x = best[1]
            r = project(b - A.matvec(x))
            left = norm(r)
            previous, stalled = restarted()
