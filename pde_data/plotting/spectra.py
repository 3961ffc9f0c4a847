"""Spectra of periodic fields."""

from __future__ import annotations

from typing import Any

import numpy as np

from pde_data.plotting.fields import Field


def draw_spectra(axes: Any, field: Field) -> None:
    """Draw the power per shell of wavenumbers of each frame."""
    powers = [shell_power(frame) for frame in field.values]
    for power, label in zip(powers, field.times or [None]):
        axes.loglog(
            np.arange(1, len(power)), np.maximum(power[1:], np.finfo(float).tiny), label=label, linewidth=1
        )
    axes.set(xlabel="wavenumber", title="power spectrum")
    top = max(power[1:].max(initial=0.0) for power in powers)
    if top > 0:
        axes.set_ylim(top * 1e-14, top * 3)
    if field.times is not None:
        axes.legend(fontsize="x-small", frameon=False)


def shell_power(field: np.ndarray) -> np.ndarray:
    r"""Sum of $|\hat u_k|^2$ over shells $n - 1/2 \le |k| < n + 1/2$, up to half of the shortest axis.

    >>> shell_power(np.cos(2 * np.pi * 3 * np.arange(16) / 16)).round(3)
    array([0. , 0. , 0. , 0.5, 0. , 0. , 0. , 0. , 0. ])
    """
    modes = np.abs(np.fft.fftn(np.asarray(field, dtype=np.float64), norm="forward")) ** 2
    mesh = np.meshgrid(*(np.fft.fftfreq(n, 1 / n) for n in field.shape), indexing="ij")
    shell = np.sqrt(sum(k**2 for k in mesh)).round().astype(int)
    return np.bincount(shell.ravel(), modes.ravel())[: min(field.shape) // 2 + 1]
