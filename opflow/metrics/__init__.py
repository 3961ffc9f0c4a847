"""Numbers that say how good a prediction is: errors, spectra, rollouts, symmetry, grids.

Fields are `(batch, channel, *space)`, rollouts `(batch, step, channel, *space)`; every error is one number
per sample, so that a mean, a spread or a worst case is the caller's choice.
"""

from opflow.metrics.errors import nrmse, relative_h1, relative_l2, vrmse
from opflow.metrics.rollouts import correlation, correlation_time, rollout_error
from opflow.metrics.spectra import energy_spectrum, enstrophy_spectrum, spectrum
from opflow.metrics.symmetry import GROUPS, equivariance_error, grid_shift_error

__all__ = [
    "GROUPS",
    "correlation",
    "correlation_time",
    "energy_spectrum",
    "enstrophy_spectrum",
    "equivariance_error",
    "grid_shift_error",
    "nrmse",
    "relative_h1",
    "relative_l2",
    "rollout_error",
    "spectrum",
    "vrmse",
]
