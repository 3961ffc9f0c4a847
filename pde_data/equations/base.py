"""What the generator, the files and the command line ask of an equation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from typing import Any, ClassVar, Self

import numpy as np

from pde_data.grids import Grid


class Equation(ABC):
    """A family of solutions: the parameters are the fields of a frozen dataclass, with defaults.

    A subclass is one file and one row in ``EQUATIONS``; its annotated, documented fields become the keyword
    arguments of ``pde_data.generate`` and the flags of ``pde-data generate``.
    """

    name: ClassVar[str]

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
        """``units`` and ``long_name`` of each variable, by name."""

    @property
    @abstractmethod
    def grid(self) -> Grid:
        """The grid of the stored frames."""

    @property
    @abstractmethod
    def times(self) -> np.ndarray:
        """Times of the stored frames, the initial one included; float64."""

    @abstractmethod
    def attributes(self) -> dict[str, Any]:
        """Provenance that belongs to the data: JSON-able, and the same for the same request."""

    @abstractmethod
    def generate(
        self, seed: int, indices: Sequence[int], progress: Callable[[int], None] | None = None
    ) -> dict[str, Any]:
        """Solve for the samples of the given indices.

        Returns one float32 array ``(sample, time, *space)`` per variable, and ``parameters`` and
        ``diagnostics``: dicts of arrays ``(sample,)``. A sample depends on ``seed`` and its index alone.
        ``progress`` is called with the number of samples finished since the last call.
        """

    def parameters(self) -> dict[str, Any]:
        """The fields of the dataclass by name."""
        return asdict(self)  # type: ignore[call-overload]
