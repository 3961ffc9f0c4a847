"""One row per member of a family: joining a table means inheriting its tests."""

from tests.cases import EquationCase, advection, burgers, darcy, navier_stokes, poisson, stokes

EQUATIONS: dict[str, EquationCase] = {
    "advection": advection.CASE,
    "burgers": burgers.CASE,
    "darcy": darcy.CASE,
    "navier_stokes": navier_stokes.CASE,
    "poisson": poisson.CASE,
    "stokes": stokes.CASE,
}
