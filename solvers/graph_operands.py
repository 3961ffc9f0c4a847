"""Matrices of a hierarchy as training sees them: products, sweeps of relaxation and solutions with gradients.

A sparse matrix is given, a dense one depends on what is learned.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from solvers.graph_loops import relax


class DenseOperand:
    """A matrix `(n, n)` with gradients; rows and columns may be zero."""

    def __init__(self, entries: Tensor):
        self.entries = entries

    def __matmul__(self, x: Tensor) -> Tensor:
        """Product with columns."""
        return self.entries @ x

    def sweep(self, b: Tensor, factors: Tensor, forward: bool) -> Tensor:
        """What `graph_loops.relax` makes of zero: solve with a triangle, `1 / factors` on its diagonal."""
        part = torch.tril(self.entries, -1) if forward else torch.triu(self.entries, 1)
        return torch.linalg.solve_triangular(part + torch.diag(1 / factors), b, upper=not forward)

    def solve(self, b: Tensor) -> Tensor:
        """Solution, zero where rows are."""
        empty = torch.diagonal(self.entries) == 0
        return torch.linalg.solve(self.entries + torch.diag(empty.to(b.dtype)), b)


class SparseOperand:
    """A given matrix `(n, n)`: gradients reach vectors and factors."""

    def __init__(self, A: sparse.csr_matrix):
        self.A = A

    def __matmul__(self, x: Tensor) -> Tensor:
        """Product with columns."""
        return _Product.apply(x, self.A)

    def sweep(self, b: Tensor, factors: Tensor, forward: bool) -> Tensor:
        """As of a `DenseOperand`, for a symmetric matrix."""
        return _Sweep.apply(b, factors, self.A, forward)

    def solve(self, b: Tensor) -> Tensor:
        """Solution, without gradients."""
        return torch.from_numpy(splu(self.A.tocsc()).solve(b.detach().numpy()))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, A: sparse.csr_matrix) -> Tensor:
        ctx.A = A
        return torch.from_numpy(A @ x.detach().numpy())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return torch.from_numpy(ctx.A.T @ grad.numpy()), None


class _Sweep(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, b: Tensor, factors: Tensor, A: sparse.csr_matrix, forward: bool) -> Tensor:
        x = _swept(A, factors, b, forward)
        ctx.save_for_backward(x, factors)
        ctx.A, ctx.forward = A, forward
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, factors = ctx.saved_tensors
        y = _swept(ctx.A, factors, grad, not ctx.forward)
        return y, (x * y).sum(1) / factors**2, None, None


def _swept(A: sparse.csr_matrix, factors: Tensor, b: Tensor, forward: bool) -> Tensor:
    columns = []
    for column in b.detach().numpy().T:
        x = np.zeros(len(column))
        relax(A.indptr, A.indices, A.data, factors.detach().numpy(), np.ascontiguousarray(column), x, forward)
        columns.append(x)
    return torch.from_numpy(np.stack(columns, axis=1))
