"""A multigrid cycle on masked grids: matrix-free, symmetric positive definite by construction."""

from __future__ import annotations

import time
import warnings
from typing import Any, Self, final

import numpy as np
import torch

from solvers.device import DeviceCycle, usable
from solvers.grid import GridPoisson
from solvers.hierarchy import Level, ladder
from solvers.lines import clear_rim, fill_rim
from solvers.preconditioner import WeightedPreconditioner, pretrained
from solvers.stencil_loops import call
from solvers.vectors import multiply
from solvers.weights import CycleWeights


@final
class MultigridPreconditioner(WeightedPreconditioner):
    r"""One V-cycle for a `GridPoisson` operator, with classical or learned weights.

    With the smoother $S = I - p(D^{-1}A) D^{-1}A$ before and after the coarse correction, and the coarse
    solution $B_c$,

    $$ B = \bar S + S P B_c P^\top S^\top , $$

    where $\bar S = (I - S S) A^{-1}$ is positive definite whenever the smoother converges. So $B$ is
    symmetric positive definite for *any* interpolation $P$ and any positive coarse conductances: what is
    learned decides how fast, never whether, conjugate gradients get there. The eigenvalues of $D^{-1}A$ lie
    between 0 and 2 for every stencil, and on that range the error polynomial of the smoother is below 1.

    Args:
        weights: what is learned; classical values when None.
        dtype: precision inside, float32 or float64. Vectors keep theirs.
        num_threads: threads of the kernels; those of the operator when None.
        device: where the cycle runs, a device of torch such as "cuda"; the compiled kernels when None. It is
            set up on the CPU either way.

    Raises:
        ValueError: `dtype` is another, or the device cannot be used.

    Example:
        >>> import numpy as np
        >>> from scipy.sparse.linalg import cg
        >>> mask = np.ones((64, 64), bool)
        >>> mask[20:30, 20:40] = False
        >>> op = GridPoisson(mask, spacing=1 / 64)
        >>> M = MultigridPreconditioner().setup(op)
        >>> x, info = cg(op, np.ones(op.shape[0]), M=M, rtol=1e-6, maxiter=12)
        >>> info
        0
    """

    is_linear = True
    is_spd = True
    weights_class = CycleWeights

    def __init__(
        self,
        weights: CycleWeights | None = None,
        *,
        dtype: Any = np.float32,
        num_threads: int | None = None,
        device: str | torch.device | None = None,
    ):
        super().__init__(CycleWeights() if weights is None else weights)
        self.inner_dtype = np.dtype(dtype)
        if self.inner_dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype={dtype} should be float32 or float64")
        self._threads = num_threads
        self.device = None if device is None else usable(device)
        self.takes_columns = self.device is not None

    @classmethod
    def from_pretrained(cls, name: str, **options: Any) -> Self:
        """Take weights that come with the package; `options` as for the class.

        Args:
            name: "poisson2d" or "poisson3d", learned on masked domains with mixed boundaries, constant and
                variable coefficients.
            options: as for the class.

        Raises:
            ValueError: the name is unknown.
        """
        return cls.load(pretrained(name, "poisson"), **options)

    def setup(self, op: GridPoisson) -> Self:
        """Build the levels for an operator; return the preconditioner itself.

        Raises:
            TypeError: the operator is not a `GridPoisson`.
        """
        if not isinstance(op, GridPoisson):
            raise TypeError(
                f"MultigridPreconditioner works on a GridPoisson, got {type(op).__name__}: make one of a "
                "sparse matrix on a grid with GridPoisson.from_csr, take GraphPreconditioner for any other"
            )
        learned = self.weights.ndim
        if learned not in (None, op.mask.ndim):
            warnings.warn(
                f"these weights were learned on domains of {learned} axes, this one has {op.mask.ndim}: the "
                "cycle stays symmetric positive definite, but may be no better than without them",
                stacklevel=2,
            )
        self._of_operator = op.num_threads
        start = time.perf_counter()
        self._levels, self._inverse, scale, closed = ladder(op.stencil, self.weights, self.inner_dtype)
        self._scale = 1 / scale
        self._project = op.project if closed else None
        if self.device is not None:
            components = op.stencil.components if closed else None
            self._on_device = DeviceCycle(self._levels, self._inverse, scale, components, self.device)
        self._begin(op.shape[0])
        self.setup_seconds = time.perf_counter() - start
        return self

    def update(self, mask: np.ndarray, **options: Any) -> Self:
        """Set up again for another mask; `options` as for `GridPoisson`."""
        return self.setup(GridPoisson(mask, **options))

    @property
    def num_threads(self) -> int:
        """Threads of the kernels."""
        return self._threads or self._of_operator

    @property
    def levels(self) -> int:
        """Number of grids."""
        return len(self._levels)

    def apply(self, r: Any) -> Any:
        """Apply one cycle to a vector `(size,)`; with a `device` to vectors `(size, k)` and tensors, too.

        Tensors keep their device, so nothing is copied where that is the preconditioner's.

        Raises:
            TypeError: a tensor is given without a `device`.
        """
        if self.device is not None:
            if isinstance(r, torch.Tensor):
                return self._on_device(r)
            return self._on_device(torch.tensor(r)).numpy()  # a copy: r may be read-only
        if isinstance(r, torch.Tensor):
            raise TypeError(
                f"the compiled kernels take NumPy arrays, got a tensor on {r.device}: make a preconditioner "
                f'for it, MultigridPreconditioner(device="{r.device}")'
            )
        greatest = float(np.abs(r).max(initial=0.0))
        if greatest == 0 or not np.isfinite(greatest):
            return r * 0.0  # NaN for what is not finite
        size = 2.0 ** np.frexp(greatest)[1]  # exact, and out of reach of overflow in float32
        if self._project is not None:
            r = self._project(r)
        finest, threads = self._levels[0], self.num_threads
        z = np.empty_like(r)
        call("scatter", finest.lines, threads, r, 1 / size, finest.right)
        call("gather", finest.lines, threads, self._cycle(0), size * self._scale, z)
        return z if self._project is None else self._project(z)

    def _cycle(self, depth: int) -> np.ndarray:
        """Solve roughly for the right-hand side of a level; return the array that holds the solution."""
        level, threads = self._levels[depth], self.num_threads
        if level.down is None:
            b = np.empty(level.lines.unknowns, level.dtype)
            call("gather", level.lines, 1, level.right, 1.0, b)
            x = np.empty_like(b)
            multiply(self._inverse, b, x)
            call("scatter", level.lines, 1, x, 1.0, level.u)
            return level.u
        steps = level.steps
        u, v = level.u, level.v
        if len(steps) % 2 == 0:
            u, v = v, u
        # Prolongation writes into solid cells too. They never count, but must not grow.
        level.u.fill(0)
        call("start", level.lines, threads, level.right, level.matrix.diagonal, steps[0], u)
        for step in steps[1:]:
            u, v = self._smoothed(level, step, u, v)
        fill_rim(u, level.lines, level.periodic)
        # The array that is free holds the residual: outside of the fluid it is zero.
        clear_rim(v, level.lines, level.periodic)
        call("residual", level.lines, threads, u, *level.matrix.arguments, level.right, v)
        below = self._levels[depth + 1]
        level.down.restrict(v, below.right, threads)
        level.down.prolong(self._cycle(depth + 1), u, threads)
        for step in reversed(steps):
            u, v = self._smoothed(level, step, u, v)
        return u

    def _smoothed(
        self, level: Level, step: Any, u: np.ndarray, v: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Take a smoothing step from u to v; return v and u."""
        fill_rim(u, level.lines, level.periodic)
        arguments = (u, *level.matrix.arguments, level.right, step, v)
        call("smooth", level.lines, self.num_threads, *arguments)
        return v, u
