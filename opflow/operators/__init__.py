"""Operators: maps from fields to fields."""

from opflow.operators.base import BaseOperator as BaseOperator
from opflow.operators.base import Operator as Operator
from opflow.operators.convnext_unet import ConvNeXtUNet as ConvNeXtUNet
from opflow.operators.fno import FNO as FNO
from opflow.operators.gfno import GFNO as GFNO
from opflow.operators.local_sfno import LocalSFNO as LocalSFNO
from opflow.operators.localno import LocalNO as LocalNO
from opflow.operators.mino import MINO as MINO
from opflow.operators.patch_transformer import PatchTransformer as PatchTransformer
from opflow.operators.points import PointOperator as PointOperator
from opflow.operators.table import OPERATORS as OPERATORS
from opflow.operators.table import build as build
from opflow.operators.unet import UNet as UNet
