"""Which implementation of a kernel serves its tensors, and derivatives by the reference."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def is_eager(*tensors: Tensor) -> bool:
    """Whether operations on the tensors run at once, on real memory: nobody traces, counts or wraps them."""
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._are_functorch_transforms_active()
        and all(type(x) in (Tensor, torch.nn.Parameter) for x in tensors)
    )


def runs_compiled(*tensors: Tensor) -> bool:
    """Whether the kernels of `opflow.kernels.cpu` serve: eagerly, on a CPU, in float32.

    A compiler fuses the reference by itself; transforms, tangents and tensor subclasses need it.
    """
    return (
        is_eager(*tensors)
        and not torch.is_autocast_enabled("cpu")
        and torch.autograd.forward_ad._current_level < 0
        and all(x.dtype == torch.float32 and x.device.type == "cpu" and _owns_memory(x) for x in tensors)
    )


def _owns_memory(x: Tensor) -> bool:
    batched = torch._C._functorch.is_legacy_batchedtensor  # pyright: ignore[reportAttributeAccessIssue]
    return not (x.is_neg() or batched(x))


def reference_gradients(
    reference: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    needed: Sequence[bool],
    grad: Tensor | Sequence[Tensor],
) -> tuple[Tensor | None, ...]:
    """Return the gradients of `reference` at the inputs needed, differentiable while a graph is recorded."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views, so that the graph ends here: what lies behind the inputs is the caller's to walk.
        inputs = [t.view_as(t) for t in inputs]
        live = [t for t, need in zip(inputs, needed) if need]
        grads = iter(torch.autograd.grad(reference(*inputs), live, grad, create_graph=create_graph))
    return tuple(next(grads) if need else None for need in needed)
