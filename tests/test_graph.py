"""The graph preconditioner: positive for any weights, invariant, better than IC(0), safe on any matrix."""

import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyamg
import pytest
import torch
from scipy import sparse
from scipy.sparse.linalg import bicgstab, cg, gmres, minres, spsolve

from pde_data.domains import random_domain
from pde_data.equations.elasticity import CLAMPED, plane_strain
from pde_data.equations.polygon_darcy import darcy
from pde_data.equations.unstructured import generator, smooth_field
from pde_data.meshing import triangulate
from solvers import GraphPreconditioner, GraphWeights, check_preconditioner, fcg, train_graph
from solvers.graph import prepared
from solvers.graph_hierarchy import aggregate, describe, relaxed, smoothed, unit_diagonal
from solvers.graph_loops import solve_small
from solvers.graph_operands import DenseOperand, SparseOperand
from solvers.graph_training import differentiable_cycle
from solvers.graph_weights import random_weights

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from incomplete_cholesky import IncompleteCholesky


def flow(size, index, contrast=1.0):
    """Matrix and load of Darcy flow on a polygon with holes."""
    mesh = triangulate(random_domain(generator(50, index, 0), 3, 0.1), size, seed=index)
    permeability = np.exp(contrast * smooth_field(mesh.points, generator(50, index, 1)))
    problem = darcy(mesh, permeability, np.ones(len(mesh.points)), mesh.tags == 1)
    free = ~problem.fixed
    return problem.matrix[free][:, free].tocsr(), problem.load[free], None


def body(size, index):
    """Matrix, load and rigid-body modes of a plate clamped on its left."""
    mesh = triangulate(random_domain(generator(50, index, 0), 3, 0.1), size, seed=index)
    x, y = (mesh.points - mesh.points.mean(0)).T
    fixed = (x < np.quantile(x, 0.1)) & (mesh.tags > 0)
    force = np.stack([np.ones_like(x), x], axis=1)
    problem = plane_strain(mesh, np.exp(0.5 * x), 0.3, force, np.where(fixed, CLAMPED, 1) == CLAMPED)
    free = ~problem.fixed
    zero, one = np.zeros_like(x), np.ones_like(x)
    modes = np.stack([np.stack([one, zero], 1), np.stack([zero, one], 1), np.stack([-y, x], 1)], axis=2)
    return problem.matrix[free][:, free].tocsr(), problem.load[free], modes.reshape(-1, 3)[free]


@pytest.fixture(scope="module")
def plate():
    return body(0.03, 1)


@pytest.fixture(scope="module")
def rock():
    return flow(0.025, 1)


def steps(A, b, M, rtol=1e-6):
    count = []
    x, info = cg(A, b, M=M, rtol=rtol, maxiter=2000, callback=count.append)
    assert info == 0
    assert np.linalg.norm(b - A @ x) <= 1.01 * rtol * np.linalg.norm(b)
    return len(count)


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
@pytest.mark.parametrize("problem", ["rock", "plate"])
def test_symmetric_positive_definite_whatever_the_weights(problem, seed, request):
    A, _, B = request.getfixturevalue(problem)
    M = (
        GraphPreconditioner.from_pretrained()
        if seed is None
        else GraphPreconditioner(random_weights(seed), max_coarse=10)
    )
    M.setup(A, B)
    report = check_preconditioner(A, M, tolerance=1e-10)
    assert report.is_spd and report.symmetry < 1e-12 and M.levels > 1 and not M.notes
    # All relaxation is a contraction in the energy norm, so no eigenvalue of MA is beyond 1.
    assert report.eigenvalues is not None and 0 < report.eigenvalues[0] and report.eigenvalues[1] < 1 + 1e-10


