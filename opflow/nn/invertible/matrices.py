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

    def _lower(self) -> Tensor:
        return self.entries.tril(-1) + torch.eye(self.entries.shape[-1]).to(self.entries)

    def _log_diagonal(self) -> Tensor:
        return soft_bound(self.entries.diagonal(dim1=-2, dim2=-1), _LIMIT)


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

    order: Tensor
    sign: Tensor

    def __init__(self, channels: int, groups: int = 1):
        super().__init__(channels, groups)
        rotation = torch.linalg.qr(torch.randn(groups, channels, channels, dtype=torch.float64))[0]
        p, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal(dim1=-2, dim2=-1)
        self.register_buffer("order", p.argmax(-1))
        self.register_buffer("sign", diagonal.sign().to(self.entries.dtype))
        # Tiny pivots do not occur below some hundreds of channels; the limit on the logarithm is wide.
        log = (diagonal.abs().log() / _LIMIT).clamp(-0.999, 0.999)
        packed = lower.tril(-1) + upper.triu(1) + torch.diag_embed(_LIMIT * torch.atanh(log))
        self.entries.data.copy_(packed)

    def _upper(self) -> Tensor:
        return self.entries.triu(1) + torch.diag_embed(self.sign * self._log_diagonal().exp())

    def forward(self) -> Tensor:
        """Return the matrices."""
        product = self._lower() @ self._upper()
        return product.take_along_dim(self.order[..., None], 1)

    def inverse(self) -> Tensor:
        """Return their inverses, by substitution."""
        permutation = torch.eye(self.order.shape[-1]).to(self.entries)[self.order]
        half = torch.linalg.solve_triangular(self._lower(), permutation.mT, upper=False, unitriangular=True)
        return torch.linalg.solve_triangular(self._upper(), half, upper=True)

    def log_abs_det(self) -> Tensor:
        """Return the sum of the logarithms of their absolute determinants."""
        return self._log_diagonal().sum()


class Triangular(InvertibleMatrix):
    """Lower triangular matrices with positive diagonal; start as the identity.

    Example:
        >>> matrix = Triangular(3)
        >>> matrix.entries.data.normal_()[0, 0, 0] is not None, float(matrix()[0, 0, 2])
        (True, 0.0)
    """

    def forward(self) -> Tensor:
        """Return the matrices."""
        return self.entries.tril(-1) + torch.diag_embed(self._log_diagonal().exp())

    def inverse(self) -> Tensor:
        """Return their inverses, by substitution."""
        identity = torch.eye(self.entries.shape[-1]).to(self.entries).expand_as(self.entries)
        return torch.linalg.solve_triangular(self(), identity, upper=False)

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
        return self._lower()

    def inverse(self) -> Tensor:
        """Return their inverses, by substitution."""
        identity = torch.eye(self.entries.shape[-1]).to(self.entries).expand_as(self.entries)
        return torch.linalg.solve_triangular(self(), identity, upper=False, unitriangular=True)

    def log_abs_det(self) -> Tensor:
        """Return zero."""
        return self.entries.new_zeros(())


CORNERS: dict[str, type[InvertibleMatrix]] = {
    "plu": PLU,
    "triangular": Triangular,
    "unit": UnitTriangular,
}
