"""What equations of two-dimensional incompressible flow share: transport of vorticity, forcing along x."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np
import torch

from pde_data.grids import Grid
from pde_data.spectral import Nonlinear, Spectrum, highest_mode


def stream_derivatives(spectrum: Spectrum) -> torch.Tensor:
    r"""Factors ``(2, *spectrum.shape)`` from the modes of $-\Delta\psi$ to those of $(\psi_y, -\psi_x)$."""
    kx, ky = spectrum.wavenumbers
    k2 = spectrum.squared
    inverse = torch.where(k2 > 0, spectrum.mask / k2.clamp_min(1e-300), 0)
    return torch.stack([1j * ky * inverse, -1j * kx * inverse])


def stress_derivatives(spectrum: Spectrum) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Factors of the modes of $u^2-v^2$ and of $uv$ in the transport of vorticity.

    $-u\cdot\nabla w = (\partial_y^2-\partial_x^2)(uv) + \partial_{xy}(u^2-v^2)$ for a velocity without
    divergence (Basdevant, J. Comput. Phys. 50, 1983). Real, ``(*spectrum.shape, 2)``: for real and imaginary
    parts, which is half the work of complex products.
    """
    kx, ky = spectrum.wavenumbers
    return tuple(  # pyright: ignore[reportReturnType]
        torch.stack([c, c], dim=-1).to(spectrum.device, spectrum.dtype)
        for c in (-kx * ky * spectrum.mask, (kx**2 - ky**2) * spectrum.mask)
    )


def kolmogorov(grid: Grid, amplitude: float, wavenumber: int) -> np.ndarray:
    r"""Curl $-Ak\cos(ky)$ of the body force $A\sin(ky)$ along x, with ``wavenumber`` periods over the box."""
    k = 2 * np.pi * wavenumber / grid.lengths[1]
    return np.broadcast_to(-amplitude * k * np.cos(k * grid.coordinates[1]), grid.sizes)


def require_resolved(what: str, modes: Sequence[int], grid: Grid) -> None:
    """Raise ``ValueError`` when a forcing has modes, one per axis, that the 2/3 rule cuts off on ``grid``."""
    for mode, n in zip(modes, grid.sizes):
        if mode > highest_mode(n):
            raise ValueError(
                f"{what} acts on mode {mode}, but {n} points resolve modes up to {highest_mode(n)} "
                f"(2/3 rule): the smallest resolution (or solve_resolution) that would do is {3 * mode + 1}"
            )


def require_mean_zero(name: str, values: torch.Tensor) -> None:
    """Raise ``ValueError`` for samples whose mean is not zero to four digits of their largest value."""
    space = tuple(range(1, values.ndim))
    mean, size = values.mean(dim=space).abs(), values.abs().amax(dim=space)
    if bool((mean > 1e-4 * size).any()):
        raise ValueError(
            f"{name} on a periodic box must have mean zero, got a mean of {float(mean.max()):.3g}: "
            "subtract the mean of each sample"
        )


@final
class VorticityTransport(Nonlinear):
    r"""$-u\cdot\nabla w + f$ by two inverse and two forward transforms; see :func:`stress_derivatives`."""

    def __init__(self, spectrum: Spectrum, batch: int, forcing: np.ndarray | None = None):
        self.spectrum = spectrum
        to = {"device": spectrum.device, "dtype": spectrum.complex_dtype}
        self._to_velocity = stream_derivatives(spectrum).to(**to)
        self._of_difference, self._of_product = stress_derivatives(spectrum)
        self._forcing = None
        if forcing is not None:
            self._forcing = torch.view_as_real(spectrum.project(torch.from_numpy(forcing.copy())))
        self._highest = spectrum.highest_wavenumbers
        self._modes = torch.zeros(batch, 2, *spectrum.shape, **to)
        self._products = torch.zeros(
            batch, 2, *spectrum.grid.sizes, dtype=spectrum.dtype, device=spectrum.device
        )
        self.velocity = self._products
        """Values ``(batch, 2, *sizes)`` of the velocity at the last argument."""

    def __call__(self, modes: torch.Tensor, out: torch.Tensor) -> None:
        """Write the modes of the transport and forcing of vorticity ``modes`` to ``out``."""
        b = len(modes)
        self.velocity = self.spectrum.to_values(torch.mul(modes, self._to_velocity, out=self._modes[:b]))
        u, v = self.velocity.unbind(1)
        products = self._products[:b]
        difference, product = products.unbind(1)
        torch.add(u, v, out=difference)
        torch.sub(u, v, out=product)
        difference.mul_(product)
        torch.mul(u, v, out=product)
        first, second = torch.view_as_real(self.spectrum.to_modes(products)).unbind(1)
        result = torch.view_as_real(out[:, 0])
        if self._forcing is None:
            torch.mul(first, self._of_difference, out=result)
        else:
            torch.addcmul(self._forcing, first, self._of_difference, out=result)
        result.addcmul_(second, self._of_product)

    def rate(self) -> torch.Tensor:
        """Highest wavenumbers times the largest velocities: an upper bound of the advective frequency."""
        largest = self.velocity.abs().amax(dim=(-2, -1))
        return largest[:, 0] * self._highest[0] + largest[:, 1] * self._highest[1]

    def diagnostics(self, modes: torch.Tensor) -> dict[str, torch.Tensor]:
        r"""``enstrophy_transfer``: $|\langle w, N\rangle|/(\|w\|\|N\|)$, 0 for the exact transport $N$."""
        term = torch.empty_like(modes)
        self(modes, term)
        if self._forcing is not None:
            term -= torch.view_as_complex(self._forcing)
        w, tendency = (self.spectrum.to_values(m).double().flatten(1) for m in (modes, term))
        norm = (w.norm(dim=1) * tendency.norm(dim=1)).clamp_min(1e-300)
        return {"enstrophy_transfer": (w * tendency).sum(1).abs() / norm}
