"""Weights from and to other packages."""

from opflow.interop.neuralop import from_neuralop, to_neuralop

__all__ = ["from_neuralop", "to_neuralop"]
