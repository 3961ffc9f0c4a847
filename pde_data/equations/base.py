"""What the generator, the files, the validator and the command line ask of an equation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from pde_data.grids import Grid

if TYPE_CHECKING:
    import torch


class Equation(ABC):
    """A family of solutions: the parameters are the fields of a frozen dataclass, with defaults.

    A subclass is one file and one row in ``EQUATIONS``; its annotated, documented fields become the keyword
    arguments of ``pde_data.generate`` and the flags of ``pde-data generate``.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    """The equation in plain text, its parameters by name."""
    static: ClassVar[tuple[str, ...]] = ()
    """Names of variables without a time axis."""
    derived: ClassVar[tuple[str, ...]] = ()
    """Names of variables that follow from the others, so that initial values leave them out."""
    time_units: ClassVar[str] = "1"
    """Units of ``times``."""
    libraries: ClassVar[tuple[str, ...]] = ("torch", "numpy")
    """Distributions whose versions may decide the last digits."""

    @classmethod
    def from_parameters(cls, **parameters: Any) -> Self:
        """The equation with these parameters; ``ValueError`` lists all there are when one is unknown."""
        known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
        for name in parameters:
            if name not in known:
                raise ValueError(
                    f"{cls.name} has no parameter {name!r}; its parameters are {', '.join(known)}"
                )
        return cls(**parameters)

    @property
    @abstractmethod
    def variables(self) -> dict[str, dict[str, str]]:
        """Attributes of each variable by name: ``units``, ``long_name`` and ``symmetry``.

        ``symmetry`` says how the values change when space is mirrored or turned: ``scalar``,
        ``pseudoscalar`` (changes sign under reflection), or ``vector x``, ``vector y``, ``vector z``.
        """

    @property
    @abstractmethod
    def times(self) -> np.ndarray | None:
        """Times of the stored frames, float64; ``None`` for a steady problem."""

    @abstractmethod
    def attributes(self) -> dict[str, Any]:
        """Provenance that belongs to the data: JSON-able, and the same for the same request.

        ``inputs`` and ``targets`` may name the variables that a model should map from and to.
        """

    @abstractmethod
    def generate(
        self, seed: int, indices: Sequence[int], progress: Callable[[int], None] | None = None
    ) -> dict[str, Any]:
        """Solve for the samples of the given indices.

        Returns one float32 array ``(sample, time, *space)`` per variable, without ``time`` for those in
        ``static`` and in steady problems, and ``parameters`` and ``diagnostics``: dicts of arrays
        ``(sample,)``; a :class:`MeshEquation` returns arrays over nodes instead. A sample depends on ``seed``
        and its index alone. ``progress`` is called with the number of samples finished since the last call.
        """

    def parameters(self) -> dict[str, Any]:
        """The fields of the dataclass by name."""
        return asdict(self)  # type: ignore[call-overload]

    def require(
        self,
        *,
        positive: Sequence[str] = (),
        not_negative: Sequence[str] = (),
        finite: Sequence[str] = (),
        counts: Sequence[str] = (),
    ) -> None:
        """Check fields of the dataclass that are not ``None``; ``TypeError`` or ``ValueError`` names one.

        ``counts`` are whole numbers of at least 1, the others finite numbers.
        """
        for names, kind, text in (
            ((*positive, *not_negative, *finite), Real, "a number"),
            (counts, Integral, "a whole number"),
        ):
            for name in names:
                value = getattr(self, name)
                if value is not None and not isinstance(value, kind):
                    raise TypeError(f"{name}={value!r}, expected {text}")
        for names, holds, text in (
            (finite, np.isfinite, "finite"),
            (positive, lambda value: np.isfinite(value) and value > 0, "positive and finite"),
            (not_negative, lambda value: np.isfinite(value) and value >= 0, "finite and not negative"),
            (counts, lambda value: value >= 1, "at least 1"),
        ):
            for name in names:
                value = getattr(self, name)
                if value is not None and not holds(value):
                    raise ValueError(f"{name}={value} must be {text}")


class GridEquation(Equation):
    """Equations whose samples all lie on one grid."""

    @property
    @abstractmethod
    def grid(self) -> Grid:
        """The grid of the stored frames."""

    @property
    def coordinates(self) -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
        """Values and attributes of each space axis by name; by default those of ``grid``."""
        return self.grid.coordinate_attributes()

    @property
    def auxiliary(self) -> dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, Any]]]:
        """Dimensions, values and attributes of variables that belong to the space axes, by name."""
        return {}

    def budgets(self, fields: Mapping[str, np.ndarray], grid: Grid) -> dict[str, np.ndarray]:
        """Quantities that the exact solution keeps, from fields ``(..., *space)``, as arrays ``(...)``."""
        return {}


class Steady(GridEquation):
    """Problems without time."""

    @property
    def times(self) -> None:
        """There are none."""

    @abstractmethod
    def residual(self, fields: Mapping[str, np.ndarray], grid: Grid) -> np.ndarray:
        """``(sample,)``: relative residual of the discrete equation for fields ``(sample, *space)``."""


class Evolution(GridEquation):
    """Initial value problems; the fields ``resolution``, ``t_end``, ``records`` and ``dtype`` are theirs.

    ``resolution`` is the number of points of the longest axis.
    """

    def check_initial(self, fields: Mapping[str, torch.Tensor]) -> None:
        """Raise ``ValueError`` for initial values for which the problem has no solution."""

    @abstractmethod
    def solve(
        self, fields: Mapping[str, torch.Tensor], times: Sequence[float] | np.ndarray
    ) -> Iterator[dict[str, torch.Tensor]]:
        """Fields at each of the increasing ``times``, given those at time 0, ``(sample, *space)`` each.

        The grid is that of the values, on the domain of the equation; dtype and device are kept.
        """
