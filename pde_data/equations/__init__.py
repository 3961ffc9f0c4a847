"""One partial differential equation per file; the table below makes them known to everything else."""

from pde_data.equations.base import Equation
from pde_data.equations.navier_stokes import NavierStokes
from pde_data.equations.simulate import simulate

EQUATIONS: dict[str, type[Equation]] = {equation.name: equation for equation in (NavierStokes,)}

__all__ = ["EQUATIONS", "Equation", "NavierStokes", "simulate"]
