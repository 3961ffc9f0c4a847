"""numba's compiler as the kernels use it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numba

_OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}


def compiled(function: Callable | None = None, **options: Any) -> Any:
    """Compile a function of a module, or take it from numba's cache where there is a writable place for that.

    Functions inside of others would be told apart by nothing but their names there.
    """
    if function is None:
        return partial(compiled, **options)
    try:
        return numba.njit(cache=True, **_OPTIONS | options)(function)
    except RuntimeError:  # no place for the cache
        return numba.njit(**_OPTIONS | options)(function)


def with_threads(threads: int, parallel: Callable, *arguments: Any) -> None:
    """Call a compiled parallel function with a number of threads."""
    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # pyright: ignore[reportAttributeAccessIssue]
    try:
        parallel(*arguments)
    finally:
        numba.set_num_threads(before)
