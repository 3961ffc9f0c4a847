"""The masked finite-volume stencil: what it is as a matrix, and what it converges to."""

import numpy as np
import pytest
from pyamg import ruge_stuben_solver
from scipy.sparse import csgraph

from pde_data.equations.stencil import Stencil
from solvers import fcg
from tests.cases import relative

CONDITIONS = {
    "dirichlet": "dirichlet",
    "neumann": "neumann",
    "mixed": {"x": ("neumann", "dirichlet")},
    "periodic": {"x": "periodic"},
}


def random_stencil(sizes, bc, obstacles="neumann", seed=0):
    rng = np.random.default_rng(seed)
    spacing = (0.3, 0.5, 0.2)[: len(sizes)]
    return Stencil.poisson(
        rng.random(sizes) < 0.7,
        10 ** rng.uniform(-2, 2, sizes),
        spacing=spacing,
        bc=CONDITIONS[bc],
        obstacles=obstacles,
    )


@pytest.mark.parametrize("obstacles", ["neumann", "dirichlet"])
@pytest.mark.parametrize("bc", CONDITIONS)
@pytest.mark.parametrize("sizes", [(11,), (7, 10), (5, 4, 6), (1, 1), (2, 3, 1)])
def test_matrix_is_a_symmetric_semidefinite_m_matrix(sizes, bc, obstacles):
    stencil = random_stencil(sizes, bc, obstacles)
    sparse = stencil.to_csr()
    matrix = sparse.toarray()
    assert sparse.has_sorted_indices and matrix.shape == (stencil.size, stencil.size)
    assert np.array_equal(matrix, matrix.T)
    assert (matrix - np.diag(np.diag(matrix)) <= 0).all()
    scale = np.abs(matrix).max(initial=1e-300)

    dirichlet = stencil.boundary_terms(values=[1.0] * len(sizes))[stencil.mask]
    np.testing.assert_allclose(matrix.sum(axis=1), dirichlet, atol=1e-14 * scale)
    assert (dirichlet >= 0).all()

    eigenvalues = np.linalg.eigvalsh(matrix)
    # The contrast is 10^4, so regular parts stay far above rounding.
    assert (eigenvalues > -1e-13 * scale).all()
    nullspace = stencil.nullspace.toarray()
    assert nullspace.shape[1] == np.count_nonzero(eigenvalues < 1e-12 * scale)
    np.testing.assert_allclose(nullspace.T @ nullspace, np.eye(nullspace.shape[1]), atol=1e-14)
    np.testing.assert_allclose(matrix @ nullspace, 0, atol=1e-13 * scale)

    x = np.random.default_rng(1).standard_normal(stencil.size)
    np.testing.assert_allclose(stencil.project(x), x - nullspace @ (nullspace.T @ x), atol=1e-13)
    part, _ = stencil.components
    assert part.max() + 1 == csgraph.connected_components(sparse, directed=False)[0]


@pytest.mark.parametrize("bc", CONDITIONS)
@pytest.mark.parametrize("sizes", [(11,), (7, 10), (5, 4, 6), (1, 2)])
def test_apply_is_the_matrix(sizes, bc):
    stencil = random_stencil(sizes, bc)
    u = np.random.default_rng(1).standard_normal((2, *sizes))
    expected = np.zeros(u.shape)
    for one, out in zip(u, expected):
        out[stencil.mask] = stencil.to_csr() @ one[stencil.mask]
    np.testing.assert_allclose(stencil.apply(u), expected, atol=1e-12 * np.abs(expected).max())


def test_periodic_axes_have_fourier_modes():
    n, h = (8, 5), (0.25, 0.5)
    stencil = Stencil.poisson(np.ones(n, bool), spacing=h, bc={"x": "periodic", "y": "periodic"})
    values = [(2 * np.sin(np.pi * np.arange(m) / m) / d) ** 2 for m, d in zip(n, h)]
    expected = np.sort(np.add.outer(*values).ravel())
    np.testing.assert_allclose(np.linalg.eigvalsh(stencil.to_csr().toarray()), expected, atol=1e-12)


def manufactured(n, bc, obstacles):
    """Relative error for a smooth solution and coefficient on a box with a hole, all data inhomogeneous."""
    ndim = 3 if n < 30 else 2
    lengths = (1.0, 1.5, 0.5)[:ndim]
    sizes = tuple(round(n * length) for length in lengths)
    h = tuple(length / m for length, m in zip(lengths, sizes))
    rates = (1.1, 0.7, -1.3)

    def fields(*x):
        phase = sum(r * c for r, c in zip(rates, x))
        a, u = 2 + np.sin(phase), np.exp(phase / 2) + x[0] * x[1] ** 2
        gradient = [r / 2 * np.exp(phase / 2) for r in rates[:ndim]]
        gradient[0], gradient[1] = gradient[0] + x[1] ** 2, gradient[1] + 2 * x[0] * x[1]
        laplacian = sum(r**2 for r in rates[:ndim]) / 4 * np.exp(phase / 2) + 2 * x[0]
        slope = sum(r * np.cos(phase) * g for r, g in zip(rates, gradient))
        return a, u, [a * g for g in gradient], -(a * laplacian + slope)

    centres = [(np.arange(m) + 0.5) * d for m, d in zip(sizes, h)]
    grid = np.meshgrid(*centres, indexing="ij")
    a, u, _, f = fields(*grid)
    mask = ~np.logical_and.reduce([(x > length / 4) & (x < length / 2) for x, length in zip(grid, lengths)])
    on_faces = []
    for axis, (m, d) in enumerate(zip(sizes, h)):
        places = [np.arange(m + 1) * d if k == axis else x for k, x in enumerate(centres)]
        on_faces.append(fields(*np.meshgrid(*places, indexing="ij")))
    stencil = Stencil.poisson(mask, a, spacing=h, bc=bc, obstacles=obstacles)
    data = stencil.boundary_terms([v[1] for v in on_faces], [v[2][k] for k, v in enumerate(on_faces)])
    matrix, b = stencil.to_csr(), stencil.project((f + data)[mask])
    # Without the nullspace SciPy's cg stagnates at 1e-10 on some processors.
    M = ruge_stuben_solver(matrix).aspreconditioner()
    result = fcg(matrix, b, M=M, nullspace=stencil.nullspace, rtol=1e-10)
    assert result.converged, result.reason
    return relative(stencil.project(result.x), stencil.project(u[mask]))