def test_the_whole_spectrum_of_a_cycle_with_senseless_weights_is_positive():
    A, _, B = body(0.05, 2)
    M = GraphPreconditioner(random_weights(7), max_coarse=10).setup(A, B)
    dense = M @ np.eye(A.shape[0])
    np.testing.assert_allclose(dense, dense.T, atol=1e-12 * np.abs(dense).max())
    found = np.linalg.eigvals(dense @ A.toarray())
    assert np.abs(found.imag).max() < 1e-8 and 0 < found.real.min() and found.real.max() < 1 + 1e-10


@pytest.mark.parametrize("problem", ["rock", "plate"])
def test_multiplying_the_matrix_or_scaling_its_unknowns_does_not_matter(problem, request):
    A, b, B = request.getfixturevalue(problem)
    n = A.shape[0]
    M = GraphPreconditioner.from_pretrained().setup(A, B)
    multiplied = GraphPreconditioner.from_pretrained().setup(1e-7 * A, B)
    np.testing.assert_allclose(1e-7 * (multiplied @ b), M @ b, rtol=1e-9, atol=1e-12 * np.abs(M @ b).max())
    s = np.exp(np.random.default_rng(0).uniform(-6, 6, n))
    S = sparse.diags_array(s)
    near = np.ones((n, 1)) if B is None else B
    plain = GraphPreconditioner.from_pretrained().setup(A, near)
    scaled = GraphPreconditioner.from_pretrained().setup(sparse.csr_matrix(S @ A @ S), near / s[:, None])
    np.testing.assert_allclose(
        s * (scaled @ (s * b)), plain @ b, rtol=1e-6, atol=1e-9 * np.abs(plain @ b).max()
    )


def test_numbering_changes_neither_what_is_learned_nor_how_fast_it_converges(rock):
    A, b, _ = rock
    order = np.random.default_rng(0).permutation(len(b))
    B = np.ones((len(b), 1))
    scaled, _ = unit_diagonal(A)
    turned = sparse.csr_matrix(scaled[order][:, order])
    weights = GraphPreconditioner.from_pretrained().weights
    found = aggregate(scaled, B, 1, weights.theta, weights.drop)
    moved = replace(found, aggregate=found.aggregate[order], beside=found.beside[order])
    rows = weights.rows(*describe(scaled, B, found, 0))
    again = weights.rows(*describe(turned, B[order], moved, 0))
    for one, other in zip(rows, again):
        np.testing.assert_allclose(other, one[order], rtol=1e-10)
    M = GraphPreconditioner.from_pretrained()
    before = steps(A, b, M.setup(A))
    after = steps(A[order][:, order], b[order], M.setup(A[order][:, order]))
    assert abs(before - after) <= 2


@pytest.mark.parametrize("problem", ["rock", "plate"])
def test_one_and_a_half_times_fewer_steps_than_incomplete_cholesky_on_unseen_meshes(problem, request):
    A, b, B = request.getfixturevalue(problem)
    ours = steps(A, b, GraphPreconditioner.from_pretrained().setup(A, B))
    assert 1.5 * ours <= steps(A, b, IncompleteCholesky(A))
    assert ours <= steps(A, b, GraphPreconditioner().setup(A, B))


def test_the_number_of_steps_hardly_grows_with_the_mesh():
    counts = []
    for size in (0.04, 0.02, 0.01):
        A, b, B = flow(size, 3)
        counts.append(steps(A, b, GraphPreconditioner.from_pretrained().setup(A, B)))
    assert counts[-1] <= counts[0] + 4


def test_kernels_agree_with_dense_torch():
    A, b, B = body(0.05, 3)
    A, B, block = prepared(A, B)
    assert block == 2
    scaled, scale = unit_diagonal(A)
    weights = replace(random_weights(3), theta=0.05, drop=0.05)
    parameters = {name: torch.tensor(value) for name, value in weights.parameters.items()}
    cycle = differentiable_cycle(scaled, relaxed(scaled, B / scale[:, None]), block, parameters, weights, 20)
    expected = scale * cycle(torch.tensor(scale * b)[:, None])[:, 0].numpy()
    M = GraphPreconditioner(weights, max_coarse=20).setup(A, B)
    assert M.levels == 3
    np.testing.assert_allclose(M @ b, expected, rtol=1e-7, atol=1e-9 * np.abs(expected).max())


