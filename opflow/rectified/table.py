"""The rectified flows by name."""

from opflow.rectified.base import RectifiedFlow
from opflow.rectified.functional import FunctionalFlow
from opflow.rectified.semflow import SemFlow
from opflow.rectified.symmflow import SymmFlow

RECTIFIED: dict[str, type[RectifiedFlow]] = {
    "FunctionalFlow": FunctionalFlow,
    "SemFlow": SemFlow,
    "SymmFlow": SymmFlow,
}
