"""What the solver for periodic boxes does for all of its equations."""

import numpy as np
import pytest
import torch

from pde_data.equations import EQUATIONS, KolmogorovFlow, simulate
from pde_data.equations.gray_scott import GrayScott
from pde_data.equations.heat import Heat
from pde_data.equations.kdv import KdV
from pde_data.equations.periodic import PeriodicSolver
from pde_data.grids import Grid, resample
from tests.cases import relative


def test_frames_begin_after_the_burn_in():
    settings = {"reynolds": 40.0, "resolution": 16, "solve_resolution": 16, "dtype": "float64"}
    late = KolmogorovFlow(burn_in=0.5, t_end=0.5, records=2, **settings)
    early = KolmogorovFlow(burn_in=0.0, t_end=1.0, records=4, **settings)
    frames, all_frames = (run.generate(0, range(2))["vorticity"] for run in (late, early))
    assert late.times[0] == 0
    assert relative(frames, all_frames[:, 2:]) <= 1e-6
    assert relative(frames, all_frames[:, :3]) > 0.1


def test_the_reynolds_number_decides_the_grid_of_the_solver():
    assert KolmogorovFlow(reynolds=1000.0).solver_grid.sizes == (320, 320)
    assert KolmogorovFlow(reynolds=1000.0, resolution=512).solver_grid.sizes == (512, 512)
    assert KolmogorovFlow(reynolds=1000.0, solve_resolution=64).solver_grid.sizes == (64, 64)
    assert KolmogorovFlow(reynolds=1000.0).attributes()["solve_resolution"] == 320


def test_the_grid_of_the_solver_resolves_kolmogorov_flow():
    """Twice as many points change the vorticity, grown from smooth values, by less than the estimate."""
    run = KolmogorovFlow(reynolds=10.0, resolution=32, burn_in=2.0, t_end=0.5, records=1, dtype="float64")
    finer = KolmogorovFlow(**{**run.parameters(), "solve_resolution": 2 * run.solver_grid.sizes[0]})
    coarse, fine = (e.generate(0, [0]) for e in (run, finer))
    assert run.solver_grid.sizes == (32, 32)
    assert coarse["diagnostics"]["spectrum_tail"] < 5e-3
    assert fine["diagnostics"]["spectrum_tail"] < 1e-2 * coarse["diagnostics"]["spectrum_tail"]
    assert relative(coarse["vorticity"], fine["vorticity"]) < 5e-3


@pytest.mark.parametrize(
    ("mode", "tail"), [(1, 0.0), (9, 0.0), (10, 1.0)], ids=["lowest", "second highest", "highest"]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_spectrum_tail_is_the_share_of_the_outer_modes(axis, mode, tail):
    grid = Grid((31, 31), lengths=2 * np.pi)
    x = torch.from_numpy(np.meshgrid(*grid.coordinates, indexing="ij")[axis])
    solver = PeriodicSolver(EQUATIONS["boussinesq"](resolution=31), grid, torch.float64)

    def measure(scalar):
        fields = {"vorticity": torch.cos(x)[None], "scalar": scalar[None]}
        return solver.diagnostics(solver.equation.to_state(solver.spectrum, fields))["spectrum_tail"]

    assert measure(5.0 + torch.cos(mode * x)) == pytest.approx([tail], abs=1e-13)
    assert measure(torch.cos(mode * x) + torch.cos(2 * x)) == pytest.approx([tail / np.sqrt(2)], abs=1e-13)
    assert measure(torch.zeros_like(x)) == pytest.approx([0.0], abs=1e-13)


def test_the_dimension_is_that_of_the_initial_values():
    for shape in ((12,), (12, 9), (12, 9, 8)):
        x = np.meshgrid(*(np.arange(n) / n * 2 * np.pi for n in shape), indexing="ij")[0]
        computed = simulate("heat", np.sin(x)[None], [2.0], diffusivity=0.3, length=2 * np.pi)
        assert relative(computed[:, 0], np.exp(-0.6) * np.sin(x)[None]) <= 1e-14


@pytest.mark.parametrize("name", ["boussinesq", "fitzhugh_nagumo", "mhd"])
def test_fields_of_one_sample_are_independent(name):
    equation = EQUATIONS[name](resolution=8)
    a, b = (f - f.mean(0) for f in equation.initial(0, range(400), equation.grid).values())
    correlation = (a * b).mean(0) / (a.std(0) * b.std(0))
    assert np.abs(correlation).max() < 5 / np.sqrt(400)


@pytest.mark.parametrize("equation", [Heat(), Heat(dimensions=3), GrayScott(), KdV()], ids=lambda e: e.name)
def test_the_initial_law_is_one_function_for_any_grid(equation):
    coarse, fine = (equation.grid.with_sizes((n,) * equation.dimensions) for n in (47, 63))
    a, b = (equation.initial(3, [7], grid) for grid in (coarse, fine))
    for variable in a:
        assert relative(resample(b[variable], fine, coarse), a[variable]) < 1e-3


BAD = {
    "dimension": (ValueError, "dimensions=4 must be 1, 2 or 3", lambda: Heat(dimensions=4)),
    "burn-in": (ValueError, "burn_in=-1 must be finite and not negative", lambda: KolmogorovFlow(burn_in=-1)),
    "force beyond the grid": (
        ValueError,
        "the force of wavenumber=30 acts on mode 30, but 64 points resolve modes up to 21",
        lambda: KolmogorovFlow(wavenumber=30, solve_resolution=64),
    ),
    "moving box": (
        ValueError,
        "u_t on a periodic box must have mean zero, got a mean of 1",
        lambda: simulate("wave", {"u": np.zeros((1, 8)), "u_t": np.ones((1, 8))}, [1.0]),
    ),
    "mean vorticity": (
        ValueError,
        "vorticity on a periodic box must have mean zero",
        lambda: simulate("mhd", dict.fromkeys(("vorticity", "potential"), np.ones((1, 8, 8))), [1.0]),
    ),
    "burn-in of a simulation": (
        ValueError,
        "burn_in=5: simulate takes",
        lambda: simulate("kolmogorov_flow", np.zeros((1, 16, 16)), [1.0], burn_in=5),
    ),
    "one of two fields": (
        ValueError,
        "gray_scott starts from a, b",
        lambda: simulate("gray_scott", np.zeros((1, 16, 16)), [1.0]),
    ),
    "negative rate": (ValueError, "feed=-0.1 must be finite and not negative", lambda: GrayScott(feed=-0.1)),
}


@pytest.mark.parametrize(("error", "words", "call"), BAD.values(), ids=BAD.keys())
def test_bad_input_is_explained(error, words, call):
    with pytest.raises(error, match=words):
        call()
