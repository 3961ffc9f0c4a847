"""Random initial flows on the sphere that are functions first and grid values second."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch

from pde_data.equations.shallow_water_dynamics import Advection, Planet, join
from pde_data.harmonics import Harmonics
from pde_data.sphere import SphereGrid

TAU, ALPHA, HIGHEST = 8.0, 4.0, 42
PERTURBATION = 10.0
"""Root mean square, in m, of the random height on top of the balanced jet."""
_EDGES = np.pi / 7, np.pi / 2 - np.pi / 7  # of the jet, as latitudes
_ZONAL = 255  # degree to which the jet is known


def random_harmonics(seed: int, indices: Sequence[int], harmonics: Harmonics) -> np.ndarray:
    r"""Coefficients ``(sample, *shape)`` of random functions whose mean square is 1 on average; complex128.

    Independent, with $\mathbb{E}|f_l^m|^2 \propto l(l+1)\,(l(l+1)+\tau^2)^{-\alpha}$ for
    $1 \le l \le$ ``HIGHEST``. Random numbers belong to degree and order, not to grid points: every truncation
    holds the same function, cut. Sample ``i`` depends on ``seed`` and ``i`` alone.

    Raises ``ValueError`` for a negative index.
    """
    degrees = np.arange(HIGHEST + 1.0)
    law = degrees * (degrees + 1) * (degrees * (degrees + 1) + TAU**2) ** -ALPHA
    law *= 4 * np.pi / ((2 * degrees + 1) * law).sum()
    l, m = np.tril_indices(HIGHEST + 1)
    kept = l <= harmonics.truncation
    result = np.zeros((len(indices), *harmonics.shape), complex)
    for coefficients, index in zip(result, indices):
        if index < 0:
            raise ValueError(f"sample indices count from 0, got {index}")
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(index),)))
        real, imaginary = rng.standard_normal((len(l), 2)).T
        value = np.where(m == 0, real, (real + 1j * imaginary) * np.sqrt(0.5)) * np.sqrt(law[l])
        coefficients[m[kept], (l - m)[kept]] = value[kept]
    return result


def turbulence(
    seed: int, indices: Sequence[int], planet: Planet, speed: float, harmonics: Harmonics
) -> torch.Tensor:
    """States of a random rotational wind of root mean square ``speed`` on average, in nonlinear balance.

    The balance is found where the products of the wind are exact, and then cut.
    """
    advection = _advection(planet)
    s = torch.from_numpy(random_harmonics(seed, indices, advection.harmonics)) * speed
    return _fitted(join(s, torch.zeros_like(s), advection.balanced(s)), harmonics)


@lru_cache(maxsize=2)
def _advection(planet: Planet) -> Advection:
    grid = SphereGrid.gauss(3 * HIGHEST + 2, 6 * HIGHEST + 4)
    return Advection(Harmonics(grid, 2 * HIGHEST, torch.float64, powers=(0, -2)), planet)


def _fitted(state: torch.Tensor, harmonics: Harmonics) -> torch.Tensor:
    """The same coefficients in the truncation of ``harmonics``."""
    result = state.new_zeros(*state.shape[:-2], *harmonics.shape)
    rows, columns = (min(a, b) for a, b in zip(state.shape[-2:], harmonics.shape))
    result[..., :rows, :columns] = state[..., :rows, :columns]
    return result * torch.from_numpy(harmonics.mask)


def jet(
    seed: int, indices: Sequence[int], planet: Planet, speed: float, harmonics: Harmonics
) -> torch.Tensor:
    r"""States of a mid-latitude jet in balance under a random disturbance of the height.

    $u = U e_n^{-1}\exp((\theta-\theta_0)^{-1}(\theta-\theta_1)^{-1})$ between $\theta_0$ and $\theta_1$
    (Galewsky, Scott and Polvani, Tellus A 56, 2004, eq. 2), with a random field in place of their bump.
    """
    s, g = balanced_jet(planet, speed)
    height = torch.from_numpy(random_harmonics(seed, indices, harmonics))
    disturbance = height * (PERTURBATION * planet.gravity / planet.wave_speed)
    zonal = _fitted(join(s[None], torch.zeros_like(s)[None], g[None]), harmonics)
    none = torch.zeros_like(disturbance)
    return zonal + join(none, none, disturbance)


def balanced_jet(planet: Planet, speed: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients ``(1, degree)`` of $s$ and $g$ of the jet alone."""
    grid = SphereGrid.gauss(2 * _ZONAL, 1)
    south, north = _EDGES
    theta = np.deg2rad(grid.coordinates[0])
    inside = (theta > south) & (theta < north)
    shape = np.where(inside, (theta - south) * (theta - north), -1.0)
    u = np.where(inside, speed * np.exp(1 / shape + 4 / (north - south) ** 2), 0.0)
    vector = Harmonics(grid, _ZONAL, torch.float64, powers=(-1, -1), orders=1)
    wind = vector.to_modes(vector.fold(torch.from_numpy(u)[:, None]))
    s = vector.helmholtz.rotation(wind, torch.zeros_like(wind))
    upright = Planet(planet.radius, planet.rotation_rate, planet.gravity, planet.mean_depth)
    advection = Advection(Harmonics(grid, _ZONAL, torch.float64, powers=(0, -2), orders=1), upright)
    return s, advection.balanced(s[None])[0]
