r"""SiLU, :math:`x / (1 + e^{-x})`, and its slope.

The exponential is :math:`2^k e^r` with the nearest integer k to :math:`x \log_2 e`, put into the exponent
of a float, and the Taylor polynomial of degree seven of the rest, :math:`|r| \le \frac12 \log 2`, exact to
5e-9. Written out, it is done for a vector of numbers at once; a call of the C library is not.
"""

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
_ONE, _HALF, _END = np.float32(1), np.float32(0.5), np.float32(87)
_LOG2E = np.float32(math.log2(math.e))
_LOG2_HIGH = np.float32(355 / 512)  # k times this is exact
_LOG2_LOW = np.float32(math.log(2) - 355 / 512)
_T2, _T3, _T4, _T5, _T6, _T7 = (np.float32(1 / math.factorial(i)) for i in range(2, 8))


@intrinsic
def _power_of_two(typing, k):
    """2 to the power of an int32 between -126 and 127."""

    def generate(context, builder, signature, arguments):
        kind = ir.IntType(32)
        biased = builder.add(arguments[0], ir.Constant(kind, 127))
        return builder.bitcast(builder.shl(biased, ir.Constant(kind, 23)), ir.FloatType())

    return types.float32(types.int32), generate


@njit(**_OPTIONS)
def exponential(x):
    """Return exp(-x), for a number beyond 87 in size that of 87."""
    t = min(max(-x, -_END), _END)
    k = np.floor(t * _LOG2E + _HALF)
    r = (t - k * _LOG2_HIGH) - k * _LOG2_LOW
    p = (((((_T7 * r + _T6) * r + _T5) * r + _T4) * r + _T3) * r + _T2) * (r * r) + r + _ONE
    return p * _power_of_two(np.int32(k))


@njit(**_OPTIONS)
def silu(x):
    """Return x / (1 + exp(-x))."""
    return x / (_ONE + exponential(x))


@njit(**_OPTIONS)
def silu_slope(x):
    """Return the derivative of `silu`."""
    e = exponential(x)
    s = _ONE / (_ONE + e)
    return s * (_ONE + x * (e * s))  # e s is 1 - s without the cancellation
