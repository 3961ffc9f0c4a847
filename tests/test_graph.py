"""The graph preconditioner: positive for any weights, invariant, better than IC(0)."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import sparse
from scipy.sparse.linalg import bicgstab, cg, gmres, minres, spsolve

from solvers import GraphPreconditioner, check_preconditioner
from solvers.graph import prepared
from solvers.graph_hierarchy import aggregate, describe, relaxed, smoothed, unit_diagonal
from solvers.graph_loops import solve_small
from solvers.graph_training import differentiable_cycle
from solvers.graph_weights import random_weights
from tests.cases.graphs import PROBLEMS, body, flow, plate, rock, steps

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from incomplete_cholesky import IncompleteCholesky


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
@pytest.mark.parametrize("problem", ["rock", "plate"])
def test_symmetric_positive_definite_whatever_the_weights(problem, seed):
    A, _, B = PROBLEMS[problem]()
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
def test_multiplying_the_matrix_or_scaling_its_unknowns_does_not_matter(problem):
    A, b, B = PROBLEMS[problem]()
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


def test_numbering_changes_neither_what_is_learned_nor_how_fast_it_converges():
    A, b, _ = rock()
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
def test_one_and_a_half_times_fewer_steps_than_incomplete_cholesky_on_unseen_meshes(problem):
    A, b, B = PROBLEMS[problem]()
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


def test_a_prolongation_that_keeps_the_near_nullspace_keeps_it():
    A, _, B = plate()
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


@pytest.mark.parametrize("solver", [cg, minres, gmres, bicgstab])
def test_every_solver_of_scipy_takes_it(solver):
    A, b, B = plate()
    M = GraphPreconditioner.from_pretrained().setup(A, B)
    x, info = solver(A, b, M=M, rtol=1e-10)
    assert info == 0
    exact = spsolve(A.tocsc(), b)
    np.testing.assert_allclose(x, exact, atol=1e-5 * np.abs(exact).max())


def test_vectors_keep_their_type():
    A, b, _ = rock()
    M = GraphPreconditioner().setup(A)
    assert M.dtype == np.float64 and (M @ b.astype(np.float32)).dtype == np.float32
    np.testing.assert_allclose(M @ (b + 2j * b), (1 + 2j) * (M @ b))
    np.testing.assert_allclose(M @ np.stack([b, -b], 1), np.stack([M @ b, -(M @ b)], 1))
    assert not (M @ np.zeros(len(b))).any()
    assert (M.T @ b == M @ b).all()
    first = (M @ b).copy()
    M @ (3 * b)
    assert (M @ b == first).all()


def test_blocks_are_found_or_told():
    A, b, B = plate()
    found = GraphPreconditioner().setup(A, B)
    told = GraphPreconditioner().setup(A, B, block_size=2)
    stored = GraphPreconditioner().setup(A.tobsr((2, 2)), B)
    np.testing.assert_array_equal(found @ b, told @ b)
    np.testing.assert_array_equal(found @ b, stored @ b)
    assert steps(A, b, found) < steps(A, b, GraphPreconditioner().setup(A))  # rotations are missed
