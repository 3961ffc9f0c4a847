"""Batched matrix products in float32, and complex ones of Fourier modes."""

from math import ceil

import numpy as np
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.gemm import multiply
from opflow.kernels.cpu.team import address, arguments_of, compiled, keep, next_item, run
from opflow.kernels.cpu.vectors import negate, transpose
from opflow.kernels.memory import empty

_COLUMNS = 128  # of one product: it reads as many columns of B, and all of A
_WORK = 1 << 19  # multiplications of an item, about ten microseconds, to which taking it adds little


def _grain(work: int) -> int:
    """Return how many products of `work` multiplications make an item."""
    return 1 + _WORK // max(1, work)


def bmm(a: Tensor, b: Tensor, out: Tensor, accumulate: bool = False) -> Tensor:
    """Write a b, or add it, to `out`.

    a is `(m, k)`, the same for all, b `(batch, k, n)` and out `(batch, m, n)`; a may have any strides, the
    others unit strides along n.
    """
    batch, k, n = b.shape
    m = len(a)
    blocks = ceil(n / _COLUMNS)
    size = _grain(m * k * min(n, _COLUMNS))
    run(
        _bmm,
        ceil(batch * blocks / size),
        (
            *(size, batch * blocks, blocks, m, n, k, int(accumulate)),
            *(a.data_ptr(), *a.stride()),
            *(b.data_ptr(), b.stride(0), b.stride(1)),
            *(out.data_ptr(), out.stride(0), out.stride(1)),
        ),
    )
    return out


@compiled
def _bmm(memory):
    values = to_fixed_tuple(arguments_of(memory), 16)
    size, products, blocks, m, n, k, accumulate = values[:7]
    a, a_row, a_col, b, b_step, b_row, c, c_step, c_row = values[7:]
    item = next_item(memory)
    while item >= 0:
        for product in range(item * size, min(products, (item + 1) * size)):
            first = (product % blocks) * _COLUMNS
            at_b = b + 4 * (product // blocks * b_step + first)
            at_c = c + 4 * (product // blocks * c_step + first)
            width, start = min(n - first, _COLUMNS), at_c if accumulate else 0
            multiply(at_c, c_row, a, a_row, a_col, at_b, b_row, m, width, k, start, c_row)
        item = next_item(memory)


def multiply_modes(x: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """Multiply `(batch, 2, modes, in)` by `(modes, in, 2, out)`: `(batch, 2, modes, out)`, all contiguous."""
    batch, _, modes, channels = x.shape
    size = _grain(4 * batch * channels * out.shape[-1])
    addresses = (t.data_ptr() for t in (x, weight, out))
    run(_multiply_modes, ceil(modes / size), (size, batch, modes, channels, out.shape[-1], *addresses))
    return out


@compiled
def _multiply_modes(memory):
    size, batch, modes, n_in, n_out, x, weight, y = to_fixed_tuple(arguments_of(memory), 8)
    x_row, y_row, w_row = 2 * modes * n_in, 2 * modes * n_out, 2 * n_out
    scratch = np.empty(batch * n_in, np.float32)
    negative = address(scratch)
    item = next_item(memory)
    while item >= 0:
        for mode in range(item * size, min(modes, (item + 1) * size)):
            x_re, y_re = x + 4 * mode * n_in, y + 4 * mode * n_out
            x_im, y_im = x_re + 4 * modes * n_in, y_re + 4 * modes * n_out
            w_re = weight + 8 * mode * n_in * n_out
            w_im = w_re + 4 * n_out
            multiply(y_re, y_row, x_re, x_row, 1, w_re, w_row, batch, n_out, n_in, 0, 0)
            negate(x_im, x_row, negative, batch, n_in)
            multiply(y_re, y_row, negative, n_in, 1, w_im, w_row, batch, n_out, n_in, y_re, y_row)
            multiply(y_im, y_row, x_re, x_row, 1, w_im, w_row, batch, n_out, n_in, 0, 0)
            multiply(y_im, y_row, x_im, x_row, 1, w_re, w_row, batch, n_out, n_in, y_im, y_row)
        item = next_item(memory)
    keep(scratch)


def multiply_modes_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of `multiply_modes` with respect to x and weight."""
    batch, _, modes, channels = x.shape
    grad_x, grad_weight = empty(x.shape, x), empty(weight.shape, x)
    addresses = (t.data_ptr() for t in (grad, x, weight, grad_x, grad_weight))
    size = _grain(8 * batch * channels * grad.shape[-1])
    sizes = (size, batch, modes, channels, grad.shape[-1])
    run(_multiply_modes_backward, ceil(modes / size), (*sizes, *addresses))
    return grad_x, grad_weight


@compiled
def _multiply_modes_backward(memory):
    values = to_fixed_tuple(arguments_of(memory), 10)
    size, batch, modes, n_in, n_out = values[:5]
    grad, x, weight, grad_x, grad_weight = values[5:]
    x_row, g_row, w_row = 2 * modes * n_in, 2 * modes * n_out, 2 * n_out
    transposed, scratch = np.empty((2, n_out * n_in), np.float32), np.empty(batch * n_out, np.float32)
    t_re, t_im, negative = address(transposed[0]), address(transposed[1]), address(scratch)
    item = next_item(memory)
    while item >= 0:
        for mode in range(item * size, min(modes, (item + 1) * size)):
            x_re, g_re = x + 4 * mode * n_in, grad + 4 * mode * n_out
            x_im, g_im = x_re + 4 * modes * n_in, g_re + 4 * modes * n_out
            into_re, into_w_re = grad_x + 4 * mode * n_in, grad_weight + 8 * mode * n_in * n_out
            into_im, into_w_im = into_re + 4 * modes * n_in, into_w_re + 4 * n_out
            w_re = weight + 8 * mode * n_in * n_out
            transpose(w_re, w_row, t_re, n_in, n_out)
            transpose(w_re + 4 * n_out, w_row, t_im, n_in, n_out)
            # grad conj(w)^T and conj(x)^T grad
            multiply(into_re, x_row, g_re, g_row, 1, t_re, n_in, batch, n_in, n_out, 0, 0)
            multiply(into_re, x_row, g_im, g_row, 1, t_im, n_in, batch, n_in, n_out, into_re, x_row)
            multiply(into_im, x_row, g_im, g_row, 1, t_re, n_in, batch, n_in, n_out, 0, 0)
            negate(g_re, g_row, negative, batch, n_out)
            multiply(into_im, x_row, negative, n_out, 1, t_im, n_in, batch, n_in, n_out, into_im, x_row)
            multiply(into_w_re, w_row, x_re, 1, x_row, g_re, g_row, n_in, n_out, batch, 0, 0)
            multiply(into_w_re, w_row, x_im, 1, x_row, g_im, g_row, n_in, n_out, batch, into_w_re, w_row)
            multiply(into_w_im, w_row, x_re, 1, x_row, g_im, g_row, n_in, n_out, batch, 0, 0)
            multiply(into_w_im, w_row, x_im, 1, x_row, negative, n_out, n_in, n_out, batch, into_w_im, w_row)
        item = next_item(memory)
    keep(transposed)
    keep(scratch)
