"""The graph preconditioner on any matrix: it converges where that is possible, and says what it does."""

import warnings

import numpy as np
import pyamg
import pytest
from scipy import sparse

from pde_data.domains import random_domain
from pde_data.equations.polygon_darcy import darcy
from pde_data.equations.unstructured import generator
from pde_data.meshing import triangulate
from solvers import GraphPreconditioner, check_preconditioner, fcg
from solvers.graph_weights import random_weights
from tests.cases.graphs import (
    LAPLACIAN,
    anisotropic,
    flow,
    laplacian_of_a_random_graph,
    steps,
)


def dominant(n, seed):
    """Off-diagonal entries of both signs."""
    R = sparse.random_array((n, n), density=6 / n, rng=np.random.default_rng(seed)) * 2
    R = R + R.T - sparse.diags_array(2 * R.diagonal())
    R.data *= np.where(R.data > 1, -1, 1)
    return sparse.csr_array(sparse.diags_array(np.asarray(abs(R).sum(axis=1)).ravel() + 0.01) - (R + R.T) / 2)


def dense(n):
    Q = np.random.default_rng(0).standard_normal((n, n))
    return Q @ Q.T / n + 0.01 * np.eye(n)


def badly_scaled(A, seed=0):
    S = sparse.diags_array(10.0 ** np.random.default_rng(seed).uniform(-4, 4, A.shape[0]))
    return sparse.csr_array(S @ A @ S)


MATRICES = {
    "one by one": lambda: np.array([[3.0]]),
    "two by two": lambda: np.array([[2.0, -1.0], [-1.0, 2.0]]),
    "diagonal": lambda: sparse.diags_array(10.0 ** np.linspace(-8, 8, 300)),
    "dense": lambda: dense(120),
    "diagonally dominant": lambda: dominant(600, 0),
    "graph": lambda: laplacian_of_a_random_graph(800, 3, 0),
    "thick graph": lambda: laplacian_of_a_random_graph(500, 30, 1),
    "anisotropic": lambda: anisotropic(40, 1e-4),
    "chain": lambda: pyamg.gallery.poisson((1000,), format="csr"),
    "three dimensions": lambda: pyamg.gallery.poisson((10, 10, 10), format="csr"),
    "blocks": lambda: sparse.block_diag([dense(m) for m in (1, 2, 3, 5, 20, 60)], format="csr"),
    "disconnected": lambda: sparse.block_diag([anisotropic(15, 1.0), np.eye(40), anisotropic(9, 1.0)]),
    "badly scaled": lambda: badly_scaled(anisotropic(25, 1.0)),
    "square of a Laplacian": lambda: sparse.csr_array(anisotropic(14, 1.0) @ anisotropic(14, 1.0)),
    "positive off the diagonal": lambda: sparse.csr_array(abs(anisotropic(20, 1.0))),
    "without blocks": lambda: sparse.kron(anisotropic(12, 1.0), np.array([[2.0, 1.0], [1.0, 2.0]])),
    "jumps": lambda: flow(0.04, 4, contrast=4.0)[0],
    "float32": lambda: sparse.csr_array(anisotropic(20, 1.0), dtype=np.float32),
    "integers": lambda: sparse.csr_array(anisotropic(20, 1.0)).astype(np.int64),
    "duplicates": lambda: sparse.coo_array(
        (np.array([1.0, 1.0, 3.0, -1.0, -1.0]), ([0, 0, 1, 0, 1], [0, 0, 1, 1, 0])), shape=(2, 2)
    ),
}


@pytest.mark.parametrize("pretrained", [True, False], ids=["trained", "senseless"])
@pytest.mark.parametrize("name", MATRICES)
def test_converges_on_every_positive_definite_matrix(name, pretrained):
    A = MATRICES[name]()
    M = GraphPreconditioner.from_pretrained() if pretrained else GraphPreconditioner(random_weights(1))
    M.setup(A)
    n = A.shape[0]
    x = np.random.default_rng(1).standard_normal(n)
    b = A @ x
    result = fcg(A, b, M=M, rtol=1e-8, fallback=False, maxiter=5000)
    assert result.converged, result.reason
    assert check_preconditioner(A, M, tolerance=1e-9).is_spd
    assert M.operator_complexity < 3
    plain = fcg(A, b, rtol=1e-8, maxiter=20000)
    if pretrained:
        assert result.iterations <= plain.iterations + 2


