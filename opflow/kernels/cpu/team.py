"""Run a compiled loop on the threads of PyTorch's own operations.

Idle OpenMP threads spin for milliseconds, so a second pool of threads beside PyTorch's halves the speed of
both. PyTorch loads its OpenMP library for all to see, and the entry point that compilers emit calls for,
`GOMP_parallel`, is in GNU's and in LLVM's.
"""

import ctypes
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from llvmlite import ir
from numba import carray, cfunc, float32, float64, int64, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

# The argument of a kernel is the address of an array of int64: the next item to be done, the number of items,
# and the arguments that `run` got.
_LONGEST = 32
_KERNEL = types.void(types.voidptr)


def compiled(function: Callable, signature=_KERNEL):
    """Compile a kernel, or take it from numba's cache on disk where there is a writable place for that."""
    # numba looks at the function's own file for changes; the name covers the files that it draws upon.
    function.__qualname__ += f"_{_sources()}"
    options = {"nogil": True, "error_model": "numpy"}
    try:
        return cfunc(signature, cache=True, **options)(function)
    except (RuntimeError, OSError):
        return cfunc(signature, **options)(function)


@lru_cache
def _sources() -> str:
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def run(kernel: Callable, items: int, arguments: Sequence[int]) -> None:
    """Do items 0 to `items` - 1 of `kernel`, in any order, on as many threads as PyTorch uses."""
    memory = (ctypes.c_int64 * _LONGEST)(0, items, *arguments)
    at = ctypes.addressof(memory)
    threads = torch.get_num_threads()
    if threads == 1 or items == 1:
        kernel.ctypes(at)
    elif _parallel is not None:
        _parallel(kernel.address, at, threads, 0)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(kernel.ctypes, [at] * threads))


@njit(nogil=True)
def next_item(memory):
    """Return the next item for this thread, or -1 when all are taken; `memory` is the kernel's argument."""
    item = _fetch_and_increment(memory)
    return item if item < carray(memory, 2, int64)[1] else -1


@njit(nogil=True)
def arguments_of(memory):
    """Return what `run` got, an array of int64, for `to_fixed_tuple`."""
    return carray(memory, _LONGEST, int64)[2:]


@njit(nogil=True)
def address(array):
    """Return the address of an array as a signed number, for sums with others."""
    return np.int64(array.ctypes.data)


@njit(nogil=True)
def keep(array):
    """Do nothing: numba frees an array behind its last use by name, though its address be in use."""


@njit(nogil=True)
def floats(address, size):
    """Return the `size` float32 numbers at an address as an array."""
    return carray(_pointer(address), size, float32)


@njit(nogil=True)
def doubles(address, size):
    """Return the `size` float64 numbers at an address as an array."""
    return carray(_pointer(address), size, float64)


@njit(nogil=True)
def integers(address, size):
    """Return the `size` int64 numbers at an address as an array."""
    return carray(_pointer(address), size, int64)


@intrinsic
def _fetch_and_increment(typing, memory):
    def generate(context, builder, signature, arguments):
        counter = builder.bitcast(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", counter, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.voidptr), generate


@intrinsic
def _pointer(typing, address):
    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.intp), generate


def _find_openmp():
    try:
        function = ctypes.CDLL(None).GOMP_parallel
    except (AttributeError, TypeError, OSError):  # no such library; Windows has no global namespace
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    function.restype = None
    return function


_parallel = _find_openmp()


def partial_sums(items: int, parameters: Sequence[Tensor]) -> Tensor:
    """Return zeros to add up the gradients of the parameters in, one row for each item.

    `total` adds the rows in one order, so gradients do not depend on the number of threads.
    """
    return parameters[0].new_zeros(items, sum(p.numel() for p in parameters))


def total(sums: Tensor, parameters: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return the gradients that `sums` hold one behind the other, in the shapes of the parameters."""
    parts = sums.sum(0).split([p.numel() for p in parameters])
    return tuple(part.view(p.shape) for part, p in zip(parts, parameters))
