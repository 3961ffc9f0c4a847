"""What can be learned about a smoothed-aggregation hierarchy: a small network on the graph of each level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from opflow.save import read_json, write_json

FEATURES = (
    "sum of abs(a_ij) over the neighbours",
    "sum of positive a_ij",
    "greatest abs(a_ij)",
    "sum of squares of a_ij",
    "logarithm of the degree",
    "logarithm of the size of the aggregate",
    "share of abs(a_ij) inside of the aggregate",
    "logarithm of the number of aggregates beside",
    "residual of the near-nullspace",
    "depth of the level",
    "logarithm of the number of near-nullspace vectors",
)
"""What the network is told about a row of a matrix with unit diagonal."""
OUTPUTS = 5
HIDDEN = 16
_FORMAT = "opflow graph weights 1"


class RowWeights(NamedTuple):
    """Weights of one level, `(n,)` each."""

    first: Any
    """Of the first smoothing step of the prolongation."""
    second: Any
    """Of the second."""
    kept: Any
    """How much of the near-nullspace these steps keep; all of it when 1."""
    down: Any
    """Relaxation factor of the first sweep, between 0 and 2."""
    up: Any
    """Of the second."""


@dataclass(frozen=True, eq=False)
class GraphWeights:
    r"""Weights of a network that looks at a row and its neighbours; the defaults give classical aggregation.

    With the features $f$ of the rows and the averages $S$ over the neighbours, weighted by $|a_{ij}|$,

    $$ h = \tanh(fW_1 + b_1), \quad g = \tanh([h, Sh]W_2 + b_2), \quad o = gW_3 + b_3 , $$

    from which follow the five numbers per row of `RowWeights`: $4/3 + o_1$ and $o_2$ over the sum of
    $|a_{ij}|$ in the row, $o_3$, and $1 + 0.9\tanh o_{4,5}$. Features are numbers of the matrix scaled to
    unit diagonal: they do not change when the matrix is multiplied by a number or its rows are numbered
    differently.

    Attributes:
        parameters: arrays `W1 (11, 16)`, `b1`, `W2 (32, 16)`, `b2`, `W3 (16, 5)` and `b3`.
        family: what they were trained on, in words.
        theta: neighbours with a smaller abs(a_ij) are not put into the same aggregate.
        drop: aggregates with a smaller share of the sum of abs(a_ij) in a row are not interpolated from.

    Raises:
        ValueError: an array is missing, has another shape, or holds numbers that are not finite; `theta` or
            `drop` is not at least 0 and below 1.

    Example:
        >>> GraphWeights().parameters["W3"].any()
        np.False_
    """

    parameters: Mapping[str, np.ndarray] = field(default_factory=lambda: _initial(0))
    family: str = "untrained"
    theta: float = 0.0
    drop: float = 0.0

    def __post_init__(self) -> None:
        expected = {name: value.shape for name, value in _initial(0).items()}
        if self.parameters.keys() != expected.keys():
            raise ValueError(f"weights are {', '.join(self.parameters)}; expected {', '.join(expected)}")
        for name, shape in expected.items():
            value = np.asarray(self.parameters[name])
            if value.shape != shape or value.dtype.kind != "f" or not np.isfinite(value).all():
                raise ValueError(
                    f"weights {name} are {value.dtype} of shape {value.shape}, expected finite numbers of "
                    f"shape {shape}"
                )

        for name, number in (("theta", self.theta), ("drop", self.drop)):
            if not 0 <= number < 1:
                raise ValueError(f"{name}={number} should be at least 0 and below 1")

    def rows(self, features: np.ndarray, neighbours: Any, total: np.ndarray) -> RowWeights:
        """Weights of the rows of a level from what `describe` says about them."""
        return row_weights(self.parameters, features, neighbours, total, np.tanh)

    def save(self, path: str | PathLike) -> None:
        """Write them to a JSON file."""
        arrays = {name: np.asarray(value).tolist() for name, value in self.parameters.items()}
        numbers = {"family": self.family, "theta": self.theta, "drop": self.drop}
        record = {"format": _FORMAT, **numbers, "parameters": arrays}
        write_json(Path(path), record)

    @classmethod
    def load(cls, path: str | PathLike) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds something else.
        """
        try:
            record = read_json(Path(path))
            if record.get("format") != _FORMAT:
                raise ValueError(f"its format is not {_FORMAT!r}")
            arrays = {name: np.array(value, float) for name, value in record["parameters"].items()}
            return cls(arrays, str(record["family"]), float(record["theta"]), float(record["drop"]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path} holds no weights of a GraphPreconditioner: {error}. They are written by its `save`"
            ) from error


def row_weights(
    parameters: Mapping[str, Any], features: Any, neighbours: Any, total: Any, tanh: Callable
) -> RowWeights:
    """Apply the network, in NumPy or torch; `total (n,)` is the sum of the abs(a_ij) of each row."""
    p = parameters
    h = tanh(features @ p["W1"] + p["b1"])
    g = tanh(h @ p["W2"][:HIDDEN] + (neighbours @ h) @ p["W2"][HIDDEN:] + p["b2"])
    o = (g @ p["W3"] + p["b3"]).T
    return RowWeights((4 / 3 + o[0]) / total, o[1] / total, o[2], 1 + 0.9 * tanh(o[3]), 1 + 0.9 * tanh(o[4]))


def initial_weights(seed: int) -> GraphWeights:
    """Classical weights from which training starts."""
    return GraphWeights(_initial(seed))


def random_weights(seed: int) -> GraphWeights:
    """Weights that make no sense, for tests of what holds for any."""
    rng = np.random.default_rng(seed)
    return GraphWeights({name: rng.standard_normal(value.shape) for name, value in _initial(0).items()})


def _initial(seed: int) -> dict[str, np.ndarray]:
    rng, inputs = np.random.default_rng(seed), len(FEATURES)
    return {
        "W1": rng.standard_normal((inputs, HIDDEN)) / np.sqrt(inputs),
        "b1": np.zeros(HIDDEN),
        "W2": rng.standard_normal((2 * HIDDEN, HIDDEN)) / np.sqrt(2 * HIDDEN),
        "b2": np.zeros(HIDDEN),
        "W3": np.zeros((HIDDEN, OUTPUTS)),
        "b3": np.zeros(OUTPUTS),
    }
