"""Poisson and Darcy: solvers, obstacles, consistency between grids, residuals of what is stored."""

import itertools

import numpy as np
import pytest
import scipy.ndimage
from scipy.sparse.linalg import spsolve

import pde_data
from pde_data.cli import main
from pde_data.equations import Darcy, Poisson, elliptic
from pde_data.equations.elliptic import FastPoisson, solve
from pde_data.equations.obstacles import random_mask
from pde_data.equations.stencil import Stencil
from pde_data.grids import Grid
from pde_data.integrate import SolverError
from tests.cases import relative

PAIRS = list(itertools.product(("dirichlet", "neumann"), repeat=2))


@pytest.mark.parametrize("bc", [{"x": p, "y": q} for p in PAIRS for q in PAIRS])
def test_fast_transforms_invert_the_stencil(bc):
    stencil = Stencil.poisson(np.ones((7, 4), bool), spacing=(0.5, 0.2), bc=bc)
    f = np.random.default_rng(0).standard_normal((3, 7, 4))
    u = FastPoisson.of(stencil)(f)
    for one, rhs in zip(u, f):
        np.testing.assert_allclose(stencil.apply(one).ravel(), stencil.project(rhs.ravel()), atol=1e-12)
        np.testing.assert_allclose(stencil.project(one.ravel()), one.ravel(), atol=1e-12)


def dense(apply, size):
    return np.stack([apply(e) for e in np.eye(size)], axis=1)


@pytest.mark.parametrize("n", [8, 16])
def test_preconditioned_spectrum_is_bounded_by_contrast_and_extension(n):
    """Eigenvalues lie between the extremes of the coefficient; with a hole in the domain below 1."""
    grid = Grid((n, n), periodic=False, location="cell")
    a = Darcy().permeability(0, [0], grid)[0]
    box = Stencil.poisson(np.ones((n, n), bool), spacing=1 / n)
    fast = FastPoisson.of(box)
    inverse = dense(lambda e: fast(e.reshape(n, n)).ravel(), n * n)
    np.testing.assert_allclose(inverse, inverse.T, atol=1e-15)

    matrix = Stencil.poisson(box.mask, a, spacing=1 / n).to_csr().toarray()
    values = np.linalg.eigvals(inverse @ matrix).real
    assert 3 - 1e-9 <= values.min() and values.max() <= 12 + 1e-9

    mask = random_mask(0, 0, 1, grid)
    holed = Stencil.poisson(mask, spacing=1 / n).to_csr().toarray()
    values = np.linalg.eigvals(inverse[np.ix_(mask.ravel(), mask.ravel())] @ holed).real
    assert 0.2 < values.min() and values.max() <= 1 + 1e-9 and not mask.all()


@pytest.mark.parametrize("bc", ["dirichlet", "neumann", {"x": ("neumann", "dirichlet"), "y": "neumann"}])
def test_both_solvers_agree_with_a_direct_one_also_on_enclosed_parts(bc):
    mask = random_mask(1, 0, 2, Grid((20, 24), (1.0, 1.2), False, "cell"))
    mask[4:9, 4:9] = False
    mask[5:8, 5:8] = True
    a = np.random.default_rng(0).uniform(1, 4, mask.shape)
    stencil = Stencil.poisson(mask, a, spacing=0.05, bc=bc)
    f = np.random.default_rng(1).standard_normal(mask.shape)
    null = stencil.nullspace
    expected = np.zeros(mask.shape)
    shifted = stencil.to_csr() + 1e3 * null @ null.T
    expected[mask] = spsolve(shifted.tocsc(), stencil.project(f[mask]))
    for fast in (FastPoisson.of(stencil), None):
        u, residual = solve(stencil, f, fast)
        assert relative(u, expected) < 1e-8
        assert residual < 1e-10
        for label in np.flatnonzero(stencil.components[1]):
            assert abs(u[mask][stencil.components[0] == label].mean()) < 1e-12


