"""Random masked domains with random boundary conditions, to learn from and to try preconditioners on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pde_data.equations.stencil import Stencil

KINDS = ("box", "blobs", "plates", "porous")
"""No obstacles; smooth solid bodies; thin walls; the pores of a random medium."""


def random_stencil(
    rng: np.random.Generator, sizes: Sequence[int], kind: str | None = None, contrast: float = 0.0
) -> Stencil:
    """Draw a masked domain of one connected part, and conditions on its box, at least one of them Dirichlet.

    Args:
        rng: where randomness comes from.
        sizes: cells along each axis.
        kind: one of `KINDS`; drawn when None.
        contrast: standard deviation of the logarithm of the coefficient, a smooth random field; 0 for 1.

    Raises:
        ValueError: `kind` is unknown.

    Example:
        >>> random_stencil(np.random.default_rng(0), (16, 16), "blobs").mask.shape
        (16, 16)
    """
    kind = KINDS[rng.integers(len(KINDS))] if kind is None else kind
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not one of {', '.join(map(repr, KINDS))}")
    while True:
        mask = _mask(rng, tuple(sizes), kind)
        ends = {a: tuple(rng.choice(["dirichlet", "neumann"], 2).tolist()) for a in "xyz"[: len(sizes)]}
        coeff = np.exp(contrast * _smooth(rng, tuple(sizes), 6.0)) if contrast else None
        if not mask.any():
            continue
        stencil = Stencil.poisson(mask, coeff, bc=ends)
        if not stencil.components[1].any():
            return stencil


def _mask(rng: np.random.Generator, sizes: tuple[int, ...], kind: str) -> np.ndarray:
    mask = np.ones(sizes, bool)
    if kind == "blobs":
        for _ in range(rng.integers(2, 13)):
            mask &= ~_blob(rng, sizes)
    elif kind == "plates":
        for _ in range(rng.integers(2, 3 * len(sizes) + 5)):
            mask[_plate(rng, sizes)] = False
    elif kind == "porous":
        field = _smooth(rng, sizes, rng.uniform(2.5, 8))
        mask = field > np.quantile(field, rng.uniform(0.05, 0.4))
    return _largest(mask)


def _blob(rng: np.random.Generator, sizes: tuple[int, ...]) -> np.ndarray:
    """A body whose distance from its centre goes up and down with the direction."""
    shortest = min(sizes)
    centre = [rng.uniform(0, n) for n in sizes]
    axes = np.meshgrid(*[np.arange(n) + 0.5 for n in sizes], indexing="ij", sparse=True)
    apart = [axis - c for axis, c in zip(axes, centre)]
    radius = shortest * rng.uniform(0.04, 0.16)
    distance = np.sqrt(sum(a**2 for a in apart))
    wave = sum(np.sin(a / radius + rng.uniform(0, 6)) for a in apart)
    return distance < radius * (1 + 0.2 * wave)


def _plate(rng: np.random.Generator, sizes: tuple[int, ...]) -> tuple[slice, ...]:
    """One or two cells thick across one axis, and of any extent along the others."""
    across = rng.integers(len(sizes))
    place = []
    for axis, n in enumerate(sizes):
        start = rng.integers(n)
        place.append(
            slice(start, start + (rng.integers(1, 3) if axis == across else rng.integers(n // 8, n)))
        )
    return tuple(place)


def _smooth(rng: np.random.Generator, sizes: tuple[int, ...], width: float) -> np.ndarray:
    """A Gaussian random field of unit variance, correlated over about `width` cells."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(rng.standard_normal(sizes), min(width, max(sizes) / 8), mode="wrap")
    field -= field.mean()
    return field / (field.std() or 1.0)  # of a single cell


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected part."""
    from scipy.ndimage import label

    labels, _ = label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    counts = np.bincount(labels.ravel())
    counts[0] = 0
    return labels == counts.argmax() if counts.any() else np.zeros_like(mask)
