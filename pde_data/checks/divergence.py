r"""Conservation of volume and mass by the velocity, tested with smooth functions and not with differences.

With functions $\varphi$ that are periodic or vanish at the ends, $\int u\cdot\nabla\varphi\,dx = 0$ says
$\nabla\cdot u = 0$, and $\frac{d}{dt}\int\rho\varphi\,dx = \int\rho u\cdot\nabla\varphi\,dx$ says
$\rho_t+\nabla\cdot(\rho u)=0$. No derivative of the data is taken: shocks do no harm, nor does a scheme of
low order, which keeps the laws for its own cells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from pde_data.checks.base import Row, Subject, judged, skipped
from pde_data.grids import Grid

_MODES = 8  # test functions per axis and direction
_TOLERANCE = 0.03
_CONVERGED = 0.2  # part of the change of mass that depends on how the flux is integrated over time
_SOLENOIDAL = ("velocity", "magnetic")
_CARRIED = ("density", "rho", "depth", "height", "thickness")


def divergence(subject: Subject) -> Iterator[Row]:
    """Divergence of velocities and magnetic fields, or continuity where there is a density or depth."""
    vectors = list(_vectors(subject))
    if not vectors:
        yield skipped(
            "divergence", "fields", "no field whose attribute symmetry is 'vector x', 'vector y', ..."
        )
    for stem, components in vectors:
        grid = subject.box
        about = " ".join(
            [stem, *(str(subject.schema.fields[n].attributes.get("long_name")) for n in components)]
        )
        mass = next((name for name in subject.fields if name.lower() in _CARRIED), None)
        if isinstance(grid, str):
            yield skipped("divergence", stem, grid)
        elif len(components) != grid.ndim or not all(map(subject.on_grid, components)):
            yield skipped(
                "divergence", stem, f"{len(components)} components in {grid.ndim} dimensions of space"
            )
        elif mass is not None and "magnetic" not in about:
            yield _continuity(subject, grid, mass, stem, components)
        elif grid.ndim == 1 or not any(word in about.lower() for word in _SOLENOIDAL):
            yield skipped("divergence", stem, "nothing says that it should be free of divergence")
        else:
            yield _solenoidal(subject, grid, stem, components)


def _vectors(subject: Subject) -> Iterator[tuple[str, list[str]]]:
    """Names of the components of each vector field in the order of the axes, and what they have in common."""
    groups: dict[str, dict[str, str]] = {}
    for name, field in subject.schema.fields.items():
        words = str(field.attributes.get("symmetry", "")).split()
        if len(words) == 2 and words[0] == "vector":
            stem = re.sub(rf"_?{words[1]}$", "", name, flags=re.IGNORECASE)
            stem = "" if name in ("u", "v", "w") else stem
            groups.setdefault(stem, {})[words[1]] = name
    for stem, components in groups.items():
        yield stem or "/".join(components.values()), [components[axis] for axis in sorted(components)]


def _solenoidal(subject: Subject, grid: Grid, stem: str, components: list[str]) -> Row:
    tests = _Tests(grid)
    worst, place = 0.0, (0, 0)
    for sample in subject.chosen.tolist():
        frames = subject.frames(components[0])
        for frame in sorted({0, frames // 2, frames - 1}):
            fluxes = tests.fluxes([subject.frame(name, sample, frame) for name in components])
            size = np.sqrt(sum((np.abs(f) ** 2).sum() for f in fluxes))
            number = float(np.linalg.norm(sum(fluxes)) / size) if size > 0 else 0.0
            if not number <= worst:
                worst, place = number, (sample, frame)
    remedy = (
        f"sample {place[0]}, frame {place[1]} is not free of divergence: project it, or look for swapped "
        "axes or components and for components at different points"
    )
    return judged("divergence", stem, worst, _TOLERANCE, remedy)


def _continuity(subject: Subject, grid: Grid, mass: str, stem: str, components: list[str]) -> Row:
    label, tests = f"{mass}, {stem}", _Tests(grid)
    if subject.frames(mass) < 3 or subject.frames(components[0]) < 3:
        return skipped("continuity", label, "fewer than three frames")
    worst, doubt, place = 0.0, 0.0, (0, 0)
    for sample in subject.chosen.tolist():
        times = subject.times(sample)
        if times is None:
            return skipped("continuity", label, "no times")
        last = subject.frames(mass) - 2
        for frame in sorted({0, last // 2, last - 1} & set(range(last))):
            steps = np.diff(times[frame : frame + 3])
            if not np.isclose(steps[0], steps[1], rtol=1e-3):
                continue
            number, error = _mass_defect(subject, tests, sample, frame, steps.mean(), mass, components)
            if not number <= worst:
                worst, doubt, place = number, error, (sample, frame)
    if worst > _TOLERANCE and doubt > _CONVERGED:
        return skipped(
            "continuity", label, f"records too far apart to integrate the flux ({doubt:.2g} in error)"
        )
    remedy = (
        f"mass does not follow the flux after frame {place[1]} of sample {place[0]}: look at the time step, "
        "and at the axes and units of density and velocity"
    )
    return judged("continuity", label, worst, _TOLERANCE, remedy)


def _mass_defect(
    subject: Subject, tests: _Tests, sample: int, frame: int, dt: float, mass: str, components: list[str]
) -> tuple[float, float]:
    """Defect of continuity over two records by Simpson's rule, and what the trapezoidal rule makes of it."""
    moments, fluxes = [], []
    for k in range(frame, frame + 3):
        rho = subject.frame(mass, sample, k)
        flux = tests.fluxes([rho * subject.frame(name, sample, k) for name in components])
        moments.append(tests.moments(rho))
        fluxes.append(sum(flux))
    change = moments[2] - moments[0]
    simpson = dt / 3 * (fluxes[0] + 4 * fluxes[1] + fluxes[2])
    trapezoid = dt / 2 * (fluxes[0] + 2 * fluxes[1] + fluxes[2])
    size = np.hypot(np.linalg.norm(change), np.linalg.norm(simpson))
    floor = 1e-5 * np.linalg.norm(moments[0])
    scale = max(size, floor, 1e-300)
    return float(np.linalg.norm(change - simpson) / scale), float(np.linalg.norm(trapezoid - simpson) / scale)


