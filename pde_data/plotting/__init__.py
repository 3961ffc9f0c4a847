"""Pictures of data sets of every kind: fields on one colour scale, their spectra, and animations."""

from pde_data.plotting.figures import animate, plot, preview
from pde_data.plotting.spectra import shell_power

__all__ = ["animate", "plot", "preview", "shell_power"]
