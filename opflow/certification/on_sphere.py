"""Checks of models of fields on the sphere, `(batch, channel, latitude, longitude)`."""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from opflow.certification.certificate import Measured
from opflow.certification.claims import arguments_of, n_modes_of
from opflow.certification.inputs import SAMPLES, in_physical_units
from opflow.metrics import equivariance_error
from pde_data.sphere import SphereGrid

# The groups that do not turn latitudes into longitudes.
SPHERE_GROUPS = ("mx", "my", "p2mm")
_WAVES = 16


def random_fields(model: nn.Module, channels: int, like: Tensor) -> Tensor:
    """Return smooth fields, sums of plane waves on the sphere, on a grid that resolves the model's degrees.

    A wave of wave number k has harmonics of degrees up to about k.
    """
    arguments = arguments_of(model)
    degrees = max(n_modes_of(model), default=8)
    radius = arguments.get("radius_cutoff") or math.pi  # discs must reach two rows
    n = max(2 * degrees + 1, math.ceil(2 * math.pi / radius) + 1, 9)
    sphere = SphereGrid.gauss if arguments.get("grid") == "gauss" else SphereGrid.equiangular
    latitude, longitude = (np.deg2rad(c) for c in sphere(n, 2 * n).coordinates)
    at = np.stack(
        [
            np.cos(latitude)[:, None] * np.cos(longitude),
            np.cos(latitude)[:, None] * np.sin(longitude),
            np.sin(latitude)[:, None] + 0 * longitude,
        ]
    )
    noise = np.random.default_rng(0)
    waves = noise.normal(size=(SAMPLES, channels, _WAVES, 3))
    waves *= (
        degrees * noise.random((SAMPLES, channels, _WAVES, 1)) / np.linalg.norm(waves, axis=-1)[..., None]
    )
    phases = 2 * math.pi * noise.random((SAMPLES, channels, _WAVES, 1, 1))
    fields = np.cos(np.einsum("scwd,dnm->scwnm", waves, at) + phases).sum(2) * math.sqrt(2 / _WAVES)
    return in_physical_units(torch.from_numpy(fields).to(like), model, 1)


def rotation(model: nn.Module, x: Tensor) -> Iterator[Measured]:
    """Measure rotations about the axis, which leave scalars and the components of vectors as they are."""
    for name, shift in (("one point", 1), ("a third of the circle", x.shape[-1] // 3)):
        error = equivariance_error(model, x, lambda u, by=shift: u.roll(by, -1))
        yield Measured("rotation", f"rotation about the axis by {name}", error.max().item())


def require_what_is_measured(group: str | None, translation: bool | None, grids: object) -> None:
    """Refuse what fields on the sphere do not have."""
    if group is not None and group not in SPHERE_GROUPS:
        raise ValueError(
            f"group={group!r} turns latitudes into longitudes, which fields on the sphere do not allow: use "
            f"{', '.join(map(repr, SPHERE_GROUPS))}, or None for rotations about the axis alone"
        )
    if translation:
        raise ValueError(
            "translation=True asks for shifts along all axes, and latitudes cannot be shifted: leave it out, "
            "rotations about the axis are measured in any case"
        )
    if grids is not None:
        raise ValueError(
            f"grids={grids} cannot be compared on the sphere, where fields are not carried from grid to grid "
            "by Fourier series: leave grids out"
        )
