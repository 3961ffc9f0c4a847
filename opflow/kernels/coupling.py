"""Affine couplings: the last channels of a field are scaled and shifted, as one node."""

from typing import Any

import torch
from torch import Tensor

from opflow.kernels.backend import reference_gradients, runs_compiled
from opflow.kernels.memory import empty

LOG_SCALE_LIMIT = 2.0  # the bound of FInC Flow: no coupling scales by more than exp(2)


def affine_coupling_reference(x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return :math:`(x_1, e^s x_2 + t)` and, per sample, the sum of s.

    With shifts t and raw r stacked in `parameters` `(batch, 2 moved, row, column)`,
    :math:`s = 2 \tanh(r / 2)`; :math:`x_2` are the last `moved` channels.
    """
    kept, moved, shift, share = _parts(x, parameters)
    z = torch.cat([kept, torch.addcmul(shift, moved, torch.exp(share * LOG_SCALE_LIMIT))], 1)
    return z, LOG_SCALE_LIMIT * share.sum((1, 2, 3))


def affine_uncoupling_reference(z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Undo `affine_coupling_reference`; the log-determinants are those of this direction."""
    kept, moved, shift, share = _parts(z, parameters)
    x = torch.cat([kept, (moved - shift) * torch.exp(share * -LOG_SCALE_LIMIT)], 1)
    return x, -LOG_SCALE_LIMIT * share.sum((1, 2, 3))


def _parts(x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shift, raw = parameters.chunk(2, 1)
    kept, moved = x.split([x.shape[1] - shift.shape[1], shift.shape[1]], 1)
    return kept, moved, shift, torch.tanh(raw * (1 / LOG_SCALE_LIMIT))


def affine_coupling(x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate `affine_coupling_reference`, with a compiled kernel where it runs.

    Twice differentiable; the second derivative goes through the reference.
    """
    if not runs_compiled(x, parameters):
        return affine_coupling_reference(x, parameters)
    if not torch.is_grad_enabled():
        return _run(x, parameters, inverse=False)
    return _Couple.apply(x, parameters)


def affine_uncoupling(z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Evaluate `affine_uncoupling_reference`, where nobody wants gradients with a compiled kernel."""
    wanted = torch.is_grad_enabled() and (z.requires_grad or parameters.requires_grad)
    if wanted or not runs_compiled(z, parameters):
        return affine_uncoupling_reference(z, parameters)
    return _run(z, parameters, inverse=True)


def _rows(x: Tensor) -> Tensor:
    """Return `(batch, point, channel)`, contiguous."""
    return x.permute(0, 2, 3, 1).contiguous().flatten(1, 2)


def _empty(x: Tensor, channels: int) -> Tensor:
    """Return an uninitialised field with the channels of a point together."""
    batch, _, row, column = x.shape
    return empty((batch, row, column, channels), x).permute(0, 3, 1, 2)


def _run(x: Tensor, parameters: Tensor, inverse: bool) -> tuple[Tensor, Tensor]:
    from opflow.kernels.cpu import coupling

    out, logdet = _empty(x, x.shape[1]), x.new_empty(len(x))
    coupling.couple(_rows(x), _rows(parameters), inverse, _rows(out), logdet)
    return out, logdet


class _Couple(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, parameters: Tensor):
        ctx.save_for_backward(x, parameters)
        return _run(x, parameters, inverse=False)

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx: Any, grad: Tensor, grad_logdet: Tensor):  # pyright: ignore[reportIncompatibleMethodOverride]
        from opflow.kernels.cpu import coupling

        x, parameters = ctx.saved_tensors
        if torch.is_grad_enabled() or not runs_compiled(grad, grad_logdet):
            grads = (grad, grad_logdet)
            return reference_gradients(
                affine_coupling_reference, (x, parameters), ctx.needs_input_grad, grads
            )
        grad_x, grad_parameters = _empty(x, x.shape[1]), _empty(x, parameters.shape[1])
        given = _rows(x), _rows(parameters), _rows(grad)
        coupling.gradients(*given, grad_logdet.contiguous(), _rows(grad_x), _rows(grad_parameters))
        return grad_x, grad_parameters