def test_zero_sources_and_failure(monkeypatch):
    stencil = Stencil.poisson(np.ones((8, 8), bool), np.random.default_rng(0).uniform(1, 9, (8, 8)))
    u, residual = solve(stencil, np.zeros((8, 8)), None)
    assert not u.any() and residual == 0
    monkeypatch.setattr(elliptic, "_ITERATIONS", 2)
    with pytest.raises(
        SolverError, match=r"grid of \(8, 8\) stopped at a relative residual of .*less contrast"
    ):
        solve(stencil, np.ones((8, 8)), FastPoisson.of(stencil))
    with pytest.raises(ValueError, match="a periodic axis has no sine or cosine"):
        FastPoisson((4,), (1.0,), [("periodic", "periodic")])


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize(("ndim", "count", "n"), [(2, 1, 21), (2, 12, 75), (3, 3, 17)])
def test_obstacles_are_the_same_on_every_grid_and_leave_gaps(ndim, count, n, periodic):
    coarse = Grid((n,) * ndim, periodic=periodic, location="cell", origin=-1.0)
    fine = coarse.with_sizes((3 * n,) * ndim)
    for index in range(3):
        mask = random_mask(5, index, count, fine)
        assert np.array_equal(random_mask(5, index, count, coarse), mask[(slice(1, None, 3),) * ndim])
        wrap = "periodic" if periodic else "neumann"
        fluid, solid = (
            Stencil.poisson(m, bc=dict.fromkeys("xyz"[:ndim], wrap)).components[0] for m in (mask, ~mask)
        )
        assert fluid.max() == 0 and solid.max() + 1 == count
        assert 0.005 < 1 - mask.mean() < 0.3
        if not periodic:
            assert scipy.ndimage.binary_erosion(mask, border_value=1)[0].all()


def test_obstacles_depend_on_seed_and_index():
    grid = Grid((40, 40), periodic=False, location="cell")
    a, b, c = (random_mask(seed, index, 3, grid) for seed, index in ((0, 0), (0, 1), (1, 0)))
    assert (a != b).any() and (a != c).any() and (b != c).any()


@pytest.mark.parametrize("coefficient", ["two_phase", "log_normal"])
def test_darcy_converges_to_one_solution_over_grids(coefficient):
    """Thrice as fine puts the centre of every coarse cell in the centre of a fine one."""
    solutions = [Darcy(resolution=n, coefficient=coefficient).generate(0, [0, 1]) for n in (15, 45, 135)]
    at_coarse = [slice(1, None, 3), slice(4, None, 9)]
    fine = [solutions[2]["u"][:, s, s] for s in at_coarse[::-1]]
    errors = [
        relative(solutions[0]["u"], fine[0]),
        relative(solutions[1]["u"], solutions[2]["u"][:, 1::3, 1::3]),
    ]
    assert errors[0] < 0.05 and errors[1] < 0.5 * errors[0]
    a, b = solutions[0]["a"], solutions[2]["a"][:, at_coarse[1], at_coarse[1]]
    assert np.mean(np.abs(a / b - 1) > 0.1) < 0.1


def test_pressure_is_positive_and_scales():
    plain = Darcy(resolution=20)
    a = plain.permeability(0, [0], plain.grid)
    u, _ = plain.solve(a)
    assert (u > 0).all()
    np.testing.assert_allclose(Darcy(source=-3.0).solve(2 * a)[0], -1.5 * u, rtol=1e-8)
    turned = np.rot90(a, axes=(1, 2))
    np.testing.assert_allclose(plain.solve(turned)[0], np.rot90(u, axes=(1, 2)), rtol=1e-8)


def test_high_contrast_is_solved():
    equation = Darcy(resolution=32, high=1e6, low=1.0)
    result = equation.generate(0, [0])
    assert result["diagnostics"]["residual"][0] < 1e-9
    assert equation.residual(result, equation.grid)[0] < 1e-4


@pytest.mark.parametrize(
    "equation",
    [
        Darcy(resolution=24),
        Darcy(resolution=96),
        Darcy(resolution=53),  # a prime number: solved by multigrid
        Darcy(resolution=64, coefficient="log_normal"),
        Poisson(resolution=24),
        Poisson(resolution=96, obstacles=5, boundary="neumann"),
        Poisson(resolution=27, dimensions=3, boundary="mixed", obstacles=2),
    ],
    ids=str,
)
def test_residual_of_the_stored_fields_tells_right_from_wrong(equation):
    fields = {k: v for k, v in equation.generate(3, [0, 1]).items() if k in equation.variables}
    limit = 1e-7 * equation.resolution
    clean = equation.residual(fields, equation.grid)
    assert clean.shape == (2,) and (clean < limit).all()
    faulty = {
        "a per cent": {"u": 1.01 * fields["u"]},
        "shifted": {"u": np.roll(fields["u"], 1, axis=-1)},
        "other sample": {"u": fields["u"][::-1]},
    }
    for change in faulty.values():
        assert (equation.residual({**fields, **change}, equation.grid) > 1e-3).all()


