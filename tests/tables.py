"""One row per member of a family: joining a table means inheriting its tests."""

from tests.cases import (
    EquationCase,
    advection,
    burgers,
    cylinder_flow,
    darcy,
    elasticity,
    navier_stokes,
    poisson,
    polygon_darcy,
    stokes,
)

EQUATIONS: dict[str, EquationCase] = {
    "advection": advection.CASE,
    "burgers": burgers.CASE,
    "cylinder_flow": cylinder_flow.CASE,
    "darcy": darcy.CASE,
    "elasticity": elasticity.CASE,
    "navier_stokes": navier_stokes.CASE,
    "poisson": poisson.CASE,
    "polygon_darcy": polygon_darcy.CASE,
    "stokes": stokes.CASE,
}
