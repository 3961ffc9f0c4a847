"""Learned preconditioners for SciPy, and the Krylov methods that carry them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from solvers.check import PreconditionerReport, check_preconditioner
    from solvers.dcdm import DCDMPreconditioner
    from solvers.dcdm_network import DCDMNetwork
    from solvers.dcdm_training import train_dcdm
    from solvers.grid import GridPoisson
    from solvers.krylov import SolveResult, fcg
    from solvers.multigrid import MultigridPreconditioner
    from solvers.preconditioner import Preconditioner

_WHERE = {
    "DCDMNetwork": "dcdm_network",
    "DCDMPreconditioner": "dcdm",
    "GridPoisson": "grid",
    "MultigridPreconditioner": "multigrid",
    "Preconditioner": "preconditioner",
    "PreconditionerReport": "check",
    "SolveResult": "krylov",
    "check_preconditioner": "check",
    "fcg": "krylov",
    "train_dcdm": "dcdm_training",
}
__all__ = sorted(_WHERE)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: numba takes a while to load."""
    if name not in _WHERE:
        raise AttributeError(f"module 'solvers' has no attribute {name!r}")
    return getattr(import_module(f"solvers.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