class _Tests:
    """Products of test functions along each axis, and integrals of fields against them and their slopes."""

    def __init__(self, grid: Grid):
        bases = [_basis(grid, axis) for axis in range(grid.ndim)]
        self._values = [values for values, _ in bases]
        self._slopes = [slopes for _, slopes in bases]

    def moments(self, field: np.ndarray) -> np.ndarray:
        """Integrals of a field against every test function."""
        return _integrate(field, self._values)

    def fluxes(self, components: list[np.ndarray]) -> list[np.ndarray]:
        """Integrals of each component against the derivative along its axis."""
        return [
            _integrate(field, [*self._values[:axis], self._slopes[axis], *self._values[axis + 1 :]])
            for axis, field in enumerate(components)
        ]


def _integrate(field: np.ndarray, bases: list[np.ndarray]) -> np.ndarray:
    for basis in bases:
        field = np.tensordot(field, basis, axes=(0, 1))
    return field


def _basis(grid: Grid, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Test functions along an axis and their slopes, `(function, point)`, times the quadrature weights."""
    x = grid.coordinates[axis] - grid.origin[axis]
    length, weights = grid.lengths[axis], grid.weights[axis]
    highest = max(1, min(_MODES, grid.sizes[axis] // 8))  # smooth also for schemes of low order
    if grid.periodic[axis]:
        k = 2 * np.pi / length * np.arange(-highest, highest + 1)[:, None]
        return np.exp(-1j * k * x) * weights, -1j * k * np.exp(-1j * k * x) * weights
    k = np.pi / length * np.arange(1, highest + 1)[:, None]
    return np.sin(k * x) * weights, k * np.cos(k * x) * weights
