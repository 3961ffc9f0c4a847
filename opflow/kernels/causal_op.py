"""The operation behind `causal_solve`: implementations, derivatives, and the rules of torch's transforms.

Its `flips` are those of `opflow.kernels.causal_convolve`.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from opflow.kernels.causal_convolve import convolve, transpose, turn, weight_gradient
from opflow.kernels.causal_guarded import fft, fixed_point, impulses, refuse_growth
from opflow.kernels.causal_reference import plane_scan, row_scan, wavefront
from opflow.kernels.corner import divide_by_corner

_WIDEST_ROW = 256  # unknowns of a row, beyond which its dense triangle costs more than the diagonals' calls


@torch.library.custom_op("opflow::causal_solve", mutates_args=())
def solve(y: Tensor, weight: Tensor, flips: Sequence[int], groups: int, method: str) -> Tensor:
    """Return x with `convolve(x, weight, flips, groups) == y`, laid out as y is if that is channels-last."""
    taps, layout = divide_by_corner(weight, groups), _layout(y)
    if y.numel() == 0:
        return torch.empty_like(y, memory_format=layout)
    if method == "substitution":
        return substituted(y, taps, flips)
    refuse_growth(weight, groups, method)
    turned = turn(y, flips, 1)
    if method == "fft":
        response = _substitute(impulses(y, taps.shape[1]), taps, [0] * groups)
        x = fft(turned, response)
    else:
        x = fixed_point(turned, taps)
    return turn(x, flips, 1).contiguous(memory_format=layout)


def substituted(y: Tensor, taps: Tensor, flips: Sequence[int]) -> Tensor:
    """Return the solution for taps of `divide_by_corner`, laid out as that of `solve`."""
    return _substitute(y, taps, flips).contiguous(memory_format=_layout(y))


def _layout(y: Tensor) -> torch.memory_format:
    images = y.ndim == 4 and not y.is_contiguous() and y.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if images else torch.contiguous_format


def _substitute(y: Tensor, taps: Tensor, flips: Sequence[int]) -> Tensor:
    """Run the recurrence on fields `(batch, channel, *space)` with taps of `divide_by_corner`."""
    if y.ndim == 3:
        x = _solve_images(y.unsqueeze(2), taps.unsqueeze(3), [flip << 1 for flip in flips])
        return x.squeeze(2)
    if y.ndim == 5:
        x = plane_scan(turn(y, flips, 1), taps, _solve_images)
        return turn(x, flips, 1)
    return _solve_images(y, taps, flips)


def _solve_images(y: Tensor, taps: Tensor, flips: Sequence[int]) -> Tensor:
    """Run it on images `(batch, channel, row, column)`, on the fastest backend."""
    if y.device.type == "cpu" and y.dtype == torch.float32:
        from opflow.kernels.cpu import causal_solve as cpu

        return cpu.solve(y.contiguous(memory_format=_layout(y)), taps.contiguous(), torch.tensor(flips))
    if y.device.type == "cuda" and y.dtype == torch.float32 and _has_triton():
        from opflow.kernels.cuda import causal_solve as cuda

        if taps.shape[1] <= cuda.WIDEST:
            return cuda.solve(y.contiguous(), taps, torch.tensor(flips))
    x = substitute(turn(y, flips, 1).unflatten(1, (len(flips), -1)), taps)
    return turn(x.flatten(1, 2), flips, 1)


@lru_cache
def _has_triton() -> bool:
    return find_spec("triton") is not None


def substitute(y: Tensor, taps: Tensor) -> Tensor:
    """Run the recurrence on `(batch, group, c, row, column)`, both axes forward, in plain torch."""
    narrow = y.shape[2] * y.shape[4] <= _WIDEST_ROW
    return row_scan(y, taps) if narrow else wavefront(y, taps)


@solve.register_fake
def _(y: Tensor, weight: Tensor, flips: Sequence[int], groups: int, method: str) -> Tensor:
    return torch.empty_like(y, memory_format=_layout(y))


def dispatch(y: Tensor, weight: Tensor, flips: Sequence[int], groups: int, method: str) -> Tensor:
    """Call `solve`, through a form that `torch.func` and forward derivatives know where they are active."""
    if torch._C._are_functorch_transforms_active() or torch.autograd.forward_ad._current_level >= 0:
        return _TransformedSolve.apply(y, weight, flips, groups, method)
    return solve(y, weight, flips, groups, method)


def _setup(ctx: Any, inputs: tuple, output: Tensor) -> None:
    _, weight, ctx.flips, ctx.groups, ctx.method = inputs
    ctx.save_for_backward(output, weight)


def _backward(ctx: Any, grad: Tensor):
    x, weight = ctx.saved_tensors
    # The transposed matrix looks ahead where its original looks back.
    ahead = [flip ^ ((1 << x.ndim - 2) - 1) for flip in ctx.flips]
    grad_weight = None
    with torch.autocast(x.device.type, enabled=False):
        adjoint = dispatch(grad, transpose(weight, ctx.groups), ahead, ctx.groups, ctx.method)
        if ctx.needs_input_grad[1]:
            grad_weight = -weight_gradient(x, adjoint, weight, ctx.flips, ctx.groups)
    return adjoint, grad_weight, None, None, None


solve.register_autograd(_backward, setup_context=_setup)


@solve.register_vmap
def _(info: Any, in_dims: tuple, y: Tensor, weight: Tensor, flips: Sequence[int], groups: int, method: str):
    y_dim, weight_dim, *_ = in_dims
    n = info.batch_size
    if weight_dim is None:  # more of a batch
        y = y.movedim(y_dim, 0)
        return solve(y.flatten(0, 1), weight, flips, groups, method).unflatten(0, (n, -1)), 0
    # Kernels of their own: more groups.
    weight = weight.movedim(weight_dim, 0).flatten(0, 1)
    y = y.movedim(y_dim, 1) if y_dim is not None else y.unsqueeze(1).expand(-1, n, *y.shape[1:])
    return solve(y.flatten(1, 2), weight, [*flips] * n, groups * n, method).unflatten(1, (n, -1)), 1


class _TransformedSolve(torch.autograd.Function):
    """The operation for `torch.func` and forward derivatives, which torch's custom operations refuse."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, weight: Tensor, flips: Sequence[int], groups: int, method: str) -> Tensor:
        return solve(y, weight, flips, groups, method)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, weight, ctx.flips, ctx.groups, ctx.method = inputs
        ctx.save_for_backward(output, weight)
        ctx.save_for_forward(output, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        return _backward(ctx, grad)

    @staticmethod
    def jvp(ctx: Any, y_tangent: Tensor | None, weight_tangent: Tensor | None, *_: None):  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        right = torch.zeros_like(x) if y_tangent is None else y_tangent
        with torch.autocast(x.device.type, enabled=False):
            if weight_tangent is not None:
                right = right - convolve(x, weight_tangent, ctx.flips, ctx.groups)
            return _TransformedSolve.apply(right, weight, ctx.flips, ctx.groups, ctx.method)


for _device in ("cpu", "cuda"):
    solve.register_autocast(_device, torch.float32)
