"""Right-hand side of the shallow water equations on the sphere, in spherical harmonics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
import torch

from pde_data.harmonics import Harmonics
from pde_data.spectral import Nonlinear
from pde_data.sphere import SphereGrid


@final
@dataclass(frozen=True)
class Planet:
    """Constants of the equations in SI units; ``tilt`` of the axis of rotation in degrees."""

    radius: float
    rotation_rate: float
    gravity: float
    mean_depth: float
    tilt: float = 0.0

    @property
    def wave_speed(self) -> float:
        """Speed of gravity waves at the mean depth, in m/s."""
        return math.sqrt(self.gravity * self.mean_depth)

    def coriolis(self, grid: SphereGrid) -> np.ndarray:
        r"""$f = 2\Omega(\sin\theta\cos\alpha - \cos\lambda\cos\theta\sin\alpha)$ on a grid, in 1/s."""
        theta, lam = np.meshgrid(*(np.deg2rad(x) for x in grid.coordinates), indexing="ij")
        alpha = math.radians(self.tilt)
        sine = np.sin(theta) * math.cos(alpha) - np.cos(lam) * np.cos(theta) * math.sin(alpha)
        return 2 * self.rotation_rate * sine

    def wavenumbers(self, harmonics: Harmonics) -> np.ndarray:
        r"""$\sqrt{l(l+1)}/a$ of each coefficient, zero outside of the truncation; float64, in 1/m."""
        l = harmonics.degree
        return np.where(harmonics.mask, np.sqrt(l * (l + 1.0)), 0.0) / self.radius


def split(state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Potentials $s$ and $d$ and geopotential $g$ of a state ``(sample, 3, *shape)``."""
    s, plus, minus = state.unbind(1)
    return s, torch.lerp(plus, minus, 0.5), (plus - minus).mul_(-0.5j)


