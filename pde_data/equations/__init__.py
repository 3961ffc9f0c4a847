"""One partial differential equation per file; the table below makes them known to everything else."""

from pde_data.equations.advection import Advection
from pde_data.equations.base import Equation, Evolution, Steady
from pde_data.equations.burgers import Burgers
from pde_data.equations.navier_stokes import NavierStokes
from pde_data.equations.shallow_water import ShallowWater
from pde_data.equations.simulate import simulate

EQUATIONS: dict[str, type[Equation]] = {
    equation.name: equation
    for equation in (
        Advection,
        Burgers,
        NavierStokes,
        ShallowWater,
    )
}

__all__ = ["EQUATIONS", "Equation", "Evolution", "Steady", "simulate"]
