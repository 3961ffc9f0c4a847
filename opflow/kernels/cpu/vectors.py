"""Operations on `size` float32 numbers at addresses that do not overlap."""

from numba import njit

from opflow.kernels.cpu.team import floats

_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


@njit(**_OPTIONS)
def copy(x, out, size):
    """Write `size` numbers at address x to address `out`."""
    source, target = floats(x, size), floats(out, size)
    for i in range(size):
        target[i] = source[i]


@njit(**_OPTIONS)
def times(x, y, out, size):
    """Write x * y."""
    source, other, target = floats(x, size), floats(y, size), floats(out, size)
    for i in range(size):
        target[i] = source[i] * other[i]


@njit(**_OPTIONS)
def add_times(x, y, out, size):
    """Add x * y to the numbers at address `out`."""
    source, other, target = floats(x, size), floats(y, size), floats(out, size)
    for i in range(size):
        target[i] += source[i] * other[i]
