"""Products of Fourier modes with tied matrices, each written out in cache where it is used."""

import numpy as np
from numba import njit
from numba.np.unsafe.ndarray import to_fixed_tuple
from torch import Tensor

from opflow.kernels.cpu.gemm import multiply as matmul
from opflow.kernels.cpu.team import (
    address,
    arguments_of,
    compiled,
    floats,
    integers,
    keep,
    next_item,
    run,
)
from opflow.kernels.cpu.vectors import negate, transpose
from opflow.kernels.memory import empty

_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


@njit(**_OPTIONS)
def _mirrored(block, held, order):
    """Return where the block of the same element and the negative mode stands."""
    return (held - 1 - block // order) * order + block % order


@njit(**_OPTIONS)
def _write_out(theta, blocks, mode, held, order, n_in, n_out, real, imaginary):
    """Write the matrix of a mode, `(order * n_in, order * n_out)`, as two parts."""
    size, columns = n_in * n_out, order * n_out
    re, im = floats(real, size * order * order), floats(imaginary, size * order * order)
    table = floats(theta, held * order * size)
    for g in range(order):
        for h in range(order):
            block = blocks[(mode * order + g) * order + h]
            one = block * size
            other = _mirrored(block, held, order) * size
            for i in range(n_in):
                at = (h * n_in + i) * columns + g * n_out
                for o in range(n_out):
                    a, b = table[one + i * n_out + o], table[other + i * n_out + o]
                    re[at + o] = 0.5 * (a + b)
                    im[at + o] = 0.5 * (b - a)


@njit(**_OPTIONS)
def _take_back(theta, blocks, mode, held, order, n_in, n_out, real, imaginary):
    """Add the adjoint of `_write_out` to `theta`."""
    size, columns = n_in * n_out, order * n_out
    re, im = floats(real, size * order * order), floats(imaginary, size * order * order)
    table = floats(theta, held * order * size)
    for g in range(order):
        for h in range(order):
            block = blocks[(mode * order + g) * order + h]
            one = block * size
            other = _mirrored(block, held, order) * size
            for i in range(n_in):
                at = (h * n_in + i) * columns + g * n_out
                for o in range(n_out):
                    a, b = 0.5 * re[at + o], 0.5 * im[at + o]
                    table[one + i * n_out + o] += a - b
                for o in range(n_out):
                    a, b = 0.5 * re[at + o], 0.5 * im[at + o]
                    table[other + i * n_out + o] += a + b


def multiply(x: Tensor, theta: Tensor, sources: Tensor, modes: Tensor, starts: Tensor, out: Tensor) -> Tensor:
    """Evaluate `opflow.kernels.group_modes.GroupProduct` into `out`, all contiguous.

    `modes` lists the modes orbit by orbit, `starts` where an orbit begins in it.
    """
    batch, _, count, _ = x.shape
    sizes = (batch, count, *theta.shape)
    tensors = (x, theta, sources, modes, starts, out)
    items = len(starts) - 1
    run(_multiply, items, (items, *sizes, *(t.data_ptr() for t in tensors)))
    return out


@compiled
def _multiply(memory):
    values = to_fixed_tuple(arguments_of(memory), 13)
    items, batch, count, held, order, n_in, n_out, x, theta, sources, modes, starts, y = values
    rows, columns = order * n_in, order * n_out
    x_row, y_row = 2 * count * rows, 2 * count * columns
    blocks = integers(sources, count * order * order)
    listed, bounds = integers(modes, count), integers(starts, items + 1)
    matrix, scratch = np.empty((2, rows * columns), np.float32), np.empty(batch * rows, np.float32)
    w_re, w_im, negative = address(matrix[0]), address(matrix[1]), address(scratch)
    item = next_item(memory)
    while item >= 0:
        for mode in listed[bounds[item] : bounds[item + 1]]:
            _write_out(theta, blocks, mode, held, order, n_in, n_out, w_re, w_im)
            x_re, y_re = x + 4 * mode * rows, y + 4 * mode * columns
            x_im, y_im = x_re + 4 * count * rows, y_re + 4 * count * columns
            matmul(y_re, y_row, x_re, x_row, 1, w_re, columns, batch, columns, rows, 0, 0)
            negate(x_im, x_row, negative, batch, rows)
            matmul(y_re, y_row, negative, rows, 1, w_im, columns, batch, columns, rows, y_re, y_row)
            matmul(y_im, y_row, x_re, x_row, 1, w_im, columns, batch, columns, rows, 0, 0)
            matmul(y_im, y_row, x_im, x_row, 1, w_re, columns, batch, columns, rows, y_im, y_row)
        item = next_item(memory)
    keep(matrix)
    keep(scratch)


def multiply_backward(
    grad: Tensor, x: Tensor, theta: Tensor, sources: Tensor, modes: Tensor, starts: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the gradients of `multiply` with respect to x and theta."""
    batch, _, count, _ = x.shape
    grad_x, grad_theta = empty(x.shape, x), theta.new_zeros(theta.shape)
    sizes = (batch, count, *theta.shape)
    tensors = (grad, x, theta, sources, modes, starts, grad_x, grad_theta)
    items = len(starts) - 1
    run(_multiply_backward, items, (items, *sizes, *(t.data_ptr() for t in tensors)))
    return grad_x, grad_theta


@compiled
def _multiply_backward(memory):
    values = to_fixed_tuple(arguments_of(memory), 15)
    items, batch, count, held, order, n_in, n_out = values[:7]
    grad, x, theta, sources, modes, starts, grad_x, grad_theta = values[7:]
    rows, columns = order * n_in, order * n_out
    x_row, g_row = 2 * count * rows, 2 * count * columns
    blocks = integers(sources, count * order * order)
    listed, bounds = integers(modes, count), integers(starts, items + 1)
    matrix, scratch = np.empty((4, rows * columns), np.float32), np.empty(batch * columns, np.float32)
    w_re, w_im, t_re, t_im = address(matrix[0]), address(matrix[1]), address(matrix[2]), address(matrix[3])
    negative = address(scratch)
    item = next_item(memory)
    while item >= 0:
        for mode in listed[bounds[item] : bounds[item + 1]]:
            _write_out(theta, blocks, mode, held, order, n_in, n_out, w_re, w_im)
            transpose(w_re, columns, t_re, rows, columns)
            transpose(w_im, columns, t_im, rows, columns)
            x_re, g_re = x + 4 * mode * rows, grad + 4 * mode * columns
            x_im, g_im = x_re + 4 * count * rows, g_re + 4 * count * columns
            into_re = grad_x + 4 * mode * rows
            into_im = into_re + 4 * count * rows
            # grad conj(w)^T and conj(x)^T grad
            matmul(into_re, x_row, g_re, g_row, 1, t_re, rows, batch, rows, columns, 0, 0)
            matmul(into_re, x_row, g_im, g_row, 1, t_im, rows, batch, rows, columns, into_re, x_row)
            matmul(into_im, x_row, g_im, g_row, 1, t_re, rows, batch, rows, columns, 0, 0)
            negate(g_re, g_row, negative, batch, columns)
            matmul(into_im, x_row, negative, columns, 1, t_im, rows, batch, rows, columns, into_im, x_row)
            matmul(w_re, columns, x_re, 1, x_row, g_re, g_row, rows, columns, batch, 0, 0)
            matmul(w_re, columns, x_im, 1, x_row, g_im, g_row, rows, columns, batch, w_re, columns)
            matmul(w_im, columns, x_re, 1, x_row, g_im, g_row, rows, columns, batch, 0, 0)
            matmul(w_im, columns, x_im, 1, x_row, negative, columns, rows, columns, batch, w_im, columns)
            _take_back(grad_theta, blocks, mode, held, order, n_in, n_out, w_re, w_im)
        item = next_item(memory)
    keep(matrix)
    keep(scratch)