@pytest.mark.parametrize(
    "B", [np.zeros(400), np.repeat([0.0, 1.0], 200), np.ones((400, 2))], ids=["0", "half", "twice"]
)
def test_a_near_nullspace_without_full_rank_does_no_harm(B):
    A = anisotropic(20, 1.0)
    M = GraphPreconditioner.from_pretrained(max_coarse=10).setup(A, B)
    assert check_preconditioner(A, M, tolerance=1e-10).is_spd
    assert steps(A, np.ones(400), M) < steps(A, np.ones(400), None)


def test_a_diagonal_matrix_is_solved_at_once():
    A = sparse.diags_array(10.0 ** np.linspace(-8, 8, 300))
    M = GraphPreconditioner(random_weights(0)).setup(A)
    np.testing.assert_allclose(M @ np.ones(300), 10.0 ** np.linspace(8, -8, 300), rtol=1e-12)
    assert M.operator_complexity == 1 and not M.notes


def test_a_matrix_that_is_not_positive_definite_gets_jacobi_and_a_warning():
    A = anisotropic(20, 1.0) - 3 * sparse.eye_array(400)
    with pytest.warns(UserWarning, match="not positive definite.*Jacobi"):
        M = GraphPreconditioner().setup(A)
    assert M.notes and M.levels == 0 and M.operator_complexity == 1
    np.testing.assert_allclose(M @ np.ones(400), 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert GraphPreconditioner().setup(anisotropic(20, 1.0)).notes == []


def test_a_level_that_does_not_coarsen_is_relaxed_only_with_a_warning():
    A, B = anisotropic(20, 1.0), np.random.default_rng(0).standard_normal((400, 6))
    with pytest.warns(UserWarning, match="grouping of unknowns stopped at 400, which are relaxed only"):
        M = GraphPreconditioner().setup(A, B)
    assert M.levels == 1 and M.notes
    assert check_preconditioner(A, M, tolerance=1e-10).is_spd
    assert steps(A, np.ones(400), M) < steps(A, np.ones(400), None)


def test_what_cannot_be_coarsened_well_is_told():
    M = GraphPreconditioner().setup(laplacian_of_a_random_graph(800, 3, 0))
    assert any("fill" in note for note in M.notes)


def test_a_singular_matrix_with_a_compatible_load():
    mesh = triangulate(random_domain(generator(50, 1, 0), 3, 0.1), 0.04, seed=1)
    points = len(mesh.points)
    A = darcy(mesh, np.ones(points), np.ones(points), np.zeros(points, bool)).matrix
    b = np.random.default_rng(0).standard_normal(points)
    b -= b.mean()
    constant = np.full((points, 1), points**-0.5)
    M = GraphPreconditioner.from_pretrained().setup(A)
    result = fcg(A, b, M=M, nullspace=constant, rtol=1e-8, fallback=False)
    assert result.converged and result.iterations < 30


@pytest.mark.parametrize(
    ("A", "options", "error", "words"),
    [
        (LAPLACIAN[:3], {}, ValueError, r"shape \(3, 16\), expected a square matrix"),
        (np.zeros((0, 0)), {}, ValueError, "expected a square matrix"),
        (LAPLACIAN * 1j, {}, TypeError, "complex128; GraphPreconditioner works on real"),
        ("A", {}, TypeError, "A is a str, expected a sparse matrix"),
        (LAPLACIAN * np.nan, {}, ValueError, "not finite"),
        (
            -LAPLACIAN,
            {},
            ValueError,
            r"A\[\d+, \d+\] is -4: a positive definite matrix has a positive diagonal",
        ),
        (np.array([[1.0, 0.0], [0.0, 0.0]]), {}, ValueError, r"A\[1, 1\] is 0"),
        (sparse.csr_array(sparse.triu(LAPLACIAN)), {}, ValueError, r"not symmetric.*\(A \+ A.T\) / 2"),
        (LAPLACIAN, {"B": np.ones(3)}, ValueError, r"B has shape \(3,\).*A has 16 rows"),
        (LAPLACIAN, {"B": np.full(16, np.inf)}, ValueError, "B holds numbers that are not finite"),
        (LAPLACIAN, {"block_size": 3}, ValueError, "block_size=3 does not divide the 16 rows"),
    ],
)
def test_errors_of_setup(A, options, error, words):
    with pytest.raises(error, match=words):
        GraphPreconditioner().setup(A, **options)


def test_before_setup_it_has_no_shape():
    with pytest.raises(ValueError, match="call its `setup`"):
        fcg(LAPLACIAN, np.ones(16), M=GraphPreconditioner())
