"""One row per member of a family: joining a table means inheriting its tests."""

from tests.cases import (
    EquationCase,
    advection,
    allen_cahn,
    boussinesq,
    burgers,
    cylinder_flow,
    darcy,
    elasticity,
    fitzhugh_nagumo,
    gray_scott,
    heat,
    kdv,
    kolmogorov_flow,
    kuramoto_sivashinsky,
    mhd,
    navier_stokes,
    poisson,
    polygon_darcy,
    shallow_water,
    stokes,
    wave,
)
from tests.cases.operators import OperatorCase
from tests.cases.point_operators import PointOperatorCase

EQUATIONS: dict[str, EquationCase] = {
    "advection": advection.CASE,
    "allen_cahn": allen_cahn.CASE,
    "boussinesq": boussinesq.CASE,
    "burgers": burgers.CASE,
    "cylinder_flow": cylinder_flow.CASE,
    "darcy": darcy.CASE,
    "elasticity": elasticity.CASE,
    "fitzhugh_nagumo": fitzhugh_nagumo.CASE,
    "gray_scott": gray_scott.CASE,
    "heat": heat.CASE,
    "kdv": kdv.CASE,
    "kolmogorov_flow": kolmogorov_flow.CASE,
    "kuramoto_sivashinsky": kuramoto_sivashinsky.CASE,
    "mhd": mhd.CASE,
    "navier_stokes": navier_stokes.CASE,
    "poisson": poisson.CASE,
    "polygon_darcy": polygon_darcy.CASE,
    "shallow_water": shallow_water.CASE,
    "stokes": stokes.CASE,
    "wave": wave.CASE,
}

# The models of neuraloperator have tests of their own; operators on point sets, too.
OPERATORS: dict[str, OperatorCase] = {
    "ConvNeXtUNet": OperatorCase(dict(in_channels=2, out_channels=1, hidden_channels=4, levels=2, blocks=1)),
    "FNO": OperatorCase(dict(n_modes=(4, 4), in_channels=2, out_channels=1, hidden_channels=6, n_layers=2)),
    "PatchTransformer": OperatorCase(
        dict(in_channels=2, out_channels=1, hidden_channels=16, n_layers=2, heads=2)
    ),
    "UNet": OperatorCase(
        dict(in_channels=2, out_channels=1, hidden_channels=8, multipliers=(1, 2), attention=(1,))
    ),
}

_MINO = dict(hidden_channels=16, radius=0.35, latent=(5, 4), n_layers=2)
POINT_OPERATORS: dict[str, PointOperatorCase] = {
    "MINO": PointOperatorCase("MINO", _MINO),
    "MINO with a U-Net and time": PointOperatorCase("MINO", _MINO | dict(processor="unet", time=True)),
    "MINO as published": PointOperatorCase("MINO", _MINO | dict(reduction="mean", decoder_layers=2)),
}
