"""One partial differential equation per file; the table below makes them known to everything else."""

from pde_data.equations.advection import Advection
from pde_data.equations.base import Equation, Evolution, Steady
from pde_data.equations.burgers import Burgers
from pde_data.equations.cylinder_flow import CylinderFlow
from pde_data.equations.darcy import Darcy
from pde_data.equations.elasticity import Elasticity
from pde_data.equations.navier_stokes import NavierStokes
from pde_data.equations.poisson import Poisson
from pde_data.equations.polygon_darcy import PolygonDarcy
from pde_data.equations.simulate import simulate
from pde_data.equations.stokes import Stokes
from pde_data.equations.unstructured import MeshEquation

EQUATIONS: dict[str, type[Equation]] = {
    equation.name: equation
    for equation in (
        Advection,
        Burgers,
        CylinderFlow,
        Darcy,
        Elasticity,
        NavierStokes,
        Poisson,
        PolygonDarcy,
        Stokes,
    )
}

__all__ = ["EQUATIONS", "Equation", "Evolution", "MeshEquation", "Steady", "simulate"]