def test_their_coefficient_gives_their_solution(real_data):
    """The real Darcy files hold solutions for f = 1 and permeabilities 0.36 and 0.02, not 12 and 3.

    The coefficient is known at 32 x 32 nodes only, so its outline is uncertain by half a spacing.
    """
    with pde_data.open(real_data / "darcy_test_32.pt") as dataset:
        high, theirs = dataset["x"].values[:6] > 0.5, dataset["y"].values[:6].astype(np.float64)
    n, refined = 32, 4
    uniform = scipy.ndimage.minimum_filter(high, (1, 3, 3)), ~scipy.ndimage.maximum_filter(high, (1, 3, 3))
    laplacian = n**2 * scipy.ndimage.convolve(theirs, [[[0, -1, 0], [-1, 4, -1], [0, -1, 0]]])
    for where, value in zip(uniform, (0.36, 0.02)):
        inside = laplacian[:, 1:-1, 1:-1][where[:, 1:-1, 1:-1]]
        assert np.median(inside) == pytest.approx(1 / value, rel=0.01)

    nearest = np.minimum(np.rint((np.arange(n * refined) + 0.5) / refined).astype(int), n - 1)
    a = np.where(high, 0.36, 0.02)[:, nearest][:, :, nearest]
    ours, _ = Darcy().solve(a)
    # Node i/n is a corner of four cells; those at the lower ends are on the boundary.
    corners = (ours[:, 1:, 1:] + ours[:, :-1, 1:] + ours[:, 1:, :-1] + ours[:, :-1, :-1]) / 4
    at_nodes = corners[:, refined - 1 :: refined, refined - 1 :: refined]
    assert relative(at_nodes, theirs[:, 1:, 1:]) < 0.03
    assert np.vdot(at_nodes, theirs[:, 1:, 1:]) / np.vdot(at_nodes, at_nodes) == pytest.approx(1, abs=0.02)


def test_command_line_and_pairs(tmp_path):
    path = tmp_path / "darcy.h5"
    assert (
        main(["generate", "darcy", str(path), "--samples", "3", "--resolution", "16", "--processes", "1"])
        == 0
    )
    dataset = pde_data.FieldDataset(path)
    x, y = dataset[2]
    assert (dataset.input_names, dataset.target_names) == (["a"], ["u"])
    expected = Darcy(resolution=16).generate(0, [2])
    assert np.array_equal(x[0].numpy(), expected["a"][0]) and np.array_equal(y[0].numpy(), expected["u"][0])

    path = tmp_path / "poisson.h5"
    pde_data.generate("poisson", path, samples=2, processes=1, resolution=24, obstacles=2, boundary="mixed")
    dataset = pde_data.FieldDataset(path)
    assert dataset[0][0].shape == (2, 24, 24) and dataset.input_names == ["source", "mask"]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Darcy(coefficient="three_phase"), ValueError, "choose one of two_phase, log_normal"),
        (lambda: Darcy(low=0.0), ValueError, "low=0.0 must be positive"),
        (lambda: Darcy(source=0.0), ValueError, "source=0 has the solution 0"),
        (lambda: Darcy(resolution=3), ValueError, "resolution=3 must be at least 4"),
        (lambda: Poisson(boundary="robin"), ValueError, "choose one of dirichlet, neumann, mixed"),
        (lambda: Poisson(dimensions=4), ValueError, "dimensions=4 must be 1, 2 or 3"),
        (lambda: Poisson(dimensions=1, obstacles=1), ValueError, "would cut a line"),
        (lambda: Poisson(obstacles=1.5), TypeError, "obstacles=1.5, expected a whole number"),
        (lambda: Poisson(obstacles=-1), ValueError, "obstacles=-1 must be at least 1"),
        (lambda: Poisson(resolution=16, obstacles=8), ValueError, "smallest resolution that would do is 48"),
    ],
)
def test_wrong_parameters_are_explained(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_the_resolution_that_an_error_names_is_enough():
    Poisson(resolution=48, obstacles=8)
    with pytest.raises(ValueError, match="resolution"):
        Poisson(resolution=47, obstacles=8)
