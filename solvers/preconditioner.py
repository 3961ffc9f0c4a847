"""What every preconditioner is: an operator for SciPy that takes vectors of any type."""

from __future__ import annotations

import abc
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.sparse.linalg import LinearOperator


class Preconditioner(LinearOperator):
    """An approximation of the inverse of a matrix, as SciPy's solvers take it for `M`.

    A subclass writes `apply` for a real vector, calls `_begin` once it knows the size, and says whether it is
    linear and symmetric positive definite. Before that it has no shape, and SciPy refuses it.
    """

    is_linear: bool
    """Whether applying it is a linear map, so that plain conjugate gradients may use it."""
    is_spd: bool
    """Whether that map is symmetric positive definite."""
    takes_columns: bool = False
    """Whether `apply` takes several vectors `(size, k)` at a time, too."""
    setup_seconds: float = 0.0
    """Wall time of the last `setup`."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Skip SciPy's check that the shape is known."""
        return object.__new__(cls)

    def __init__(self) -> None:
        # SciPy probes an operator without a dtype with a vector of int8 zeros.
        self.dtype = np.dtype(np.float64)
        self.shape: Any = None

    def _begin(self, size: int) -> None:
        self.shape = (size, size)

    @abc.abstractmethod
    def apply(self, r: np.ndarray) -> np.ndarray:
        """Apply to a real vector `(size,)` of float32 or float64, and return one of the same type."""

    def _matvec(self, x: Any) -> np.ndarray:
        return self._applied(np.asarray(x).reshape(-1))

    def _applied(self, x: Any) -> np.ndarray:
        """Apply to numbers of any type."""
        if np.iscomplexobj(x):
            return self._applied(x.real) + 1j * self._applied(x.imag)
        kept = x.dtype in (np.float32, np.float64)
        return self.apply(np.ascontiguousarray(x if kept else x.astype(np.float64)))

    def _matmat(self, X: np.ndarray) -> np.ndarray:
        X = np.asarray(X)
        if self.takes_columns:
            return self._applied(X)
        # One after another, from rows that are contiguous. A cycle for all columns at once was tried: the
        # arrays of its levels are in the cache when the next column comes, and no longer when they hold
        # several. On 64^3 cells a smoothing step took 0.20 ms for each of eight columns together, 0.14 ms
        # alone; on 128^3 1.86 ms and 1.81 ms.
        columns = [self._applied(column) for column in np.ascontiguousarray(X.T)]
        return np.stack(columns).T if columns else np.empty(X.shape, self.dtype)

    def _adjoint(self) -> LinearOperator:
        if not self.is_spd:
            raise NotImplementedError(f"{type(self).__name__} is not symmetric and has no adjoint")
        return self

    def _transpose(self) -> LinearOperator:
        return self._adjoint()


class WeightedPreconditioner(Preconditioner):
    """A preconditioner of learned weights that are kept in a JSON file.

    A subclass takes them as its first argument, and says what they are.
    """

    weights_class: type[Any]
    """What reads the weights."""

    def __init__(self, weights: Any) -> None:
        super().__init__()
        self.weights = weights

    def save(self, path: str | PathLike) -> None:
        """Write the weights to a JSON file."""
        self.weights.save(path)

    @classmethod
    def load(cls, path: str | PathLike, **options: Any) -> Self:
        """Read weights that `save` wrote; `options` as for the class.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it holds something else.
        """
        return cls(cls.weights_class.load(path), **options)


def pretrained(name: str, family: str) -> Path:
    """Where weights of that name lie in the package, a file or a folder.

    Args:
        name: their name.
        family: what the names of all that suit the preconditioner begin with.

    Raises:
        ValueError: there are none.
    """
    found = {path.stem: path for path in (Path(__file__).parent / "pretrained").glob(f"{family}*")}
    if name not in found:
        raise ValueError(f"there are no weights {name!r}, there are {', '.join(sorted(found))}")
    return found[name]
