"""Which implementation of a kernel serves a tensor."""

import torch
from torch import Tensor


def runs_compiled(x: Tensor) -> bool:
    """Whether the kernels of `opflow.kernels.cpu` serve: real memory of a CPU, in float32, eagerly.

    A compiler fuses the reference by itself, and transforms of functions and tensor subclasses need it.
    """
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and type(x) in (Tensor, torch.nn.Parameter)
        and not torch.compiler.is_compiling()
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
    )
