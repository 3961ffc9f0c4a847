"""Batched matrix products in float32, and complex ones of Fourier modes."""

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.gemm import multiply, multiply_negative
from opflow.kernels.cpu.team import address, arguments_of, compiled, floats, keep, next_item, run
from opflow.kernels.memory import empty

_COLUMNS = 128  # of a result that one item computes: it reads as many columns of B, and all of A


def bmm(a: Tensor, b: Tensor, out: Tensor, accumulate: bool = False) -> Tensor:
    """Write a b, or add it, to `out`.

    a is `(m, k)`, the same for all, b `(batch, k, n)` and out `(batch, m, n)`; a may have any strides, the
    others unit strides along n.
    """
    batch, k, n = b.shape
    m = len(a)
    blocks = -(-n // _COLUMNS)
    run(
        _bmm,
        batch * blocks,
        (
            *(blocks, m, n, k, int(accumulate)),
            *(a.data_ptr(), *a.stride()),
            *(b.data_ptr(), b.stride(0), b.stride(1)),
            *(out.data_ptr(), out.stride(0), out.stride(1)),
        ),
    )
    return out


@compiled
def _bmm(memory):
    blocks, m, n, k, keep, a, a_row, a_col, b, b_step, b_row, c, c_step, c_row = to_fixed_tuple(
        arguments_of(memory), 14
    )
    item = next_item(memory)
    while item >= 0:
        first = (item % blocks) * _COLUMNS
        at_b = b + 4 * (item // blocks * b_step + first)
        at_c = c + 4 * (item // blocks * c_step + first)
        multiply(at_c, c_row, a, a_row, a_col, at_b, b_row, m, min(n - first, _COLUMNS), k, at_c if keep else 0, c_row)
        item = next_item(memory)


def multiply_modes(x: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """Multiply `(batch, 2, modes, in)` by `(modes, in, 2, out)`: `(batch, 2, modes, out)`, all contiguous."""
    batch, _, modes, channels = x.shape
    run(
        _multiply_modes,
        modes,
        (batch, modes, channels, out.shape[-1], x.data_ptr(), weight.data_ptr(), out.data_ptr()),
    )
    return out


@compiled
def _multiply_modes(memory):
    batch, modes, n_in, n_out, x, weight, y = to_fixed_tuple(arguments_of(memory), 7)
    mode = next_item(memory)
    while mode >= 0:
        x_re, y_re = x + 4 * mode * n_in, y + 4 * mode * n_out
        x_im, y_im = x_re + 4 * modes * n_in, y_re + 4 * modes * n_out
        w_re = weight + 8 * mode * n_in * n_out
        w_im = w_re + 4 * n_out
        x_row, y_row = 2 * modes * n_in, 2 * modes * n_out
        multiply(y_re, y_row, x_re, x_row, 1, w_re, 2 * n_out, batch, n_out, n_in, 0, 0)
        multiply_negative(y_re, y_row, x_im, x_row, 1, w_im, 2 * n_out, batch, n_out, n_in, y_re, y_row)
        multiply(y_im, y_row, x_re, x_row, 1, w_im, 2 * n_out, batch, n_out, n_in, 0, 0)
        multiply(y_im, y_row, x_im, x_row, 1, w_re, 2 * n_out, batch, n_out, n_in, y_im, y_row)
        mode = next_item(memory)


def multiply_modes_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of `multiply_modes` with respect to x and weight."""
    batch, _, modes, channels = x.shape
    grad_x, grad_weight = empty(x.shape, x), empty(weight.shape, x)
    addresses = (t.data_ptr() for t in (grad, x, weight, grad_x, grad_weight))
    run(_multiply_modes_backward, modes, (batch, modes, channels, grad.shape[-1], *addresses))
    return grad_x, grad_weight


@compiled
def _multiply_modes_backward(memory):
    batch, modes, n_in, n_out, grad, x, weight, grad_x, grad_weight = to_fixed_tuple(
        arguments_of(memory), 9
    )
    x_row, g_row, w_row = 2 * modes * n_in, 2 * modes * n_out, 2 * n_out
    transposed = np.empty((2, n_out, n_in), np.float32)
    t_re = address(transposed)
    t_im = t_re + 4 * n_in * n_out
    mode = next_item(memory)
    while mode >= 0:
        x_re, g_re = x + 4 * mode * n_in, grad + 4 * mode * n_out
        x_im, g_im = x_re + 4 * modes * n_in, g_re + 4 * modes * n_out
        into_re, into_w_re = grad_x + 4 * mode * n_in, grad_weight + 8 * mode * n_in * n_out
        into_im, into_w_im = into_re + 4 * modes * n_in, into_w_re + 4 * n_out
        w = floats(weight + 8 * mode * n_in * n_out, 2 * n_in * n_out).reshape(n_in, 2, n_out)
        for i in range(n_in):
            for j in range(n_out):
                transposed[0, j, i] = w[i, 0, j]
                transposed[1, j, i] = w[i, 1, j]
        # grad conj(w)^T and conj(x)^T grad
        multiply(into_re, x_row, g_re, g_row, 1, t_re, n_in, batch, n_in, n_out, 0, 0)
        multiply(into_re, x_row, g_im, g_row, 1, t_im, n_in, batch, n_in, n_out, into_re, x_row)
        multiply(into_im, x_row, g_im, g_row, 1, t_re, n_in, batch, n_in, n_out, 0, 0)
        multiply_negative(into_im, x_row, g_re, g_row, 1, t_im, n_in, batch, n_in, n_out, into_im, x_row)
        multiply(into_w_re, w_row, x_re, 1, x_row, g_re, g_row, n_in, n_out, batch, 0, 0)
        multiply(into_w_re, w_row, x_im, 1, x_row, g_im, g_row, n_in, n_out, batch, into_w_re, w_row)
        multiply(into_w_im, w_row, x_re, 1, x_row, g_im, g_row, n_in, n_out, batch, 0, 0)
        multiply_negative(into_w_im, w_row, x_im, 1, x_row, g_re, g_row, n_in, n_out, batch, into_w_im, w_row)
        mode = next_item(memory)
    keep(transposed)