@pytest.mark.parametrize("obstacles", ["dirichlet", "neumann"])
@pytest.mark.parametrize("bc", ["dirichlet", "neumann", {"x": ("neumann", "dirichlet"), "y": "neumann"}])
@pytest.mark.parametrize("sizes", [(8, 16), (32, 64)], ids=["3d", "2d"])
def test_second_order_with_every_boundary(sizes, bc, obstacles):
    coarse, fine = (manufactured(n, bc, obstacles) for n in sizes)
    assert fine < 0.01
    assert np.log2(coarse / fine) == pytest.approx(2.0, abs=0.25)


def test_layers_in_a_line_are_exact_with_a_given_flux():
    a = 10.0 ** np.array([3, -3, 0, 0, 2, -1])
    stencil = Stencil.poisson(np.ones(6, bool), a, spacing=0.5, bc={"x": ("neumann", "dirichlet")})
    b = stencil.boundary_terms(values=[7.0], fluxes=[-2.0])
    faces = np.concatenate([[0], np.cumsum(0.5 * -2.0 / a)])
    expected = (faces[1:] + faces[:-1]) / 2 - faces[-1] + 7.0
    np.testing.assert_allclose(np.linalg.solve(stencil.to_csr().toarray(), b), expected, rtol=1e-11)


def test_what_flows_out_is_what_the_sources_give():
    mask, a = np.ones((12, 9), bool), np.random.default_rng(1).uniform(1, 9, (12, 9))
    mask[2:7, 2:7] = False
    mask[3:6, 3:6] = True  # enclosed
    stencil = Stencil.poisson(mask, a, spacing=(0.3, 0.5), bc=CONDITIONS["mixed"])
    f = stencil.project(np.random.default_rng(0).standard_normal(stencil.size))
    dense, null = stencil.to_csr().toarray(), stencil.nullspace.toarray()
    u = np.linalg.solve(dense + null @ null.T, f)
    outflow = stencil.boundary_terms(values=[1.0, 1.0])[stencil.mask] * u
    part, singular = stencil.components
    balance = np.bincount(part, f) - np.bincount(part, outflow)
    assert singular.any() and not singular.all()
    np.testing.assert_allclose(balance, 0, atol=1e-10 * np.abs(outflow).sum())


def test_mirrored_and_turned_problems_have_mirrored_and_turned_matrices():
    rng = np.random.default_rng(5)
    mask, a = rng.random((6, 8)) < 0.8, rng.uniform(1, 9, (6, 8))
    bc = {"x": ("neumann", "dirichlet"), "y": ("dirichlet", "neumann")}
    turned = {"x": ("dirichlet", "neumann"), "y": ("dirichlet", "neumann")}
    u = rng.standard_normal((6, 8))
    straight = Stencil.poisson(mask, a, spacing=(0.1, 0.2), bc=bc).apply(u)
    # One quarter turn takes the upper end of x to the upper end of the new y, and the lower end of y to x.
    turn = Stencil.poisson(np.rot90(mask, -1), np.rot90(a, -1), spacing=(0.2, 0.1), bc=turned)
    np.testing.assert_allclose(np.rot90(turn.apply(np.rot90(u, -1))), straight, atol=1e-11)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda m: Stencil.poisson(m.astype(int)), TypeError, "dtype int64, expected bool"),
        (lambda m: Stencil.poisson(np.ones((1, 2, 3, 4), bool)), ValueError, "expected one to three axes"),
        (lambda m: Stencil.poisson(~m), ValueError, "no fluid cell"),
        (lambda m: Stencil.poisson(m, np.ones(3)), ValueError, r"coeff has shape \(3,\), the mask \(4, 5\)"),
        (lambda m: Stencil.poisson(m, 0 * m), ValueError, "coeff must be positive"),
        (lambda m: Stencil.poisson(m, spacing=(1, -1)), ValueError, "must be positive and finite"),
        (lambda m: Stencil.poisson(m, spacing=(1, 1, 1)), ValueError, "spacing.*one number, or one for each"),
        (lambda m: Stencil.poisson(m, bc={"z": "neumann"}), ValueError, "bc names the axes z.*has x, y"),
        (lambda m: Stencil.poisson(m, bc="robin"), ValueError, "bc of axis x is 'robin'"),
        (lambda m: Stencil.poisson(m, bc={"y": ("periodic", "neumann")}), ValueError, "for both ends"),
        (lambda m: Stencil.poisson(m, obstacles="periodic"), ValueError, "choose 'dirichlet' or 'neumann'"),
    ],
)
def test_wrong_problems_are_explained(make, error, words):
    with pytest.raises(error, match=words):
        make(np.ones((4, 5), bool))


def test_coefficients_in_obstacles_do_not_matter():
    mask = np.ones((5, 5), bool)
    mask[2, 2] = False
    a, b = (np.where(mask, 2.0, inside) for inside in (np.nan, -1.0))
    difference = Stencil.poisson(mask, a).to_csr() - Stencil.poisson(mask, b).to_csr()
    assert difference.nnz == 0
