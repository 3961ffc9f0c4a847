"""Spherical harmonic transforms of many fields at once, as matrix products over latitude."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import final

import numpy as np
import torch

from pde_data.sphere import SphereGrid

_TINY = 1e-30  # Legendre functions of high order vanish at the poles; denormal numbers would slow the products
_GROUP = 16  # orders that share one matrix product


@final
class Harmonics:
    r"""Spherical harmonic coefficients of real fields, to degree ``truncation``, and back.

    $$f(\mu, \lambda) = \sum_{m=-N}^{N}\sum_{l=|m|}^{N} f_l^m P_l^m(\mu) e^{im\lambda},\qquad
    f_l^m = \int_{-1}^{1}\int_0^{2\pi} f\,P_l^m e^{-im\lambda}\,d\lambda\,d\mu$$

    with $\mu$ the sine of latitude, $P_l^m$ orthonormal, without the sign $(-1)^m$. Coefficients are complex
    ``(..., *shape)``: row $m \ge 0$, column $l - m$. There is room for one degree more than ``truncation``,
    $N + 1$, which derivatives along a meridian reach, and for an even number of columns; what lies beyond is
    zero. Values are ``(..., *folded)`` with the latitudes by hemisphere, from each pole to the equator, the
    northern first: a Legendre function is even or odd in $\mu$, so half the latitudes do.

    ``powers`` $(p, q)$ changes the transforms to $\sum f_l^m P_l^m \cos^p\theta$ and
    $\int f P_l^m \cos^q\theta$ at latitude $\theta$: $(-1, -1)$ is for the components of a vector, whose
    product with $\cos\theta$ is smooth. At a pole it takes the limit for fields of order $m = 1$.

    Legendre functions come from torch-harmonics.

    Raises ``ImportError`` without that package, ``ValueError`` when the grid is too coarse for the truncation.
    """

    def __init__(
        self,
        grid: SphereGrid,
        truncation: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        powers: tuple[int, int] = (0, 0),
        orders: int | None = None,
    ):
        self.grid, self.truncation = grid, truncation
        self.dtype, self.device = dtype, torch.device(device)
        self.complex_dtype = torch.complex64 if dtype == torch.float32 else torch.complex128
        self.orders = truncation + 1 if orders is None else orders
        n_latitudes, n_longitudes = grid.sizes
        if n_latitudes < truncation + 1 or n_longitudes < 2 * self.orders - 1:
            raise ValueError(
                f"a grid of {n_latitudes} x {n_longitudes} points does not resolve degree {truncation}: it "
                f"takes at least {truncation + 1} x {2 * self.orders - 1}"
            )
        half = (truncation + 3) // 2
        self.shape = (self.orders, 2 * half)
        self.folded = (2, (n_latitudes + 1) // 2, n_longitudes)
        m, j = np.indices(self.shape)
        self.degree: np.ndarray = m + j
        """Degree $l$ of each coefficient."""
        self.order: np.ndarray = m
        """Order $m$ of each coefficient."""
        self.mask: np.ndarray = self.degree <= truncation
        """Which coefficients belong to the truncation."""
        self.helmholtz = Helmholtz(self)
        self._padded = torch.empty(0)
        self._build(powers)

    def _build(self, powers: tuple[int, int]) -> None:
        orders, columns = self.shape
        n = self.folded[1]
        sine = np.sin(np.deg2rad(self.grid.coordinates[0]))[::-1][:n]
        weights = self.grid.weights[0][::-1][:n].copy()
        if self.grid.sizes[0] % 2:
            weights[-1] /= 2  # the equator counts in both hemispheres
        table = _legendre(orders, self.truncation + 2, sine.tobytes())
        inside = self.degree <= self.truncation + 1
        table = np.where(inside[..., None], table[self.order, np.where(inside, self.degree, 0)], 0.0)
        cosine = np.sqrt(1 - sine**2)
        synthesis = _times_power(table, cosine, powers[0], self.degree)
        analysis = 2 * np.pi * weights * _times_power(table, cosine, powers[1], self.degree)

        def parts(values: np.ndarray, first: int, end: int) -> torch.Tensor:
            # (order, parity, column of that parity, latitude) of a group of orders
            rows = (columns - first + 1) // 2
            split = values[first:end].reshape(end - first, columns // 2, 2, n).swapaxes(1, 2)[:, :, :rows]
            return torch.from_numpy(np.ascontiguousarray(split)).to(self.device, self.dtype).flatten(0, 1)

        self._groups = []
        for first in range(0, orders, _GROUP):
            end = min(first + _GROUP, orders)
            forward = parts(analysis, first, end)
            backward = parts(synthesis, first, end).transpose(1, 2).contiguous()
            self._groups.append((first, end, backward, forward))

    def to_values(self, modes: torch.Tensor) -> torch.Tensor:
        """Values ``(..., *folded)`` of coefficients ``(..., *shape)``."""
        lead = modes.shape[:-2]
        count = math.prod(lead)
        orders, columns = self.shape
        n, n_longitudes = self.folded[1:]
        # (order, parity, column, field): one matrix product per order and parity.
        packed = modes.reshape(count, orders, columns // 2, 2).permute(1, 3, 2, 0).contiguous()
        packed = torch.view_as_real(packed).flatten(-2)
        half = packed.new_empty(orders, 2, n, 2 * count)
        for first, end, backward, _ in self._groups:
            given = packed[first:end, :, : backward.shape[2]].flatten(0, 1)
            torch.bmm(backward, given, out=half[first:end].flatten(0, 1))
        even, odd = torch.view_as_complex(half.unflatten(-1, (count, 2))).permute(1, 3, 2, 0)
        if len(self._padded) < count:
            self._padded = modes.new_zeros(count, 2, n, n_longitudes // 2 + 1)
        padded = self._padded[:count]
        torch.add(even, odd, out=padded[:, 0, :, :orders])
        torch.sub(even, odd, out=padded[:, 1, :, :orders])
        return torch.fft.irfft(padded, n=n_longitudes, norm="forward").view(*lead, *self.folded)

    def to_modes(self, values: torch.Tensor) -> torch.Tensor:
        """Coefficients ``(..., *shape)`` of values ``(..., *folded)``, to degree ``truncation + 1``."""
        lead = values.shape[:-3]
        count = math.prod(lead)
        orders, columns = self.shape
        fourier = torch.fft.rfft(values.reshape(count, *self.folded), norm="forward")[..., :orders]
        north, south = fourier.permute(1, 3, 2, 0)
        half = fourier.new_empty(orders, 2, self.folded[1], count)
        torch.add(north, south, out=half[:, 0])
        torch.sub(north, south, out=half[:, 1])
        half = torch.view_as_real(half).flatten(-2)
        packed = half.new_zeros(orders, 2, columns // 2, 2 * count)
        for first, end, _, forward in self._groups:
            product = torch.bmm(forward, half[first:end].flatten(0, 1))
            packed[first:end, :, : forward.shape[1]] = product.unflatten(0, (end - first, 2))
        modes = torch.view_as_complex(packed.unflatten(-1, (count, 2)))
        return modes.permute(3, 0, 2, 1).reshape(*lead, *self.shape)

    def fold(self, values: torch.Tensor) -> torch.Tensor:
        """Values ``(..., latitude, longitude)``, latitudes from south to north, as ``(..., *folded)``."""
        n = self.folded[1]
        return torch.stack([values.flip(-2)[..., :n, :], values[..., :n, :]], dim=-3)

    def unfold(self, values: torch.Tensor) -> torch.Tensor:
        """The inverse of :meth:`fold`."""
        south = values[..., 1, : self.grid.sizes[0] // 2, :]
        return torch.cat([south, values[..., 0, :, :].flip(-2)], dim=-2)


@final
class Helmholtz:
    r"""Vector fields on the unit sphere and their vorticity and divergence, in coefficients.

    A wind $(u, v)$ to east and north has $U = u\cos\theta$, $V = v\cos\theta$; its potentials are scaled to be
    winds themselves: $s = \zeta/\sqrt{l(l+1)}$, $d = \delta/\sqrt{l(l+1)}$ for vorticity $\zeta$ and divergence
    $\delta$, so that $\int u^2+v^2 = \sum|s|^2+|d|^2$. Derivatives along the meridian are
    $(1-\mu^2)P_l' = (l+1)\epsilon_l P_{l-1} - l\epsilon_{l+1}P_{l+1}$ with
    $\epsilon_l^2 = (l^2-m^2)/(4l^2-1)$.
    """

    def __init__(self, harmonics: Harmonics):
        l, m, inside = harmonics.degree.astype(float), harmonics.order, harmonics.mask
        low = np.maximum(l, 1)
        epsilon = np.sqrt((l**2 - m**2) / (4 * l**2 - 1).clip(1))
        above = np.sqrt(((l + 1) ** 2 - m**2) / (4 * (l + 1) ** 2 - 1))
        turn = np.where(inside & (l > 0), m / np.sqrt(low * (low + 1)), 0.0)

        def tensor(values: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(values).to(harmonics.device, harmonics.complex_dtype)

        self._turn = tensor(1j * turn)
        self._wind = tensor(epsilon * np.sqrt((low - 1) / low)), tensor(above * np.sqrt((l + 2) / (l + 1)))
        self._rotation = (
            tensor(inside * (l > 0) * epsilon * np.sqrt((low + 1) / low)),
            tensor(inside * above * np.sqrt(l / (l + 1))),
        )

    def components(self, s: torch.Tensor, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Coefficients of $U$ and $V$, one degree beyond the truncation of the potentials."""
        return -self._turn * d - _meridian(s, self._wind), _meridian(d, self._wind) - self._turn * s

    def rotation(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        r"""$s$ from the coefficients of $U/\cos^2\theta$ and $V/\cos^2\theta$."""
        return self._turn * v + _meridian(u, self._rotation)

    def outflow(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        r"""$d$ from the coefficients of $U/\cos^2\theta$ and $V/\cos^2\theta$."""
        return self._turn * u - _meridian(v, self._rotation)


def _meridian(x: torch.Tensor, factors: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Column $l$ from columns $l - 1$ and $l + 1$."""
    below, above = factors
    result = below * x.roll(1, -1)
    result[..., :-1] -= above[:, :-1] * x[..., 1:]
    return result


@lru_cache(maxsize=4)
def _legendre(orders: int, degrees: int, sines: bytes) -> np.ndarray:
    """Orthonormal Legendre functions ``(order, degree, point)``; ``sines`` are float64."""
    try:
        from torch_harmonics.legendre import legpoly
    except ImportError as error:
        raise ImportError(
            "equations on the sphere need torch-harmonics: "
            'pip install "opflow-sciml[sphere]" (with torch 2.13: "torch-harmonics==0.7.4")'
        ) from error
    table = np.asarray(legpoly(orders, degrees, np.frombuffer(sines), csphase=False))
    return np.where(np.abs(table) > _TINY, table, 0.0)


def _times_power(table: np.ndarray, cosine: np.ndarray, power: int, degree: np.ndarray) -> np.ndarray:
    """Table ``(order, column, point)`` times a power of the cosine of latitude."""
    pole = cosine < 1e-7
    result = table * np.where(pole, 1.0, cosine) ** power
    if power < 0 and pole.any():
        # Only m = 1 has a limit other than 0: d/dx of P_l^1(cos x) at x = 0.
        result[..., pole] = 0.0
        l = degree[1]
        limit = np.sqrt((2 * l + 1) / (4 * np.pi) * l * (l + 1)) / 2
        result[1][..., pole] = np.where(table[1].any(-1), limit, 0.0)[:, None]
    return result
