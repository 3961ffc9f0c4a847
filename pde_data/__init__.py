"""Verified PDE data: generate it, open it, and read it in batches.

The names below are imported when first used, so that `import pde_data` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pde_data.lazy import attach

if TYPE_CHECKING:
    from pde_data import audit
    from pde_data.dataset import FieldDataset
    from pde_data.equations import EQUATIONS, Equation, simulate
    from pde_data.formats import open
    from pde_data.generation import generate
    from pde_data.grids import Grid, resample
    from pde_data.mesh_dataset import MeshDataset, PointBatch
    from pde_data.mixed import MixedDataset
    from pde_data.moments import Statistics, statistics
    from pde_data.plotting import animate, plot
    from pde_data.storage import DatasetError
    from pde_data.validation import Report, validate

# No module may have the name of a function here: importing it would put the module in the function's place.
_HOMES = {
    "DatasetError": "pde_data.storage",
    "EQUATIONS": "pde_data.equations",
    "Equation": "pde_data.equations",
    "FieldDataset": "pde_data.dataset",
    "Grid": "pde_data.grids",
    "MeshDataset": "pde_data.mesh_dataset",
    "MixedDataset": "pde_data.mixed",
    "PointBatch": "pde_data.mesh_dataset",
    "Report": "pde_data.validation",
    "Statistics": "pde_data.moments",
    "animate": "pde_data.plotting",
    "audit": "pde_data.audit",
    "generate": "pde_data.generation",
    "open": "pde_data.formats",
    "plot": "pde_data.plotting",
    "resample": "pde_data.grids",
    "simulate": "pde_data.equations",
    "statistics": "pde_data.moments",
    "validate": "pde_data.validation",
}

__all__ = [
    "EQUATIONS",
    "DatasetError",
    "Equation",
    "FieldDataset",
    "Grid",
    "MeshDataset",
    "MixedDataset",
    "PointBatch",
    "Report",
    "Statistics",
    "animate",
    "audit",
    "generate",
    "open",
    "plot",
    "resample",
    "simulate",
    "statistics",
    "validate",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