def test_a_prolongation_that_keeps_the_near_nullspace_keeps_it(plate):
    A, _, B = plate
    scaled, scale = unit_diagonal(A)
    B = B / scale[:, None]
    found = aggregate(scaled, B, 2, 0.0, 0.0)
    ones = np.ones(A.shape[0])
    P = smoothed(scaled, found, random_weights(0).rows(*describe(scaled, B, found, 0))._replace(kept=ones))
    np.testing.assert_allclose(P @ found.coarse, B, atol=1e-10 * np.abs(B).max())
    assert abs(P - found.tentative).max() > 0.1


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_small_systems_are_solved_and_zero_pivots_left_out(k):
    rng = np.random.default_rng(k)
    Q = rng.standard_normal((k, k + 2))
    gram, right = Q @ Q.T, rng.standard_normal(k)
    x = right.copy()
    solve_small(np.tril(gram), x)
    np.testing.assert_allclose(gram @ x, right, rtol=1e-9)
    flat = np.outer(np.arange(1.0, k + 1), np.arange(1.0, k + 1))
    x = flat @ right
    solve_small(np.tril(flat), x)
    np.testing.assert_allclose(flat @ x, flat @ right, rtol=1e-9)


def laplacian_of_a_random_graph(n, degree, seed):
    """Laplacian plus a thousandth."""
    rng = np.random.default_rng(seed)
    i, j = rng.integers(0, n, (2, n * degree))
    W = sparse.coo_array((rng.uniform(0.1, 1, i.size) * (i != j), (i, j)), (n, n))
    W = sparse.csr_array(W + W.T)
    return sparse.csr_array(sparse.diags_array(np.asarray(W.sum(axis=1)).ravel() + 1e-3) - W)


def anisotropic(n, ratio):
    one = sparse.diags_array([2.0 * np.ones(n), -np.ones(n - 1), -np.ones(n - 1)], offsets=[0, 1, -1])
    unit = sparse.eye_array(n)
    return sparse.csr_array(sparse.kron(one, unit) + ratio * sparse.kron(unit, one))


LAPLACIAN = anisotropic(4, 1.0)


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


@pytest.mark.parametrize("solver", [cg, minres, gmres, bicgstab])
def test_every_solver_of_scipy_takes_it(solver, plate):
    A, b, B = plate
    M = GraphPreconditioner.from_pretrained().setup(A, B)
    x, info = solver(A, b, M=M, rtol=1e-10)
    assert info == 0
    exact = spsolve(A.tocsc(), b)
    np.testing.assert_allclose(x, exact, atol=1e-5 * np.abs(exact).max())


