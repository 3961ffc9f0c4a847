"""Matrices over channels that are invertible for every value of their parameters."""

import abc

import torch
from torch import Tensor, nn

from opflow.nn.invertible.bijection import soft_bound

_LIMIT = 3.0  # of the logarithm of a diagonal entry


class InvertibleMatrix(nn.Module, abc.ABC):
    """A stack of invertible matrices `(groups, channels, channels)`, one parameter tensor.

    Args:
        channels: rows and columns.
        groups: number of matrices.
    """

    def __init__(self, channels: int, groups: int = 1):
        super().__init__()
        self.entries = nn.Parameter(torch.zeros(groups, channels, channels))

    @abc.abstractmethod
    def forward(self) -> Tensor:
        """Return the matrices."""

    @abc.abstractmethod
    def inverse(self) -> Tensor:
        """Return their inverses."""

    @abc.abstractmethod
    def log_abs_det(self) -> Tensor:
        """Return the sum over the groups of the logarithms of their absolute determinants."""

    def _log_diagonal(self) -> Tensor:
        return soft_bound(self.entries.diagonal(dim1=-2, dim2=-1), _LIMIT)

    def _with_diagonal(self, values: Tensor) -> Tensor:
        return self.entries.diagonal_scatter(values, dim1=-2, dim2=-1)

    def _identity(self) -> Tensor:
        size = self.entries.shape[-1]
        eye = torch.eye(size, dtype=self.entries.dtype, device=self.entries.device)
        return eye.expand_as(self.entries)


class PLU(InvertibleMatrix):
    r"""Any matrix of a given permutation, :math:`A = P L (U + \mathrm{diag}(\pm e^d))`; starts as a rotation.

    The permutation and the signs of the diagonal are those of a random rotation and stay. Below the diagonal
    of the parameter is L, above it U, on it d.

    Source: Kingma and Dhariwal, Glow, 2018, equation 10.

    Example:
        >>> matrix = PLU(5)
        >>> a = matrix()
        >>> torch.allclose(a @ matrix.inverse(), torch.eye(5), atol=1e-5)
        True
        >>> torch.allclose(torch.linalg.slogdet(a)[1].sum(), matrix.log_abs_det(), atol=1e-5)
        True
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int, groups: int = 1):
        super().__init__(channels, groups)
        rotation = torch.linalg.qr(torch.randn(groups, channels, channels, dtype=torch.float64))[0]
        permutation, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal(dim1=-2, dim2=-1)
        self.register_buffer("permutation", permutation.to(self.entries.dtype))
        self.register_buffer("sign", diagonal.sign().to(self.entries.dtype))
        log = (diagonal.abs().log() / _LIMIT).clamp(-0.999, 0.999)
        packed = lower.tril(-1) + upper.triu(1) + torch.diag_embed(_LIMIT * torch.atanh(log))
        self.entries.data.copy_(packed)

    def _upper(self) -> Tensor:
        return self._with_diagonal(self.sign * self._log_diagonal().exp())

    def forward(self) -> Tensor:
        """Return the matrices."""
        p = self.permutation
        return torch.baddbmm(p, p, self.entries.tril(-1)) @ self._upper().triu()

    def inverse(self) -> Tensor:
        """Return their inverses, by substitution."""
        # Each solve reads its own triangle only.
        solve = torch.linalg.solve_triangular
        half = solve(self.entries, self.permutation.mT, upper=False, unitriangular=True)
        return solve(self._upper(), half, upper=True)

    def log_abs_det(self) -> Tensor:
        """Return the sum of the logarithms of their absolute determinants."""
        return self._log_diagonal().sum()


class Triangular(InvertibleMatrix):
    """Lower triangular matrices with positive diagonal; start as the identity.

    Example:
        >>> matrix = Triangular(3)
        >>> _ = matrix.entries.data.normal_()
        >>> matrix().detach()[0].triu(1).abs().sum().item()
        0.0
    """

    def forward(self) -> Tensor:
        """Return the matrices."""
        return self._with_diagonal(self._log_diagonal().exp()).tril()

    def inverse(self) -> Tensor:
        """Return their inverses, by substitution."""
        return torch.linalg.solve_triangular(self(), self._identity(), upper=False)

    def log_abs_det(self) -> Tensor:
        """Return the sum of the logarithms of their determinants."""
        return self._log_diagonal().sum()


class UnitTriangular(InvertibleMatrix):
    """Lower triangular matrices with ones on the diagonal; start as the identity.

    Whatever an optimiser does to the parameter, what lies on and above the diagonal is never read.

    Example:
        >>> matrix = UnitTriangular(3)
        >>> _ = matrix.entries.data.normal_()
        >>> matrix()[0].diagonal().tolist(), float(matrix.log_abs_det())
        ([1.0, 1.0, 1.0], 0.0)
    """

    def forward(self) -> Tensor:
        """Return the matrices."""
        return self.entries.tril(-1) + self._identity()

    def inverse(self) -> Tensor:
        """Return their inverses, by substitution."""
        solve = torch.linalg.solve_triangular
        return solve(self.entries, self._identity(), upper=False, unitriangular=True)

    def log_abs_det(self) -> Tensor:
        """Return zero."""
        return self.entries.new_zeros(())


CORNERS: dict[str, type[InvertibleMatrix]] = {
    "plu": PLU,
    "triangular": Triangular,
    "unit": UnitTriangular,
}
