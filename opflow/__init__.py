"""Neural operators, flows and solvers on function spaces.

Names are loaded on first use, so that `import opflow` costs no more than `import torch`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_HOMES = {
    "FNO": "opflow.operators",
    "Operator": "opflow.operators",
    "build": "opflow.operators",
    "TrainConfig": "opflow.training",
    "fit": "opflow.training",
    "rollout": "opflow.autoregression",
    "load": "opflow.save",
    "export": "opflow.export",
    "interop": "opflow.interop",
    "metrics": "opflow.metrics",
    "plot": "opflow.plot",
}
_MODULES = {"export", "interop", "metrics", "plot"}

if TYPE_CHECKING:
    from opflow import export as export
    from opflow import interop as interop
    from opflow import metrics as metrics
    from opflow import plot as plot
    from opflow.autoregression import rollout as rollout
    from opflow.operators import FNO as FNO
    from opflow.operators import Operator as Operator
    from opflow.operators import build as build
    from opflow.save import load as load
    from opflow.training import TrainConfig as TrainConfig
    from opflow.training import fit as fit

__all__ = [
    "FNO",
    "Operator",
    "TrainConfig",
    "build",
    "export",
    "fit",
    "interop",
    "load",
    "metrics",
    "plot",
    "rollout",
]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'opflow' has no attribute {name!r}")
    home = import_module(_HOMES[name])
    value = home if name in _MODULES else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
