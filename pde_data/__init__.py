"""Verified PDE data: generate it, open it, and read it in batches.

The names below are imported when first used, so that `import pde_data` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pde_data.dataset import FieldDataset
    from pde_data.equations import EQUATIONS, Equation, simulate
    from pde_data.formats import open
    from pde_data.generation import generate
    from pde_data.grids import Grid, resample
    from pde_data.moments import Statistics, statistics
    from pde_data.plotting import plot
    from pde_data.storage import DatasetError

# No module may have the name of a function here: importing it would put the module in the function's place.
_HOMES = {
    "DatasetError": "storage",
    "EQUATIONS": "equations",
    "Equation": "equations",
    "FieldDataset": "dataset",
    "Grid": "grids",
    "Statistics": "moments",
    "generate": "generation",
    "open": "formats",
    "plot": "plotting",
    "resample": "grids",
    "simulate": "equations",
    "statistics": "moments",
}

__all__ = [
    "EQUATIONS",
    "DatasetError",
    "Equation",
    "FieldDataset",
    "Grid",
    "Statistics",
    "generate",
    "open",
    "plot",
    "resample",
    "simulate",
    "statistics",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pde_data' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"pde_data.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
