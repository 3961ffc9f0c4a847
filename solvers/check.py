"""What a preconditioner is, found out by trying: linear, symmetric, positive, how good, what for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import eigvalsh_tridiagonal
from scipy.sparse.linalg import aslinearoperator

_ANY = ("fcg", "scipy gcrotmk", "pyamg fgmres")
_LINEAR = ("scipy gmres", "scipy bicgstab", "scipy lgmres")
_SYMMETRIC = ("scipy cg", "scipy minres")


@dataclass(frozen=True)
class PreconditionerReport:
    """What `check_preconditioner` found; printing it gives a table.

    Attributes:
        linearity: greatest relative difference between M of a sum and the sum of M.
        symmetry: greatest relative difference between x.My and y.Mx.
        positivity: least x.Mx over the lengths of x and Mx.
        eigenvalues: estimates of the least and greatest eigenvalue of MA; None unless M is linear, symmetric
            and positive.
        tolerance: differences up to this count as rounding.
        solvers: those that may be used with it.
    """

    linearity: float
    symmetry: float
    positivity: float
    eigenvalues: tuple[float, float] | None
    tolerance: float
    solvers: tuple[str, ...]

    @property
    def is_linear(self) -> bool:
        """Whether M is linear."""
        return self.linearity <= self.tolerance

    @property
    def is_symmetric(self) -> bool:
        """Whether M is symmetric."""
        return self.symmetry <= self.tolerance

    @property
    def is_positive(self) -> bool:
        """Whether no probe contradicts that M is positive definite."""
        return self.positivity > 0

    @property
    def is_spd(self) -> bool:
        """Whether M is linear, symmetric and, as far as probes tell, positive definite."""
        return self.is_linear and self.is_symmetric and self.is_positive

    @property
    def advice(self) -> str:
        """What to do with it, in a sentence."""
        if self.is_spd:
            low, high = self.eigenvalues or (1.0, 1.0)
            steps = max(1, round(0.5 * np.sqrt(high / low) * np.log(2e6)))
            return f"symmetric positive definite: scipy cg will do, in at most about {steps} steps to 1e-6"
        if self.is_linear and not self.is_symmetric:
            return "not symmetric: cg and minres fail with it; use scipy gcrotmk, gmres or bicgstab"
        if self.is_linear:
            return "not positive definite: cg and minres may fail with it; use scipy gcrotmk or gmres"
        return "not linear: use fcg, scipy gcrotmk or pyamg fgmres; other solvers assume that it is"

    def __str__(self) -> str:
        """A table."""

        def row(name: str, value: float, good: bool) -> str:
            return f"{name:32}{value:12.1e}  {'yes' if good else 'NO'}"

        lines = [
            row("linear: M(x + y) - Mx - My", self.linearity, self.is_linear),
            row("symmetric: x.My - y.Mx", self.symmetry, self.is_symmetric),
            row("positive: least x.Mx", self.positivity, self.is_positive),
        ]
        if self.eigenvalues is not None:
            low, high = self.eigenvalues
            lines.append(f"eigenvalues of MA, about         {low:.2e} to {high:.2e}, ratio {high / low:.3g}")
        return "\n".join([*lines, f"solvers: {', '.join(self.solvers)}", self.advice])


def check_preconditioner(
    A: Any, M: Any, *, probes: int = 8, steps: int = 24, tolerance: float = 1e-5, seed: int = 0
) -> PreconditionerReport:
    """Try a preconditioner on random vectors, and say which solvers may use it.

    Args:
        A: the matrix, as for `fcg`, symmetric.
        M: the preconditioner, an operator of the same shape.
        probes: random vectors.
        steps: Lanczos steps for the eigenvalues.
        tolerance: relative differences that count as rounding; 1e-5 suits a preconditioner that works in
            float32 inside, 1e-10 one in float64.
        seed: of the vectors.

    Raises:
        ValueError: the shapes differ, or M returns numbers that are not finite.

    Example:
        >>> import numpy as np, scipy.sparse
        >>> A = scipy.sparse.diags_array(np.arange(1.0, 50.0))
        >>> check_preconditioner(A, scipy.sparse.diags_array(1 / np.arange(1.0, 50.0))).advice
        'symmetric positive definite: scipy cg will do, in at most about 7 steps to 1e-6'
    """
    A, M = aslinearoperator(A), aslinearoperator(M)
    if A.shape != M.shape:
        raise ValueError(f"M has shape {M.shape}, A has shape {A.shape}: they should be alike")
    rng = np.random.default_rng(seed)
    null = getattr(A, "nullspace", None)

    def draw() -> np.ndarray:
        v = rng.standard_normal(A.shape[0])
        v = v if null is None or null.shape[1] == 0 else v - null @ (null.T @ v)
        return v / np.linalg.norm(v)

    linearity: Any = 0.0
    symmetry: Any = 0.0
    positivity = np.inf
    for _ in range(probes):
        x, y = draw(), draw()
        a, b = 10.0 ** rng.uniform(-2, 2, 2)
        Mx, My, both = M.matvec(x), M.matvec(y), M.matvec(a * x + b * y)
        if not np.isfinite(np.concatenate([Mx, My, both])).all():
            raise ValueError("M returned numbers that are not finite for a random vector")
        size = np.linalg.norm(Mx) + np.linalg.norm(My)
        apart = np.linalg.norm(both - a * Mx - b * My)
        linearity = max(linearity, apart / (np.linalg.norm(a * Mx) + np.linalg.norm(b * My) or 1.0))
        symmetry = max(symmetry, abs(x @ My - y @ Mx) / (size or 1.0))
        positivity = min(positivity, x @ Mx / (np.linalg.norm(Mx) or 1.0))
    linear, symmetric = linearity <= tolerance, symmetry <= tolerance
    solvers = (
        _ANY + (_LINEAR if linear else ()) + (_SYMMETRIC if linear and symmetric and positivity > 0 else ())
    )
    eigenvalues = _eigenvalues(A, M, draw(), steps) if linear and symmetric and positivity > 0 else None
    found = (float(linearity), float(symmetry), float(positivity))
    return PreconditionerReport(*found, eigenvalues, tolerance, solvers)


def _eigenvalues(A: Any, M: Any, r: np.ndarray, steps: int) -> tuple[float, float]:
    """Extreme eigenvalues of MA from the coefficients of conjugate gradients."""
    z = M.matvec(r)
    p, rz = z, r @ z
    start, diagonal, beside = rz, [], []
    step, turn = 1.0, 0.0
    for _ in range(min(steps, len(r))):
        Ap = A.matvec(p)
        before, step = step, rz / (p @ Ap)
        diagonal.append(1 / step + turn / before)
        r = r - step * Ap
        z = M.matvec(r)
        rz, last = r @ z, rz
        if not rz > 1e-20 * start:
            break
        turn = rz / last
        beside.append(np.sqrt(turn) / step)
        p = z + turn * p
    found = eigvalsh_tridiagonal(diagonal, beside[: len(diagonal) - 1])
    return float(found[0]), float(found[-1])
