"""Spectra of periodic fields in radial shells of wavenumber."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from opflow.metrics._checks import per_axis


def spectrum(u: Tensor, lengths: float | Sequence[float] = 1.0) -> tuple[Tensor, Tensor]:
    r"""Mean square of a periodic field, split into radial shells of wavenumber.

    :math:`S_j = \sum_{|k| \in \text{shell } j} |\hat u_k|^2` with :math:`\hat u_k = \langle u e^{-ikx}
    \rangle` and :math:`k = 2\pi n / L` per axis. Shell `j` holds `(j - 1/2) dk <= |k| < (j + 1/2) dk`, where
    `dk` is `2 pi` over the longest side. No mode is left out, the corners of the box and Nyquist modes
    included, so :math:`\sum_j S_j = \langle |u|^2 \rangle` (Parseval) for any sizes.

    Args:
        u: `(batch, channel, *space)`, real or complex.
        lengths: side lengths of the periodic box, one number or one per axis.

    Returns:
        wavenumbers `(shell,)` in radians per unit of length, and the spectrum `(batch, channel, shell)`.

    Raises:
        ValueError: there is no space axis, or `lengths` has the wrong length or is not positive.

    Example:
        >>> x = torch.arange(16, dtype=torch.float64) / 16
        >>> k, s = spectrum(torch.cos(2 * torch.pi * 3 * x).reshape(1, 1, 16))
        >>> int(s[0, 0].argmax()), round(float(s.sum()), 6)
        (3, 0.5)
    """
    power, radius, dk = _power(u, lengths)
    return _shells(power, radius, dk)


def energy_spectrum(
    field: Tensor, lengths: float | Sequence[float] = 1.0, of: str = "vorticity"
) -> tuple[Tensor, Tensor]:
    r"""Kinetic energy per unit mass of a periodic flow in radial shells.

    :math:`E_j = \frac12 \sum_{|k| \in \text{shell } j} |\hat{\boldsymbol u}_k|^2`, summed over components;
    from the vorticity of an incompressible flow :math:`|\hat{\boldsymbol u}_k|^2 = |\hat\omega_k|^2/|k|^2`
    (a mean flow, which vorticity does not know, is left out). Shells as in `spectrum`; their sum is the
    mean kinetic energy.

    Args:
        field: `(batch, component, *space)`: vorticity (one component in 2-D, three in 3-D) or velocity.
        lengths: side lengths of the periodic box, one number or one per axis.
        of: "vorticity" or "velocity", what `field` is.

    Returns:
        wavenumbers `(shell,)` and energies `(batch, shell)`.

    Raises:
        ValueError: `of` is neither, there is no space axis, or `lengths` is wrong.

    Example:
        >>> x = torch.arange(16, dtype=torch.float64) / 16
        >>> w = torch.cos(2 * torch.pi * x).expand(1, 1, 16, 16)   # the flow is sin(2 pi y) / (2 pi)
        >>> k, energy = energy_spectrum(w)
        >>> bool(torch.isclose(energy.sum(), torch.tensor(0.25 / (2 * torch.pi) ** 2, dtype=k.dtype)))
        True
    """
    if of not in ("vorticity", "velocity"):
        raise ValueError(f"`of` is 'vorticity' or 'velocity', got {of!r}")
    power, radius, dk = _power(field, lengths)
    if of == "vorticity":
        inverse_square = torch.where(radius > 0, (dk * radius).square().reciprocal(), 0.0)
        power = power * inverse_square.to(power)
    wavenumbers, shells = _shells(power, radius, dk)
    return wavenumbers, shells.sum(1) / 2


def enstrophy_spectrum(vorticity: Tensor, lengths: float | Sequence[float] = 1.0) -> tuple[Tensor, Tensor]:
    r"""Enstrophy of a periodic flow in radial shells.

    :math:`Z_j = \frac12 \sum_{|k| \in \text{shell } j} |\hat\omega_k|^2`, shells as in `spectrum`.

    Args:
        vorticity: `(batch, component, *space)`.
        lengths: side lengths of the periodic box, one number or one per axis.

    Returns:
        wavenumbers `(shell,)` and enstrophies `(batch, shell)`; their sum is the mean enstrophy.

    Raises:
        ValueError: there is no space axis, or `lengths` is wrong.

    Example:
        >>> w = torch.ones(1, 1, 5, 7)
        >>> float(enstrophy_spectrum(w)[1].sum())
        0.5
    """
    wavenumbers, shells = spectrum(vorticity, lengths)
    return wavenumbers, shells.sum(1) / 2


def _power(u: Tensor, lengths: float | Sequence[float]) -> tuple[Tensor, Tensor, float]:
    """|u_hat|^2 of every mode, |k| / dk of every mode (float64), and the width dk of a shell."""
    u = torch.as_tensor(u)
    if u.ndim < 3:
        raise ValueError(f"expected (batch, channel, *space), got a tensor of shape {tuple(u.shape)}")
    sides = per_axis(lengths, u.ndim - 2, "lengths")
    if min(sides) <= 0:
        raise ValueError(f"lengths must be positive, got {sides}")
    longest = max(sides)
    square = torch.zeros((), dtype=torch.float64, device=u.device)
    for n, side in zip(u.shape[2:], sides):
        # Rounded, so that a mode falls into the same shell on every grid.
        index = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64, device=u.device).round()
        square = square[..., None] + (index * (longest / side)).square()
    power = torch.fft.fftn(u, dim=tuple(range(2, u.ndim)), norm="forward").abs().square()
    return power, square.sqrt(), 2 * math.pi / longest


def _shells(power: Tensor, radius: Tensor, dk: float) -> tuple[Tensor, Tensor]:
    shell = (radius + 0.5).floor().long().flatten()
    n_shells = int(shell.max()) + 1
    total = power.new_zeros(*power.shape[:2], n_shells).index_add_(2, shell, power.flatten(2))
    return dk * torch.arange(n_shells, dtype=power.dtype, device=power.device), total