def join(s: torch.Tensor, d: torch.Tensor, g: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """The state of $s$, $d$ and $g$; written to ``out`` if given."""
    out = s.new_empty(len(s), 3, *s.shape[1:]) if out is None else out
    turned = g * 1j
    out[:, 0] = s
    torch.add(d, turned, out=out[:, 1])
    torch.sub(d, turned, out=out[:, 2])
    return out


@final
class Advection(Nonlinear):
    r"""All but gravity waves about the mean depth: the quadratic terms and the Coriolis force.

    For vorticity $\zeta$, divergence $\delta$ and geopotential $\bar\phi + \phi'$,

    $$\zeta_t = -\nabla\cdot(\zeta+f)\mathbf v,\quad
    \delta_t = \hat k\cdot\nabla\times(\zeta+f)\mathbf v - \nabla^2(\tfrac12|\mathbf v|^2+\phi'),\quad
    \phi'_t = -\nabla\cdot\phi'\mathbf v - \bar\phi\,\delta.$$

    With the wavenumber $k = \sqrt{l(l+1)}/a$ of a harmonic the state is $s = \zeta/k$ and
    $q_\pm = d \pm ig$ for $d = \delta/k$, $g = \phi'/\sqrt{\bar\phi}$: winds in m/s, in which energy is a sum
    of squares. Linear waves turn $q_\pm$ at the rate $\mp ik\sqrt{\bar\phi}$. An evaluation takes nine scalar
    transforms: four fields to the grid, five products back.
    """

    def __init__(self, harmonics: Harmonics, planet: Planet):
        self.harmonics, self.planet = harmonics, planet
        to = {"device": harmonics.device, "dtype": harmonics.dtype}
        self._coriolis = harmonics.fold(torch.from_numpy(planet.coriolis(harmonics.grid))).to(**to)[
            :, :, None, None
        ]
        cosine = torch.from_numpy(np.cos(np.deg2rad(harmonics.grid.coordinates[0])))[:, None]
        self._inverse_square = harmonics.fold(cosine**-2).to(**to)[:, :, None]
        self._wavenumbers = torch.from_numpy(planet.wavenumbers(harmonics)).to(**to)
        self._k = self._wavenumbers.to(harmonics.complex_dtype)

    def tendencies(
        self, s: torch.Tensor, d: torch.Tensor, g: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rates of $s$, $d$ and $g``(sample, *shape)`` by these terms."""
        helmholtz = self.harmonics.helmholtz
        fields = s.new_empty(4, *s.shape)
        torch.mul(s, self._k, out=fields[0])
        fields[1] = g
        helmholtz.components(s, d, out=fields[2:])
        values = self.harmonics.to_values(fields)
        vorticity, geopotential, velocity = values[:, :, :1], values[:, :, 1:2], values[:, :, 2:]
        vorticity += self._coriolis
        products = values.new_empty(*values.shape[:2], 5, *values.shape[3:])
        torch.mul(velocity, vorticity, out=products[:, :, 0:2])
        torch.mul(velocity, geopotential, out=products[:, :, 2:4])
        u, v = velocity.unbind(2)
        torch.mul(u, u, out=products[:, :, 4]).addcmul_(v, v)
        self._square, self._geopotential = products[:, :, 4], values[:, :, 1]
        a, b, c, e, square = self.harmonics.to_modes(products).unbind(0)
        rate = helmholtz.rotation(a, b).addcmul_(square, self._k, value=0.5)
        return helmholtz.inflow(a, b), rate, helmholtz.inflow(c, e).mul_(self._k)

    def __call__(self, modes: torch.Tensor, out: torch.Tensor) -> None:
        """See :class:`Nonlinear`."""
        join(*self.tendencies(*split(modes)), out=out)

    def rate(self) -> torch.Tensor:
        """Highest wavenumber times wind and excess of wave speed, and the rate of rotation."""
        wind = (self._square * self._inverse_square).amax((0, 1, 3)).sqrt()
        mean = self.planet.wave_speed
        extremes = torch.stack(torch.aminmax(self._geopotential.movedim(2, 0).flatten(1), dim=1))
        excess = ((mean * (mean + extremes)).sqrt() - mean).abs().amax(0)
        return float(self._wavenumbers.max()) * (wind + excess) + 2 * self.planet.rotation_rate

    def balanced(self, s: torch.Tensor) -> torch.Tensor:
        """$g$ for which the divergence of the flow $s$, zero now, stays so at first: nonlinear balance."""
        none = torch.zeros_like(s)
        _, rate, _ = self.tendencies(s, none, none)
        frequency = self._wavenumbers * self.planet.wave_speed
        return -rate / torch.where(frequency > 0, frequency, torch.inf)


@final
class Frames:
    """Height, wind and vorticity ``(sample, latitude, longitude)`` to and from states, on any grid."""

    def __init__(
        self,
        grid: SphereGrid,
        truncation: int,
        planet: Planet,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ):
        self.scalar = Harmonics(grid, truncation, dtype, device)
        self.vector = Harmonics(grid, truncation, dtype, device, powers=(-1, -1))
        self.planet = planet
        self._mask = torch.from_numpy(self.scalar.mask).to(device)
        self._k = torch.from_numpy(planet.wavenumbers(self.scalar)).to(device, self.scalar.complex_dtype)

    def to_state(self, fields: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The state of ``height`` and wind ``u``, ``v``, cut to the truncation."""
        planet = self.planet
        anomaly = (fields["height"] - planet.mean_depth) * (planet.gravity / planet.wave_speed)
        g = self.scalar.to_modes(self.scalar.fold(anomaly)) * self._mask
        wind = torch.stack([fields["u"], fields["v"]])
        u, v = self.vector.to_modes(self.vector.fold(wind))
        helmholtz = self.vector.helmholtz
        return join(helmholtz.rotation(u, v), -helmholtz.inflow(u, v), g)

    def to_fields(self, state: torch.Tensor) -> dict[str, torch.Tensor]:
        """``height`` in m, ``u`` and ``v`` in m/s and ``vorticity`` in 1/s of a state."""
        orders, columns = self.scalar.shape
        s, d, g = split(state[..., :orders, :columns] * self._mask)
        planet = self.planet
        wind = torch.stack(self.vector.helmholtz.components(s, d))
        u, v = self.vector.unfold(self.vector.to_values(wind))
        anomaly, vorticity = self.scalar.unfold(self.scalar.to_values(torch.stack([g, self._k * s])))
        height = planet.mean_depth + anomaly * (planet.wave_speed / planet.gravity)
        return {"height": height, "u": u, "v": v, "vorticity": vorticity}
