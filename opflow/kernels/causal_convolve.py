"""Causal convolutions in differentiable torch, and what else moves between fields and kernels.

`flips` holds for each group the axes to flip before and after, the first axis in space as bit 0.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import conv1d, conv2d, conv3d, pad

from opflow.kernels.backend import runs_compiled


def convolve(x: Tensor, weight: Tensor, flips: Sequence[int], groups: int) -> Tensor:
    """Convolve with zeros on the side that each group looks back to; differentiable torch."""
    padded, turned = pad_behind(x, weight.shape[2:], flips), turn(weight, flips)
    if not rounds_convolutions(x):
        return (conv1d, conv2d, conv3d)[x.ndim - 3](padded, turned, groups=groups)
    windows = _windows(padded, weight.shape[2:], groups)
    return torch.einsum("goit,bgipt->bgop", turned.flatten(2).unflatten(0, (groups, -1)), windows).view(
        x.shape
    )


def weight_gradient(x: Tensor, grad: Tensor, weight: Tensor, flips: Sequence[int], groups: int) -> Tensor:
    """Return the gradient of the kernel of `convolve` from that of its result; differentiable."""
    dims = x.ndim - 2
    if dims < 3 and runs_compiled(x, grad) and not torch.is_grad_enabled():
        return _compiled_gradient(x, grad, weight, flips)
    none, one = [0] * dims, [1] * dims
    padded = pad_behind(x, weight.shape[2:], flips)
    if rounds_convolutions(x):
        points = grad.flatten(2).unflatten(1, (groups, -1))
        sums = torch.einsum("bgop,bgipt->goit", points, _windows(padded, weight.shape[2:], groups))
        return turn(sums.reshape(weight.shape), flips)
    _, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad, padded, weight, None, one, none, one, False, none, groups, [False, True, False]
    )
    return turn(grad_weight, flips)


def _compiled_gradient(x: Tensor, grad: Tensor, weight: Tensor, flips: Sequence[int]) -> Tensor:
    from opflow.kernels.cpu import causal_gradient as cpu

    if x.ndim == 3:  # an image of one row
        x, grad, flips = x.unsqueeze(2), grad.unsqueeze(2), [flip << 1 for flip in flips]
    c, (*rows, columns) = weight.shape[1], weight.shape[2:]
    up = rows[0] if rows else 1
    sums = cpu.weight_gradient(x.contiguous(), grad.contiguous(), torch.tensor(flips), c, up, columns)
    return sums.view(weight.shape)


def rounds_convolutions(x: Tensor) -> bool:
    """Return whether the device's library may take ten bits of each factor (TF32); products take all."""
    return x.device.type == "cuda" and x.dtype == torch.float32


def _windows(padded: Tensor, kernel: Sequence[int], groups: int) -> Tensor:
    """Return what each point sees, `(batch, group, c, point, tap)`."""
    for axis, k in enumerate(kernel):
        padded = padded.unfold(2 + axis, k, 1)
    space = len(kernel)
    return padded.flatten(2 + space).flatten(2, 1 + space).unflatten(1, (groups, -1))


def pad_behind(x: Tensor, kernel: Sequence[int], flips: Sequence[int]) -> Tensor:
    """Put zeros on the side that each group looks back to, as many as a kernel of that size reaches."""
    parts = [x] if len(set(flips)) == 1 else x.chunk(len(flips), 1)
    padded = []
    for part, flip in zip(parts, flips):
        widths = []
        for axis in reversed(range(len(kernel))):
            before = kernel[axis] - 1
            widths += [0, before] if flip >> axis & 1 else [before, 0]
        padded.append(pad(part, widths))
    return padded[0] if len(padded) == 1 else torch.cat(padded, 1)


def turn(x: Tensor, flips: Sequence[int], channel_axis: int = 0) -> Tensor:
    """Flip the axes in space, the last ones, of each group of channels; twice is nothing."""
    if not any(flips):
        return x
    parts = [x] if len(set(flips)) == 1 else x.chunk(len(flips), channel_axis)
    space = x.ndim - 2
    turned = [part.flip([2 + a for a in range(space) if flip >> a & 1]) for part, flip in zip(parts, flips)]
    return turned[0] if len(turned) == 1 else torch.cat(turned, channel_axis)


def transpose(weight: Tensor, groups: int) -> Tensor:
    """Exchange the channels of each group's kernel."""
    return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
