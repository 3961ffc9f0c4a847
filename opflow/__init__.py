"""Neural operators, flows and solvers on function spaces.

Names are loaded on first use, so that `import opflow` costs no more than `import torch`.
"""

from typing import TYPE_CHECKING

from pde_data.lazy import attach

__version__ = "0.1.0"

_HOMES = {
    "ConvNeXtUNet": "opflow.operators",
    "FNO": "opflow.operators",
    "GFNO": "opflow.operators",
    "LocalNO": "opflow.operators",
    "LocalSFNO": "opflow.operators",
    "MINO": "opflow.operators",
    "Operator": "opflow.operators",
    "PatchTransformer": "opflow.operators",
    "PointOperator": "opflow.operators",
    "UNet": "opflow.operators",
    "build": "opflow.operators",
    "Certificate": "opflow.certification",
    "certify": "opflow.certification",
    "equivariance": "opflow.equivariance",
    "TrainConfig": "opflow.training",
    "fit": "opflow.training",
    "rollout": "opflow.autoregression",
    "load": "opflow.save",
    "export": "opflow.export",
    "interop": "opflow.interop",
    "flows": "opflow.flows",
    "metrics": "opflow.metrics",
    "plot": "opflow.plot",
    "rectified": "opflow.rectified",
    "trust": "opflow.trust",
}

if TYPE_CHECKING:
    from opflow import equivariance as equivariance
    from opflow import export as export
    from opflow import flows as flows
    from opflow import interop as interop
    from opflow import metrics as metrics
    from opflow import plot as plot
    from opflow import rectified as rectified
    from opflow import trust as trust
    from opflow.autoregression import rollout as rollout
    from opflow.certification import Certificate as Certificate
    from opflow.certification import certify as certify
    from opflow.operators import FNO as FNO
    from opflow.operators import GFNO as GFNO
    from opflow.operators import MINO as MINO
    from opflow.operators import ConvNeXtUNet as ConvNeXtUNet
    from opflow.operators import LocalNO as LocalNO
    from opflow.operators import LocalSFNO as LocalSFNO
    from opflow.operators import Operator as Operator
    from opflow.operators import PatchTransformer as PatchTransformer
    from opflow.operators import PointOperator as PointOperator
    from opflow.operators import UNet as UNet
    from opflow.operators import build as build
    from opflow.save import load as load
    from opflow.training import TrainConfig as TrainConfig
    from opflow.training import fit as fit

__all__ = [
    "FNO",
    "GFNO",
    "MINO",
    "Certificate",
    "ConvNeXtUNet",
    "LocalNO",
    "LocalSFNO",
    "Operator",
    "PatchTransformer",
    "PointOperator",
    "TrainConfig",
    "UNet",
    "build",
    "certify",
    "equivariance",
    "export",
    "fit",
    "flows",
    "interop",
    "load",
    "metrics",
    "plot",
    "rectified",
    "rollout",
    "trust",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
