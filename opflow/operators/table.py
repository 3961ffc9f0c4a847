"""The operators by name."""

from opflow.operators.base import BaseOperator
from opflow.operators.convnext_unet import ConvNeXtUNet
from opflow.operators.fno import FNO
from opflow.operators.foreign import NeuralopModel
from opflow.operators.gfno import GFNO
from opflow.operators.local_sfno import LocalSFNO
from opflow.operators.localno import LocalNO
from opflow.operators.mino import MINO
from opflow.operators.patch_transformer import PatchTransformer
from opflow.operators.symmetrize import Symmetrize
from opflow.operators.unet import UNet

OPERATORS: dict[str, type[BaseOperator]] = {
    "FNO": FNO,
    "ConvNeXtUNet": ConvNeXtUNet,
    "GFNO": GFNO,
    "LocalNO": LocalNO,
    "LocalSFNO": LocalSFNO,
    "MINO": MINO,
    "NeuralopModel": NeuralopModel,
    "PatchTransformer": PatchTransformer,
    "Symmetrize": Symmetrize,
    "UNet": UNet,
}


def build(name: str, **arguments) -> BaseOperator:
    """Build an operator by name; `"neuralop:UNO"` wraps that model of neuraloperator.

    Raises:
        ValueError: no operator has that name; the message lists those there are.

    Example:
        >>> build("FNO", n_modes=(4,), in_channels=1, out_channels=1, hidden_channels=8).n_dim
        1
    """
    if name.startswith("neuralop:"):
        return NeuralopModel(name.removeprefix("neuralop:"), arguments)
    if name not in OPERATORS:
        known = ", ".join([*OPERATORS, "neuralop:<model>"])
        raise ValueError(f"no operator is called {name!r}; there are {known}")
    return OPERATORS[name](**arguments)
