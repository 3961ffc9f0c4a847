"""Random initial flows on the sphere that are functions first and grid values second."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pde_data.equations.shallow_water_dynamics import Advection, Planet, join
from pde_data.harmonics import Harmonics
from pde_data.sphere import SphereGrid

TAU, ALPHA = 8.0, 4.0
JET = (np.pi / 7, np.pi / 2 - np.pi / 7)
"""Southern and northern edge of the jet, as latitudes."""
PERTURBATION = 10.0
"""Root mean square, in m, of the random height on top of the balanced jet."""
_REACH = 512  # degree to which the norm of the random law is summed
_ZONAL = 255  # degree to which the jet is balanced before it is cut


def random_harmonics(seed: int, indices: Sequence[int], harmonics: Harmonics) -> np.ndarray:
    r"""Coefficients ``(sample, *shape)`` of random functions whose mean square is 1 on average; complex128.

    $$\mathbb{E}|f_l^m|^2 \propto (l(l+1)+\tau^2)^{-\alpha}\,l(l+1)$$ with independent phases. Random numbers
    belong to degree and order, not to grid points, and are drawn degree by degree: a finer truncation appends
    degrees to the same function. Sample ``i`` depends on ``seed`` and ``i`` alone.

    Raises ``ValueError`` for a negative index.
    """
    degrees = np.arange(_REACH + 1.0)
    law = degrees * (degrees + 1) * (degrees * (degrees + 1) + TAU**2) ** -ALPHA
    law *= 4 * np.pi / ((2 * degrees + 1) * law).sum()
    n = harmonics.truncation
    l, m = np.tril_indices(n + 1)
    result = np.zeros((len(indices), *harmonics.shape), complex)
    for coefficients, index in zip(result, indices):
        if index < 0:
            raise ValueError(f"sample indices count from 0, got {index}")
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(int(index),)))
        real, imaginary = rng.standard_normal((len(l), 2)).T
        value = np.where(m == 0, real, (real + 1j * imaginary) * np.sqrt(0.5))
        coefficients[m, l - m] = value * np.sqrt(law[np.minimum(l, _REACH)]) * (l <= _REACH)
    return result


def turbulence(seed: int, indices: Sequence[int], advection: Advection, speed: float) -> torch.Tensor:
    """States of a random rotational wind of root mean square ``speed`` on average, in nonlinear balance."""
    s = torch.from_numpy(random_harmonics(seed, indices, advection.harmonics)) * speed
    return join(s, torch.zeros_like(s), advection.balanced(s))


def jet(seed: int, indices: Sequence[int], advection: Advection, speed: float) -> torch.Tensor:
    r"""States of a mid-latitude jet in balance under a random disturbance of the height.

    $u = U e_n^{-1}\exp((\theta-\theta_0)^{-1}(\theta-\theta_1)^{-1})$ between $\theta_0$ and $\theta_1$
    (Galewsky, Scott and Polvani, Tellus A 56, 2004, eq. 2), with a random field in place of their bump.
    """
    s, g = balanced_jet(advection.planet, speed)
    harmonics, planet = advection.harmonics, advection.planet
    disturbance = random_harmonics(seed, indices, harmonics) * (
        PERTURBATION * planet.gravity / planet.wave_speed
    )
    state = torch.zeros(len(indices), 2, *harmonics.shape, dtype=torch.complex128)
    kept = min(harmonics.truncation, _ZONAL) + 1
    state[:, 0, 0, :kept] = s[:kept]
    state[:, 1] = torch.from_numpy(disturbance)
    state[:, 1, 0, :kept] += g[:kept]
    return join(state[:, 0], torch.zeros_like(state[:, 0]), state[:, 1])


def balanced_jet(planet: Planet, speed: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Zonal coefficients, by degree, of $s$ and $g$ of the jet alone."""
    grid = SphereGrid.gauss(2 * _ZONAL, 1)
    south, north = JET
    theta = np.deg2rad(grid.coordinates[0])
    inside = (theta > south) & (theta < north)
    shape = np.where(inside, (theta - south) * (theta - north), -1.0)
    u = np.where(inside, speed * np.exp(1 / shape + 4 / (north - south) ** 2), 0.0)
    vector = Harmonics(grid, _ZONAL, torch.float64, powers=(-1, -1), orders=1)
    wind = vector.to_modes(vector.fold(torch.from_numpy(u)[:, None]))
    s = vector.helmholtz.rotation(wind, torch.zeros_like(wind))
    upright = Planet(planet.radius, planet.rotation_rate, planet.gravity, planet.mean_depth)
    advection = Advection(Harmonics(grid, _ZONAL, torch.float64, powers=(0, -2), orders=1), upright)
    return s[0], advection.balanced(s[None])[0, 0]
