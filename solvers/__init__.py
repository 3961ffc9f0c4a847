"""Learned preconditioners for SciPy, and the Krylov methods that carry them.

Names are loaded on first use: numba takes a while.
"""

from typing import TYPE_CHECKING

from pde_data.lazy import attach

_HOMES = {
    "DCDMNetwork": "solvers.dcdm_network",
    "DCDMPreconditioner": "solvers.dcdm",
    "GraphPreconditioner": "solvers.graph",
    "GraphWeights": "solvers.graph_weights",
    "GridPoisson": "solvers.grid",
    "MultigridPreconditioner": "solvers.multigrid",
    "Preconditioner": "solvers.preconditioner",
    "PreconditionerReport": "solvers.check",
    "SolveResult": "solvers.krylov",
    "WeightedPreconditioner": "solvers.preconditioner",
    "check_preconditioner": "solvers.check",
    "fcg": "solvers.krylov",
    "train_dcdm": "solvers.dcdm_training",
    "train_graph": "solvers.graph_training",
    "train_preconditioner": "solvers.training",
}

if TYPE_CHECKING:
    from solvers.check import PreconditionerReport as PreconditionerReport
    from solvers.check import check_preconditioner as check_preconditioner
    from solvers.dcdm import DCDMPreconditioner as DCDMPreconditioner
    from solvers.dcdm_network import DCDMNetwork as DCDMNetwork
    from solvers.dcdm_training import train_dcdm as train_dcdm
    from solvers.graph import GraphPreconditioner as GraphPreconditioner
    from solvers.graph_training import train_graph as train_graph
    from solvers.graph_weights import GraphWeights as GraphWeights
    from solvers.grid import GridPoisson as GridPoisson
    from solvers.krylov import SolveResult as SolveResult
    from solvers.krylov import fcg as fcg
    from solvers.multigrid import MultigridPreconditioner as MultigridPreconditioner
    from solvers.preconditioner import Preconditioner as Preconditioner
    from solvers.preconditioner import WeightedPreconditioner as WeightedPreconditioner
    from solvers.training import train_preconditioner as train_preconditioner

__all__ = [
    "DCDMNetwork",
    "DCDMPreconditioner",
    "GraphPreconditioner",
    "GraphWeights",
    "GridPoisson",
    "MultigridPreconditioner",
    "Preconditioner",
    "PreconditionerReport",
    "SolveResult",
    "WeightedPreconditioner",
    "check_preconditioner",
    "fcg",
    "train_dcdm",
    "train_graph",
    "train_preconditioner",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
