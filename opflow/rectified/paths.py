"""Paths between two samples, and the velocities along them."""

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor

_CLOSE = 1e-3  # the least weight by which an end is divided out: what is predicted there has no velocity


class Path(abc.ABC):
    r"""A path :math:`x_t = a(t) x_0 + b(t) x_1`, t from 0 to 1, and :math:`\dot x_t = a' x_0 + b' x_1`."""

    blur: float = 0.0

    @abc.abstractmethod
    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return a, b and their derivatives at times of any shape."""

    def point(self, x0: Tensor, x1: Tensor, t: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the point at time t and the velocity there.

        Args:
            x0: start, `(batch, ...)`.
            x1: end, the same shape.
            t: `(batch,)`, in [0, 1].
            noise: for a path with a blur, of the shape of the ends; standard normal when None.

        Returns:
            The point and the velocity, each `(batch, ...)`.

        Raises:
            ValueError: the ends have different shapes: they live on different grids.
        """
        if x0.shape != x1.shape:
            raise ValueError(
                f"the ends of a path lie on one grid, got shapes {tuple(x0.shape)} and {tuple(x1.shape)}: "
                "resample one of them (pde_data.resample)"
            )
        a, b, da, db = (_over(c, x0) for c in self.coefficients(t))
        x = a * x0 + b * x1
        if self.blur:
            x = x + self.blur * (torch.randn_like(x) if noise is None else noise)
        return x, da * x0 + db * x1

    def velocity_to(self, x1: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Velocity at the point x, if the path through it ends in x1; t is `(batch,)`."""
        a, b, da, db = (_over(c, x) for c in self.coefficients(t))
        return da * (x - b * x1) / a.clamp_min(_CLOSE) + db * x1

    def across(self, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
        r"""What lies at a right angle to the point, :math:`(a x_1 - b x_0) / \rho`.

        With :math:`\rho^2 = a^2 + b^2`. Point and this together are a rotation of the two ends: a network
        that predicts it has a target of one size at all times, the end x_1 at t = 0 and minus the start at
        t = 1 (Salimans, Ho, Progressive Distillation, 2022; Karras et al., Elucidating the Design Space of
        Diffusion-Based Models, 2022).
        """
        a, b, *_ = (_over(c, x0) for c in self.coefficients(t))
        return (a * x1 - b * x0) / (a.square() + b.square()).sqrt()

    def velocity_across(self, across: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Velocity at the point x, if `across` lies at a right angle to it; t is `(batch,)`."""
        a, b, da, db = (_over(c, x) for c in self.coefficients(t))
        square = a.square() + b.square()
        return ((da * a + db * b) * x + (db * a - da * b) * square.sqrt() * across) / square

    def size(self, x: Tensor, t: Tensor) -> Tensor:
        r"""Size :math:`\rho` of points between independent ends of size one; t is `(batch,)`."""
        a, b, *_ = (_over(c, x) for c in self.coefficients(t))
        return (a.square() + b.square()).sqrt()


@dataclass(frozen=True)
class Straight(Path):
    r"""The straight path, :math:`x_t = (1 - (1 - \sigma) t)\, x_0 + t\, x_1`.

    With :math:`\sigma = 0` it is that of rectified flow, with a small :math:`\sigma` a share of the noise
    x_0 is left at the end. A blur adds to every point, though not to the velocity, noise of that size.

    Args:
        sigma: share of the start that is left at the end, in [0, 1).
        blur: standard deviation of what is added to the points.

    Raises:
        ValueError: a number out of range.

    Source: Liu et al., Flow Straight and Fast, 2023; Lipman et al., Flow Matching for Generative Modeling,
    2023, equation 22; for the blur Tong et al., Improving and Generalizing Flow-Based Generative Models with
    Minibatch Optimal Transport, 2024.

    Example:
        >>> x, v = Straight().point(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([0.25]))
        >>> x, v
        (tensor([[0.2500, 0.2500]]), tensor([[1., 1.]]))
    """

    sigma: float = 0.0
    blur: float = 0.0

    def __post_init__(self):
        if not 0 <= self.sigma < 1:
            raise ValueError(f"sigma={self.sigma} must be in [0, 1): a share of the start")
        if not self.blur >= 0:
            raise ValueError(f"blur={self.blur} must not be negative")

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `Path.coefficients`."""
        one = torch.ones_like(t)
        return 1 - (1 - self.sigma) * t, t, (self.sigma - 1) * one, one


@dataclass(frozen=True)
class VariancePreserving(Path):
    r"""The path :math:`x_t = \cos(\pi t / 2)\, x_0 + \sin(\pi t / 2)\, x_1`, for reference.

    Independent ends of unit variance have points of unit variance between them. It is the cosine schedule of
    diffusion models, from noise to data.

    Source: Albergo, Vanden-Eijnden, Building Normalizing Flows with Stochastic Interpolants, 2023.

    Example:
        >>> path = VariancePreserving()
        >>> a, b, *_ = path.coefficients(torch.tensor([0.3]))
        >>> torch.allclose(a**2 + b**2, torch.ones(1))
        True
    """

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `Path.coefficients`."""
        rate = math.pi / 2
        cos, sin = torch.cos(rate * t), torch.sin(rate * t)
        return cos, sin, -rate * sin, rate * cos


@dataclass(frozen=True)
class Reversed(Path):
    """Another path, run from its end to its start.

    Args:
        path: the other path.

    Example:
        >>> there, back = Straight(sigma=0.5), Reversed(Straight(sigma=0.5))
        >>> noise, code, t = torch.zeros(1, 1), torch.ones(1, 1), torch.tensor([0.0])
        >>> there.point(code, noise, 1 - t)[0] == back.point(noise, code, t)[0]
        tensor([[True]])
    """

    path: Path

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `Path.coefficients`."""
        a, b, da, db = self.path.coefficients(1 - t)
        return b, a, -db, -da


def _over(c: Tensor, x: Tensor) -> Tensor:
    return c.to(x).reshape(-1, *(1,) * (x.ndim - 1))
