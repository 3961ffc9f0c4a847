"""Operations on float32 numbers at addresses that do not overlap."""

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
def repeat(x, out, n, times):
    """Write the `n` numbers at address x several times."""
    for i in range(times):
        copy(x, out + 4 * i * n, n)


@njit(**_OPTIONS)
def transpose(x, row, out, m, n):
    """Write the `(m, n)` matrix with `row` numbers from one row to the next as `(n, m)`."""
    source, target = floats(x, (m - 1) * row + n), floats(out, m * n)
    for i in range(m):
        for j in range(n):
            target[j * m + i] = source[i * row + j]


@njit(**_OPTIONS)
def negate(x, row, out, m, n):
    """Write -x, an `(m, n)` matrix with `row` numbers from one row to the next, without gaps."""
    source, target = floats(x, (m - 1) * row + n), floats(out, m * n)
    for i in range(m):
        for j in range(n):
            target[i * n + j] = -source[i * row + j]


@njit(**_OPTIONS)
def add(x, y, out, size):
    """Write x + y."""
    source, other, target = floats(x, size), floats(y, size), floats(out, size)
    for i in range(size):
        target[i] = source[i] + other[i]


@njit(**_OPTIONS)
def scale(x, factor, out, size):
    """Write factor * x, with one factor for all."""
    source, target = floats(x, size), floats(out, size)
    for i in range(size):
        target[i] = source[i] * factor


@njit(**_OPTIONS)
def add_scaled(x, factor, out, size):
    """Add factor * x, with one factor for all, to the numbers at address `out`."""
    source, target = floats(x, size), floats(out, size)
    for i in range(size):
        target[i] += source[i] * factor


@njit(**_OPTIONS)
def times(x, y, out, size):
    """Write x * y."""
    source, other, target = floats(x, size), floats(y, size), floats(out, size)
    for i in range(size):
        target[i] = source[i] * other[i]


@njit(**_OPTIONS)
def move_to_sum(x, total, size):
    """Add the numbers at address x to those at address `total`, and leave zeros behind."""
    source, target = floats(x, size), floats(total, size)
    for i in range(size):
        target[i] += source[i]
    for i in range(size):
        source[i] = 0


@njit(**_OPTIONS)
def add_times(x, y, out, size):
    """Add x * y to the numbers at address `out`."""
    source, other, target = floats(x, size), floats(y, size), floats(out, size)
    for i in range(size):
        target[i] += source[i] * other[i]


@njit(**_OPTIONS)
def walsh(x, m, width, blocks):
    """Replace the 1, 2 or 4 blocks of each row of `width` numbers by their sums with all sign patterns."""
    size = width // 2
    while blocks > 1:
        for first in range(0, m * width, 2 * size):
            one, other = floats(x + 4 * first, size), floats(x + 4 * (first + size), size)
            for i in range(size):
                a, b = one[i], other[i]
                one[i] = a + b
                other[i] = a - b
        size //= 2
        blocks //= 2


@njit(**_OPTIONS)
def transpose_blocks(x, out, m, n, blocks):
    """Write each of the `(m, n)` blocks, one behind the other, as `(n, m)`."""
    for j in range(blocks):
        transpose(x + 4 * j * m * n, n, out + 4 * j * m * n, m, n)


@njit(**_OPTIONS)
def add_square_offsets(x, centre, out, size):
    """Add (x - centre)^2 to the numbers at address `out`."""
    source, middle, target = floats(x, size), floats(centre, size), floats(out, size)
    for i in range(size):
        offset = source[i] - middle[i]
        target[i] += offset * offset


@njit(**_OPTIONS)
def add_times_offsets(x, centre, scale, out, size):
    """Add (x - centre) scale to the numbers at address `out`."""
    source, middle, factor = floats(x, size), floats(centre, size), floats(scale, size)
    target = floats(out, size)
    for i in range(size):
        target[i] += (source[i] - middle[i]) * factor[i]
