"""Weights from and to other packages."""

from opflow.interop.gfno import from_gfno
from opflow.interop.mino import from_mino
from opflow.interop.neuralop import from_neuralop, to_neuralop

__all__ = ["from_gfno", "from_mino", "from_neuralop", "to_neuralop"]
