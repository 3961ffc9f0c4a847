"""Weights from and to other packages."""

from opflow.interop.mino import from_mino
from opflow.interop.neuralop import from_neuralop, to_neuralop

__all__ = ["from_mino", "from_neuralop", "to_neuralop"]
