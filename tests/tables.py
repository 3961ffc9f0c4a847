"""One row per member of a family: joining a table means inheriting its tests."""

from tests.cases import EquationCase, advection, burgers, navier_stokes, shallow_water

EQUATIONS: dict[str, EquationCase] = {
    "advection": advection.CASE,
    "burgers": burgers.CASE,
    "navier_stokes": navier_stokes.CASE,
    "shallow_water": shallow_water.CASE,
}
