r"""Functions on the unit disc that local integral kernels are made of.

A basis is evaluated at points (x, y), in units of the radius of its support. Its functions are scaled so that
:math:`\int |\psi_l| = 1`, for the continuous integral: a field bounded by one then gives outputs bounded by
one, whatever the basis, also where a function has mean zero and could not be scaled to a sum of one, and the
scale does not depend on a grid. Every function takes part: there are exactly as many as `len(basis)` says.
"""

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


class FilterBasis(abc.ABC):
    """Functions on the unit disc, zero outside."""

    scales: ClassVar[list[float]]

    @abc.abstractmethod
    def __len__(self) -> int:
        """Return the number of functions."""

    @abc.abstractmethod
    def shapes(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the functions, not yet scaled, at points of the disc: `(len, *points)`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", self._scales())  # the instances are frozen

    def _scales(self) -> list[float]:
        """Return one over the integral of the modulus of each function over the disc."""
        rings, angles = 240, 720  # a midpoint rule in polar coordinates, right to about 1e-4
        r = (torch.arange(rings, dtype=torch.float64) + 0.5)[:, None] / rings
        phi = (torch.arange(angles, dtype=torch.float64) + 0.5) * (2 * math.pi / angles)
        area = r * (2 * math.pi / (rings * angles))
        values = self.shapes(r * phi.cos(), r * phi.sin())
        return (1 / (values.abs() * area).sum((1, 2))).tolist()

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the functions at points in units of the radius: `(len, *points)`, in their dtype."""
        inside = (x.square() + y.square() <= 1).to(x.dtype)
        scales = torch.tensor(self.scales, dtype=x.dtype, device=x.device)
        return self.shapes(x, y) * inside * scales.view(-1, *(1,) * x.ndim)


@dataclass(frozen=True)
class PiecewiseLinear(FilterBasis):
    """Hats in radius times hats in angle: a partition of unity that falls to zero at the edge.

    One isotropic hat in the middle, then `rings - 1` rings of `angles` hats each. They are continuous, so
    that sums over a grid converge at second order.

    Example:
        >>> len(PiecewiseLinear(rings=3, angles=4))
        9
    """

    rings: int
    angles: int

    def __len__(self) -> int:
        return 1 + (self.rings - 1) * self.angles

    def shapes(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the hats: the middle one, then ring by ring."""
        radius = self.rings * (x.square() + y.square()).sqrt()
        radial = [(1 - (radius - ring).abs()).clamp(min=0) for ring in range(self.rings)]
        if self.angles == 1:
            return torch.stack(radial)
        turn = torch.atan2(y, x) * (self.angles / (2 * math.pi))
        half = self.angles / 2
        angular = [
            (1 - ((turn - at + half).remainder(self.angles) - half).abs()).clamp(min=0)
            for at in range(self.angles)
        ]
        return torch.stack([radial[0], *(ring * hat for ring in radial[1:] for hat in angular)])


@dataclass(frozen=True)
class Morlet(FilterBasis):
    """A Gaussian times waves in x and y, `waves_x` by `waves_y` of them: 1, sin, cos, sin of twice, ...

    Source: the filter basis of torch-harmonics, with its width of a quarter of the radius.

    Example:
        >>> len(Morlet(waves_x=3, waves_y=2))
        6
    """

    waves_x: int
    waves_y: int

    def __len__(self) -> int:
        return self.waves_x * self.waves_y

    def shapes(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the products, those of one wave in x together."""
        width = 0.25
        window = torch.exp(-0.5 * (x.square() + y.square()) / width**2)

        def wave(k: int, t: Tensor) -> Tensor:
            phase = (k + 1) // 2 * math.pi / width * t
            return phase.sin() if k % 2 else phase.cos()

        along_y = [wave(k, y) for k in range(self.waves_y)]
        return torch.stack([window * wave(k, x) * other for k in range(self.waves_x) for other in along_y])


@dataclass(frozen=True)
class Zernike(FilterBasis):
    """Zernike polynomials below a degree, orthogonal on the disc; they jump at its edge.

    Example:
        >>> len(Zernike(degree=4))
        10
    """

    degree: int

    def __len__(self) -> int:
        return self.degree * (self.degree + 1) // 2

    def shapes(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the polynomials by degree n and then m = -n, -n + 2, ..., n; sines where m < 0."""
        r, phi = (x.square() + y.square()).sqrt(), torch.atan2(y, x)
        found = []
        for n in range(self.degree):
            for m in range(-n, n + 1, 2):
                radial = sum(c * r**power for power, c in _radial(n, abs(m)))
                found.append(radial * ((m * phi).cos() if m >= 0 else (-m * phi).sin()))
        return torch.stack(found)


def _radial(n: int, m: int) -> list[tuple[int, float]]:
    """Powers and coefficients of the radial Zernike polynomial."""
    f = math.factorial
    return [
        (n - 2 * k, (-1) ** k * f(n - k) / (f(k) * f((n + m) // 2 - k) * f((n - m) // 2 - k)))
        for k in range((n - m) // 2 + 1)
    ]


BASES = {"piecewise_linear": PiecewiseLinear, "morlet": Morlet, "zernike": Zernike}


def filter_basis(name: str, shape: Sequence[int]) -> FilterBasis:
    """Return a basis by name: `(rings, angles)`, `(waves_x, waves_y)` or `(degree,)` is its shape.

    Raises:
        ValueError: no basis has that name or the shape is not one of it.

    Example:
        >>> len(filter_basis("piecewise_linear", (2, 4)))
        5
    """
    if name not in BASES:
        raise ValueError(f"disco_basis={name!r} is not one of {', '.join(map(repr, BASES))}")
    wanted = 1 if name == "zernike" else 2
    if isinstance(shape, int) or len(shape) != wanted or min(shape) < 1:
        meaning = {"piecewise_linear": "(rings, angles)", "morlet": "(waves_x, waves_y)"}.get(
            name, "(degree,)"
        )
        raise ValueError(f"disco_kernel_shape={shape!r} of a {name} basis needs positive {meaning}")
    return BASES[name](*map(int, shape))
