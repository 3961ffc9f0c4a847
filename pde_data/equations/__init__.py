"""One partial differential equation per file; the table below makes them known to everything else."""

from pde_data.equations.advection import Advection
from pde_data.equations.allen_cahn import AllenCahn
from pde_data.equations.base import Equation, Evolution, Steady
from pde_data.equations.boussinesq import Boussinesq
from pde_data.equations.burgers import Burgers
from pde_data.equations.cylinder_flow import CylinderFlow
from pde_data.equations.darcy import Darcy
from pde_data.equations.elasticity import Elasticity
from pde_data.equations.fitzhugh_nagumo import FitzHughNagumo
from pde_data.equations.gray_scott import GrayScott
from pde_data.equations.heat import Heat
from pde_data.equations.kdv import KdV
from pde_data.equations.kolmogorov_flow import KolmogorovFlow
from pde_data.equations.kuramoto_sivashinsky import KuramotoSivashinsky
from pde_data.equations.mhd import MHD
from pde_data.equations.navier_stokes import NavierStokes
from pde_data.equations.poisson import Poisson
from pde_data.equations.polygon_darcy import PolygonDarcy
from pde_data.equations.shallow_water import ShallowWater
from pde_data.equations.simulate import simulate
from pde_data.equations.stokes import Stokes
from pde_data.equations.unstructured import MeshEquation
from pde_data.equations.wave import Wave

EQUATIONS: dict[str, type[Equation]] = {
    equation.name: equation
    for equation in (
        Advection,
        AllenCahn,
        Boussinesq,
        Burgers,
        CylinderFlow,
        Darcy,
        Elasticity,
        FitzHughNagumo,
        GrayScott,
        Heat,
        KdV,
        KolmogorovFlow,
        KuramotoSivashinsky,
        MHD,
        NavierStokes,
        Poisson,
        PolygonDarcy,
        ShallowWater,
        Stokes,
        Wave,
    )
}

__all__ = ["EQUATIONS", "Equation", "Evolution", "MeshEquation", "Steady", "simulate"]
