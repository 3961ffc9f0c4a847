"""Which implementation of a kernel serves a tensor."""

import torch
from torch import Tensor


def runs_compiled(*tensors: Tensor) -> bool:
    """Whether the kernels of `opflow.kernels.cpu` serve: real memory of a CPU, in float32, eagerly.

    A compiler fuses the reference by itself, and transforms of functions and tensor subclasses need it.
    """
    return (
        not torch.compiler.is_compiling()
        and all(
            x.dtype == torch.float32 and x.device.type == "cpu" and type(x) in (Tensor, torch.nn.Parameter)
            for x in tensors
        )
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
    )
