"""Numbers that say how good a prediction or a sample is.

Errors, spectra, rollouts, symmetry, grids; distances between laws, calibration of ensembles, segmentation.
Fields are `(batch, channel, *space)`, rollouts `(batch, step, channel, *space)`; every error is one number
per sample, so that a mean, a spread or a worst case is the caller's choice.
"""

from opflow.metrics.calibration import crps, diversity_ratio, energy_score, rank_histogram, spread_skill
from opflow.metrics.distributions import frechet_distance, mmd, sliced_wasserstein, two_halves
from opflow.metrics.errors import nrmse, relative_h1, relative_l2, vrmse
from opflow.metrics.marginals import (
    autocovariance,
    autocovariance_distance,
    histogram_distance,
    spectrum_distance,
)
from opflow.metrics.meshes import cosine_means
from opflow.metrics.rollouts import correlation, correlation_time, rollout_error
from opflow.metrics.segmentation import confusion, mean_iou, pixel_accuracy
from opflow.metrics.spectra import energy_spectrum, enstrophy_spectrum, spectrum
from opflow.metrics.symmetry import GROUPS, equivariance_error, grid_shift_error

__all__ = [
    "GROUPS",
    "autocovariance",
    "autocovariance_distance",
    "confusion",
    "correlation",
    "correlation_time",
    "cosine_means",
    "crps",
    "diversity_ratio",
    "energy_score",
    "energy_spectrum",
    "enstrophy_spectrum",
    "equivariance_error",
    "frechet_distance",
    "grid_shift_error",
    "histogram_distance",
    "mean_iou",
    "mmd",
    "nrmse",
    "pixel_accuracy",
    "rank_histogram",
    "relative_h1",
    "relative_l2",
    "rollout_error",
    "sliced_wasserstein",
    "spectrum",
    "spectrum_distance",
    "spread_skill",
    "two_halves",
    "vrmse",
]
