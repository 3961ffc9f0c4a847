"""Spherical harmonic transforms of many fields at once, as matrix products over latitude."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import final

import numpy as np
import torch

from pde_data.sphere import SphereGrid

_TINY = (
    1e-30  # Legendre functions of high order vanish at the poles; denormal numbers would slow the products
)
_GROUP = 16  # orders that share one matrix product


@final
class Harmonics:
    r"""Spherical harmonic coefficients of real fields, to degree ``truncation``, and back.

    $$f(\mu, \lambda) = \sum_{m=-N}^{N}\sum_{l=|m|}^{N} f_l^m P_l^m(\mu) e^{im\lambda},\qquad
    f_l^m = \int_{-1}^{1}\int_0^{2\pi} f\,P_l^m e^{-im\lambda}\,d\lambda\,d\mu$$

    with $\mu$ the sine of latitude, $P_l^m$ orthonormal, without the sign $(-1)^m$. Coefficients are complex
    ``(..., *shape)``: row $m \ge 0$, column $l - m$. There is room for one degree more than ``truncation``,
    $N + 1$, which derivatives along a meridian reach, and for an even number of columns; what lies beyond is
    zero. Values are ``(2, latitude, ..., longitude)``: the northern hemisphere and the southern, each from
    its pole to the equator. A Legendre function is even or odd in $\mu$, so half the latitudes do.

    ``powers`` $(p, q)$ changes the transforms to $\sum f_l^m P_l^m \cos^p\theta$ and
    $\int f P_l^m \cos^q\theta$ at latitude $\theta$: $(-1, -1)$ is for the components of a vector, whose
    product with $\cos\theta$ is smooth. At a pole it takes the limit for fields of order $m = 1$.

    Legendre functions come from torch-harmonics.

    Raises ``ImportError`` without that package, ``ValueError`` when the grid is too coarse.
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
        """Values ``(2, latitude, ..., longitude)`` of coefficients ``(..., *shape)``."""
        lead = modes.shape[:-2]
        count = math.prod(lead)
        orders, columns = self.shape
        _, n, n_longitudes = self.folded
        # (order, parity, column, field): one matrix product per order and parity.
        packed = modes.reshape(count, orders, columns // 2, 2).permute(1, 3, 2, 0).contiguous()
        packed = torch.view_as_real(packed).flatten(-2)
        half = packed.new_empty(orders, 2, n, 2 * count)
        for first, end, backward, _ in self._groups:
            given = packed[first:end, :, : backward.shape[2]].flatten(0, 1)
            torch.bmm(backward, given, out=half[first:end].flatten(0, 1))
        even, odd = torch.view_as_complex(half.view(orders, 2, n * count, 2)).unbind(1)
        # The columns that no one reads keep orders from falling into one set of the cache when transposed.
        both = modes.new_empty(orders, 2, n * count + 4)[..., : n * count]
        torch.add(even, odd, out=both[:, 0])
        torch.sub(even, odd, out=both[:, 1])
        padded = self._zeros(2 * n * count).view(2, n * count, -1)
        padded[..., :orders] = both.permute(1, 2, 0)
        values = torch.fft.irfft(padded, n=n_longitudes, norm="forward")
        return values.view(2, n, *lead, n_longitudes)

    def _zeros(self, lines: int) -> torch.Tensor:
        """Lines for the inverse Fourier transform, zero beyond the highest order."""
        if len(self._padded) < lines:
            width = self.folded[2] // 2 + 1
            self._padded = torch.zeros(lines, width, dtype=self.complex_dtype, device=self.device)
        return self._padded[:lines]

    def to_modes(self, values: torch.Tensor) -> torch.Tensor:
        """Coefficients ``(..., *shape)`` of values ``(2, latitude, ..., longitude)``, one degree beyond."""
        lead = values.shape[2:-1]
        count = math.prod(lead)
        orders, columns = self.shape
        _, n, n_longitudes = self.folded
        fourier = torch.fft.rfft(values.reshape(2, n * count, n_longitudes), norm="forward")
        both = fourier.new_empty(orders, 2, n * count)
        both.copy_(fourier[..., :orders].permute(2, 0, 1))
        north, south = both.unbind(1)
        half = torch.empty_like(both)
        torch.add(north, south, out=half[:, 0])
        torch.sub(north, south, out=half[:, 1])
        half = torch.view_as_real(half).view(orders, 2, n, 2 * count)
        packed = half.new_zeros(orders, 2, columns // 2, 2 * count)
        for first, end, _, forward in self._groups:
            product = torch.bmm(forward, half[first:end].flatten(0, 1))
            packed[first:end, :, : forward.shape[1]] = product.unflatten(0, (end - first, 2))
        modes = torch.view_as_complex(packed.unflatten(-1, (count, 2)))
        return modes.permute(3, 0, 2, 1).reshape(*lead, *self.shape)

    def fold(self, values: torch.Tensor) -> torch.Tensor:
        """Values ``(..., latitude, longitude)`` from south to north as ``(2, latitude, ..., longitude)``."""
        n = self.folded[1]
        return torch.stack([values.flip(-2)[..., :n, :], values[..., :n, :]]).movedim(-2, 1)

    def unfold(self, values: torch.Tensor) -> torch.Tensor:
        """The inverse of :meth:`fold`."""
        north, south = values.movedim(1, -2)
        return torch.cat([south[..., : self.grid.sizes[0] // 2, :], north.flip(-2)], dim=-2)


@final
class Helmholtz:
    r"""Vector fields on the unit sphere and their vorticity and divergence, in coefficients.

    A wind $(u, v)$ to east and north has $U = u\cos\theta$, $V = v\cos\theta$; its potentials are scaled to
    be winds themselves: $s = \zeta/\sqrt{l(l+1)}$, $d = \delta/\sqrt{l(l+1)}$ for vorticity $\zeta$ and
    divergence $\delta$, so that $\int u^2+v^2 = \sum|s|^2+|d|^2$. Derivatives along the meridian are
    $(1-\mu^2)P_l' = (l+1)\epsilon_l P_{l-1} - l\epsilon_{l+1}P_{l+1}$ with
    $\epsilon_l^2 = (l^2-m^2)/(4l^2-1)$.
    """

    def __init__(self, harmonics: Harmonics):
        l, m = harmonics.degree.astype(float), harmonics.order
        low = np.maximum(l, 1)
        own = np.sqrt((l**2 - m**2) / (4 * low**2 - 1))
        following = np.sqrt(((l + 1) ** 2 - m**2) / (4 * (l + 1) ** 2 - 1))
        following[:, -1] = 0  # what follows in memory is another order
        kept = (harmonics.mask & (l > 0)).astype(float)
        turn = torch.from_numpy(1j * kept * m / np.sqrt(low * (low + 1)))
        self._east = turn.to(harmonics.device, harmonics.complex_dtype)
        self._west = -self._east

        def pairs(below: np.ndarray, above: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
            # Real factors, twice: for real and imaginary parts.
            flat = torch.from_numpy(np.stack([below, above])).repeat_interleave(2, -1).flatten(1)
            return flat.to(harmonics.device, harmonics.dtype).unbind(0)  # pyright: ignore[reportReturnType]

        self._gradient = pairs(own * np.sqrt((low - 1) / low), -following * np.sqrt((l + 2) / (l + 1)))
        self._divergence = pairs(
            kept * own * np.sqrt((l + 1) / low), -kept * following * np.sqrt(l / (l + 1))
        )

    def components(
        self, s: torch.Tensor, d: torch.Tensor, out: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Coefficients of $U$ and $V$, one degree beyond the truncation of the potentials."""
        u, v = (None, None) if out is None else out
        return _add(self._west, d, self._gradient, s, -1, u), _add(self._west, s, self._gradient, d, 1, v)

    def rotation(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        r"""$s$ from the coefficients of $U/\cos^2\theta$ and $V/\cos^2\theta$."""
        return _add(self._east, v, self._divergence, u, 1)

    def inflow(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        r"""$-d$ from the coefficients of $U/\cos^2\theta$ and $V/\cos^2\theta$."""
        return _add(self._west, u, self._divergence, v, 1)


def _add(
    turn: torch.Tensor,
    x: torch.Tensor,
    factors: tuple[torch.Tensor, torch.Tensor],
    y: torch.Tensor,
    sign: int,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """``turn * x`` plus ``sign`` times what columns ``l - 1`` and ``l + 1`` of ``y`` give."""
    below, above = factors
    out = torch.mul(turn, x, out=out)
    target, source = (torch.view_as_real(z).flatten(-3) for z in (out, y))
    target[..., 2:].addcmul_(source[..., :-2], below[2:], value=sign)
    target[..., :-2].addcmul_(source[..., 2:], above[:-2], value=sign)
    return out


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
