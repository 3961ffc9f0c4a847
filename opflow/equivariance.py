"""Operators that commute with the symmetries of space."""

from opflow.operators.symmetrize import Symmetrize

__all__ = ["Symmetrize"]
