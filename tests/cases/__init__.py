"""What an equation must show: one module per equation with a `CASE`, one row each in `tests/tables.py`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from pde_data.equations import Equation, Evolution
from pde_data.grids import Grid


@dataclass(frozen=True)
class Exact:
    """Computed and exact values for a NumPy dtype, and the relative L2 error allowed for each dtype."""

    name: str
    solve: Callable[[type], tuple[np.ndarray, np.ndarray]]
    tolerance: dict[type, float]


@dataclass(frozen=True)
class Order:
    """Errors over steps or spacings that shrink, and the order of convergence they must show."""

    name: str
    errors: Callable[[], tuple[list[float], list[float]]]
    expected: float
    within: float = 0.2

    def measure(self) -> float:
        """Order at the finest pair."""
        h, error = self.errors()
        return float(np.log(error[-2] / error[-1]) / np.log(h[-2] / h[-1]))


@dataclass(frozen=True)
class SpectralRate:
    """Errors over numbers of points per axis, which must fall by `exp(-expected)` with each point.

    `within` is relative.
    """

    name: str
    errors: Callable[[], tuple[list[int], list[float]]]
    expected: float
    within: float = 0.1

    def measure(self) -> float:
        """Decay of the logarithm of the error per point, over the whole range."""
        n, error = self.errors()
        return float(np.log(error[0] / error[-1]) / (n[-1] - n[0]))


@dataclass(frozen=True)
class EquationCase:
    """A cheap member of an equation's family, a different one, and what is known of its solutions.

    `drift` allows each budget of the equation so much relative change over the run of `equation` in float64.
    `symmetries` are those keys of `SYMMETRIES` with which solving commutes: these and, on a periodic box of
    that dimension, no other. `decreasing` maps fields `(..., *space)` to what never grows in time.
    `needs` names a module without which the case is skipped, `samples` is how many make a batch for tests.
    """

    equation: Equation
    other: Equation
    exact: tuple[Exact, ...]
    orders: tuple[Order, ...] = ()
    rates: tuple[SpectralRate, ...] = ()
    drift: Mapping[str, float] = field(default_factory=dict)
    symmetries: tuple[str, ...] = ()
    decreasing: Mapping[str, Callable[[Mapping[str, np.ndarray]], np.ndarray]] = field(default_factory=dict)
    needs: str = ""
    samples: int = 20


def _translate(axis: int) -> Callable[[np.ndarray, str], np.ndarray]:
    return lambda values, symmetry: np.roll(values, 5, axis)


def _reflect(axis: int) -> Callable[[np.ndarray, str], np.ndarray]:
    """Mirror space at the first point of an axis."""

    def move(values: np.ndarray, symmetry: str) -> np.ndarray:
        sign = -1 if symmetry in ("pseudoscalar", f"vector {'yx'[axis]}") else 1
        return sign * np.roll(np.flip(values, axis), 1, axis)

    return move


def _rotate(values: np.ndarray, symmetry: str) -> np.ndarray:
    """Turn scalars by 90 degrees about the first grid point."""
    assert symmetry in ("scalar", "pseudoscalar")
    return np.roll(np.flip(np.swapaxes(values, -2, -1), -2), 1, -2)


# How values (sample, *space) move, by the number of space axes; axis -1 is x in one dimension, y in two.
SYMMETRIES: dict[int, dict[str, Callable[[np.ndarray, str], np.ndarray]]] = {
    1: {"translation": _translate(-1), "reflection": _reflect(-1)},
    2: {
        "translation x": _translate(-2),
        "translation y": _translate(-1),
        "reflection x": _reflect(-2),
        "reflection y": _reflect(-1),
        "rotation": _rotate,
    },
}


def by_sample(result: Mapping[str, np.ndarray], variable: str) -> list[np.ndarray]:
    """Values of a variable, sample by sample, of what an equation generated; on grids or on meshes."""
    if "meshes" not in result:
        return list(result[variable])
    return np.split(result[variable], np.cumsum([len(mesh.points) for mesh in result["meshes"]])[:-1])


def relative(computed: np.ndarray, expected: np.ndarray) -> float:
    """Relative L2 error."""
    return float(np.linalg.norm(computed - expected) / np.linalg.norm(expected))


def trajectory(equation: Evolution, samples: int = 2) -> dict[str, np.ndarray]:
    """Fields `(sample, time, *space)` in float64 from the equation's own initial law."""
    first = {k: torch.from_numpy(v) for k, v in equation.initial(0, range(samples), equation.grid).items()}
    frames = list(equation.solve(first, equation.times))
    return {name: torch.stack([f[name] for f in frames], 1).numpy() for name in equation.variables}


def coordinates(*sizes: int, length: float = 2 * np.pi) -> list[np.ndarray]:
    """Coordinates of periodic nodes, one array of shape `sizes` per axis."""
    return np.meshgrid(*Grid(sizes, lengths=length).coordinates, indexing="ij")


def temporal_order(equation: Evolution, steps: tuple[int, ...] = (16, 32, 64), finest: int = 256) -> Order:
    """Fourth order in the step, against the same run with `finest` steps, at `equation.t_end`."""

    def errors() -> tuple[list[float], list[float]]:
        def end(n: int) -> np.ndarray:
            run = trajectory(replace(equation, dt=equation.t_end / n, records=1))
            return np.stack([values[:, -1] for values in run.values()])

        reference = end(finest)
        return [1 / n for n in steps], [relative(end(n), reference) for n in steps]

    return Order("time step", errors, 4.0)


def measured_drift(case: EquationCase) -> dict[str, float]:
    """Largest change of each budget over the run, relative to its largest value unless that is 0."""
    fields = trajectory(case.equation)
    result = {}
    for name, values in case.equation.budgets(fields, case.equation.grid).items():
        scale = np.abs(values).max()
        result[name] = float(np.abs(values - values[:, :1]).max() / (scale if scale > 1e-8 else 1.0))
    return result
