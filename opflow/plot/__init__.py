"""Pictures of fields, predictions, spectra and training runs.

Every function draws on a figure of its own and returns it, without pyplot or any global state:
`plot.comparison(y, p).savefig("comparison.png")`. Fields are arrays or tensors with `ij`-ordered space: the
first space axis is drawn to the right, the second upwards.
"""

from opflow.plot.curves import error_growth, losses, spectra
from opflow.plot.fields import animate, comparison, rollout_strip
from opflow.plot.films import film
from opflow.plot.meshes import mesh_comparison, mesh_grid
from opflow.plot.samples import histograms, sample_grid

__all__ = [
    "animate",
    "comparison",
    "error_growth",
    "film",
    "histograms",
    "losses",
    "mesh_comparison",
    "mesh_grid",
    "rollout_strip",
    "sample_grid",
    "spectra",
]
