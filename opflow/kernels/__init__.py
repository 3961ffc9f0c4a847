"""Operations: a readable reference each, and what runs instead of it.

The references are plain differentiable torch. They serve under `torch.compile` and export, which have to see
through an operation to fuse it or to write it down (an opaque `torch.library` operator would stop both), on
GPUs and in other dtypes than float32. On a CPU, in float32, the kernels of `opflow.kernels.cpu` take over.
Only `causal_solve` is such an operator: a compiler could but unroll its recurrence. On GPUs it has a kernel
in `opflow.kernels.cuda`.
"""

from opflow.kernels.causal import causal_conv, causal_solve
from opflow.kernels.inverse_gain import InverseGain, inverse_gain

__all__ = ["InverseGain", "causal_conv", "causal_solve", "inverse_gain"]