def test_vectors_keep_their_type(rock):
    A, b, _ = rock
    M = GraphPreconditioner().setup(A)
    assert M.dtype == np.float64 and (M @ b.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(M @ (b + 2j * b), (1 + 2j) * (M @ b))
    np.testing.assert_allclose(M @ np.stack([b, -b], 1), np.stack([M @ b, -(M @ b)], 1))
    assert not (M @ np.zeros(len(b))).any()
    assert (M.T @ b == M @ b).all()
    first = (M @ b).copy()
    M @ (3 * b)
    assert (M @ b == first).all()


def test_blocks_are_found_or_told(plate):
    A, b, B = plate
    found = GraphPreconditioner().setup(A, B)
    told = GraphPreconditioner().setup(A, B, block_size=2)
    stored = GraphPreconditioner().setup(A.tobsr((2, 2)), B)
    np.testing.assert_array_equal(found @ b, told @ b)
    np.testing.assert_array_equal(found @ b, stored @ b)
    assert steps(A, b, found) < steps(A, b, GraphPreconditioner().setup(A))  # rotations are missed


@pytest.mark.parametrize("forward", [True, False])
def test_sparse_sweeps_and_their_gradients_agree_with_dense_ones(forward):
    A, _ = unit_diagonal(sparse.csr_matrix(LAPLACIAN))
    given, dense = SparseOperand(A), DenseOperand(torch.tensor(A.toarray()))
    rng = np.random.default_rng(0)
    b = torch.tensor(rng.standard_normal((16, 2)), requires_grad=True)
    factors = torch.tensor(rng.uniform(0.5, 1.5, 16), requires_grad=True)
    torch.testing.assert_close(given.sweep(b, factors, forward), dense.sweep(b, factors, forward))
    assert torch.autograd.gradcheck(lambda b, f: given.sweep(b, f, forward), (b, factors))
    assert torch.autograd.gradcheck(lambda b: given @ b, (b,))


def test_training_lowers_the_number_of_steps():
    seen = [(flow(0.05, index)[0], None) for index in range(20, 22)]
    losses = []
    weights = train_graph(
        seen, family="Darcy flow", steps=15, learning_rate=3e-2, progress=lambda _, loss: losses.append(loss)
    )
    assert np.mean(losses[-5:]) < 1.05 * np.mean(losses[:5]) < 0
    A, b, _ = flow(0.02, 30)
    M = GraphPreconditioner(weights, max_coarse=20).setup(A)
    classical = GraphPreconditioner(max_coarse=20).setup(A)
    assert check_preconditioner(A, M).eigenvalues[0] > 1.1 * check_preconditioner(A, classical).eigenvalues[0]
    assert steps(A, b, M, 1e-10) < steps(A, b, classical, 1e-10)


def test_training_needs_matrices():
    with pytest.raises(ValueError, match="matrices is empty"):
        train_graph([], family="nothing")


def test_weights_survive_a_file(tmp_path, rock):
    A, b, _ = rock
    M = GraphPreconditioner(replace(random_weights(0), theta=0.1, drop=0.05, family="none")).setup(A)
    M.save(tmp_path / "weights.json")
    again = GraphPreconditioner.load(tmp_path / "weights.json").setup(A)
    np.testing.assert_array_equal(again @ b, M @ b)
    assert (again.weights.family, again.weights.theta, again.weights.drop) == ("none", 0.1, 0.05)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "not JSON",
        '{"format": "opflow graph weights 1"}',
        '{"format": "opflow graph weights 2"}',
    ]
    + [
        '{"format": "opflow graph weights 1", "family": "x", "theta": 0, "drop": 0, "parameters": '
        + part
        + "}"
        for part in ("{}", '{"W1": 3}', "[1]", '{"W1": [["a"]]}', '{"W1": [[1], [2, 3]]}')
    ],
)
def test_other_files_are_refused(text, tmp_path):
    path = tmp_path / "weights.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="holds no weights of a GraphPreconditioner"):
        GraphPreconditioner.load(path)


def test_errors_of_weights(tmp_path):
    good = GraphWeights().parameters
    with pytest.raises(ValueError, match="expected W1, b1"):
        GraphWeights({"W1": good["W1"]})
    with pytest.raises(
        ValueError, match=r"W3 are float64 of shape \(2, 2\), expected finite numbers of shape"
    ):
        GraphWeights({**good, "W3": np.ones((2, 2))})
    with pytest.raises(ValueError, match="finite"):
        GraphWeights({**good, "b3": np.full(5, np.nan)})
    for name in ("theta", "drop"):
        with pytest.raises(ValueError, match=f"{name}=1.5 should be"):
            GraphWeights(**{name: 1.5})
    with pytest.raises(FileNotFoundError):
        GraphPreconditioner.load(tmp_path / "missing.json")
    with pytest.raises(ValueError, match="no weights 'nothing', there are graph"):
        GraphPreconditioner.from_pretrained("nothing")
    with pytest.raises(ValueError, match="max_coarse=0"):
        GraphPreconditioner(max_coarse=0)


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
