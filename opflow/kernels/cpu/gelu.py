r"""Exact GELU, :math:`x \Phi(x)` with the normal distribution function :math:`\Phi`, and its slope.

:math:`\Phi - \frac12` and the slope less :math:`\frac12` are odd: each is x times a ratio of polynomials in
:math:`x^2`, fitted by Lawson's weighted least squares to 7e-9 up to 5.5 and 1.4e-7 up to 6, beyond which they
are constant in float32. ATen's error function takes an exponential, and twice as long.
"""

import numpy as np
from numba import njit

from opflow.kernels.cpu.team import floats

_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
_ZERO, _HALF, _ONE = np.float32(0), np.float32(0.5), np.float32(1)
_END, _SLOPE_END = np.float32(5.5), np.float32(6)
_P0, _P1, _P2, _P3, _P4, _P5 = map(
    np.float32, (0.39894223, 0.033852588, 4.677257e-3, 1.6882508e-4, 6.352112e-6, 2.274944e-8)
)
_Q1, _Q2, _Q3, _Q4, _Q5 = map(np.float32, (0.25152177, 0.028645838, 1.8844413e-3, 7.36473e-5, 1.1975056e-6))
_R0, _R1, _R2, _R3, _R4, _R5 = map(
    np.float32, (0.7978847, -0.030763194, 0.014210527, 2.382418e-5, 3.5848847e-5, 1.909526e-7)
)
_S1, _S2, _S3, _S4, _S5 = map(np.float32, (0.29478186, 0.04105727, 3.5283833e-3, 1.9336885e-4, 8.8892475e-6))


@njit(**_OPTIONS)
def _gelu(x):
    t = min(max(x, -_END), _END)
    u = t * t
    p = ((((_P5 * u + _P4) * u + _P3) * u + _P2) * u + _P1) * u + _P0
    q = ((((_Q5 * u + _Q4) * u + _Q3) * u + _Q2) * u + _Q1) * u + _ONE
    y = x * (_HALF + t * (p / q))
    return _ZERO if x < -_END else y


@njit(**_OPTIONS)
def _slope(x):
    t = min(max(x, -_SLOPE_END), _SLOPE_END)
    u = t * t
    p = ((((_R5 * u + _R4) * u + _R3) * u + _R2) * u + _R1) * u + _R0
    q = ((((_S5 * u + _S4) * u + _S3) * u + _S2) * u + _S1) * u + _ONE
    return _HALF + t * (p / q)


@njit(**_OPTIONS)
def gelu(x, y, size):
    """Write the GELU of `size` numbers at address x to address y, elsewhere."""
    source, target = floats(x, size), floats(y, size)
    for i in range(size):
        target[i] = _gelu(source[i])


@njit(**_OPTIONS)
def gelu_in_place(x, size):
    """Replace the numbers at address x by their GELU; in `gelu`, overlap would cost the vectors."""
    target = floats(x, size)
    for i in range(size):
        target[i] = _gelu(target[i])


@njit(**_OPTIONS)
def slope_times(x, y, size):
    """Replace the numbers at address x by the slope of the GELU there times the numbers at address y."""
    target, factor = floats(x, size), floats(y, size)
    for i in range(size):
        target[i] = _slope(target[i]) * factor[i]
