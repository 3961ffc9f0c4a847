"""Flexible conjugate gradients: exact properties, any preconditioner, no wrong answer called converged."""

import io
import sys

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, aslinearoperator, cg, spsolve

from solvers import GridPoisson, MultigridPreconditioner, fcg
from solvers.domains import random_stencil


def spd(n, condition=1e3, seed=0):
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    return q @ np.diag(np.geomspace(1, condition, n)) @ q.T


def test_without_a_preconditioner_it_is_conjugate_gradients():
    A, b = spd(60), np.random.default_rng(1).standard_normal(60)
    ours, scipys = [], []
    fcg(A, b, rtol=1e-8, callback=lambda x: ours.append(x.copy()), recompute_every=0)
    cg(A, b, rtol=1e-8, callback=lambda x: scipys.append(x.copy()))
    for x, y in zip(ours[:15], scipys[:15]):
        np.testing.assert_allclose(x, y, atol=1e-8 * abs(y).max())


def test_it_ends_after_as_many_steps_as_there_are_eigenvalues():
    A = np.diag(np.repeat([1.0, 2.0, 7.0, 30.0], 10))
    result = fcg(A, np.random.default_rng(0).standard_normal(40), rtol=1e-12)
    assert result.iterations == 4 and result.converged


@pytest.mark.parametrize("m", [0, 1, 2, 5])
def test_the_error_never_grows_whatever_the_preconditioner_is(m):
    A, rng = spd(50), np.random.default_rng(2)
    x = rng.standard_normal(50)
    errors = []

    def norm(y):
        errors.append((x - y) @ A @ (x - y))

    # Nonlinear, not symmetric, and random besides.
    def M(r):
        return np.maximum(r, 0) + 0.3 * np.roll(r, 1) + 0.1 * np.linalg.norm(r) * rng.standard_normal(50)

    fcg(A, A @ x, M=M, m=m, callback=norm, maxiter=40, rtol=1e-12, fallback=False, recompute_every=0)
    assert len(errors) == 40 and all(b <= a * (1 + 1e-12) for a, b in zip(errors, errors[1:]))


def test_directions_are_orthogonal_to_the_last_m():
    """With m = 2: each new direction, x_{k+1} - x_k, is A-orthogonal to the two before it."""
    A, b = spd(40, 100), np.random.default_rng(3).standard_normal(40)
    xs = [np.zeros(40)]
    M = lambda r: r + 0.5 * np.maximum(r, 0)  # noqa: E731
    fcg(A, b, M=M, m=2, callback=lambda x: xs.append(x.copy()), maxiter=12, rtol=1e-14)
    p = np.diff(xs, axis=0)
    p /= np.sqrt(np.einsum("ki,ij,kj->k", p, A, p))[:, None]
    for k in range(2, len(p)):
        assert abs(p[k] @ A @ p[k - 1]) < 1e-8 and abs(p[k] @ A @ p[k - 2]) < 1e-8


def poisson(**options):
    mask = np.ones((20, 17), bool)
    mask[5:9, 4:12] = False
    return GridPoisson(mask, spacing=0.05, **options)


SHAPES = {"vector": (-1,), "column": (-1, 1), "columns": (-1, 3), "grid": None}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.complex128, bool])
def test_right_hand_sides_of_any_shape_and_type(shape, dtype):
    op = poisson()
    n, rng = op.shape[0], np.random.default_rng(0)
    size = (
        op.mask.shape if SHAPES[shape] is None else (n,) if shape == "vector" else (n, abs(SHAPES[shape][1]))
    )
    b = rng.integers(0, 2 if dtype is bool else 9, size)
    b = (b + 1j * rng.integers(0, 9, size) if dtype == np.complex128 else b).astype(dtype)
    M = MultigridPreconditioner(dtype=np.float64).setup(op)
    result = fcg(op, b, M=M, rtol=1e-10)
    assert result.converged and result.x.shape == b.shape
    assert result.x.dtype == (np.complex128 if dtype == np.complex128 else np.float64)
    flat = (op.vector(b)[:, None] if shape == "grid" else b.reshape(n, -1)).astype(result.x.dtype)
    x = op.vector(result.x)[:, None] if shape == "grid" else result.x.reshape(n, -1)
    exact = spsolve(op.to_csr().tocsc(), flat).reshape(n, -1)
    np.testing.assert_allclose(x, exact, atol=1e-8 * abs(exact).max())


def test_scipys_way():
    op = poisson()
    b = np.ones(op.shape[0])
    x, info = fcg(op, b, full_output=False)
    assert info == 0 and np.linalg.norm(b - op @ x) <= 1e-5 * np.linalg.norm(b)
    _, info = fcg(op, b, maxiter=3, full_output=False)
    assert info == 3
    near, _ = fcg(op, b, x0=x, rtol=1e-4, full_output=False)
    assert np.array_equal(near, x)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream, progress", [(Terminal, True), (Terminal, False), (io.StringIO, True)])
def test_progress_is_shown_where_it_is_asked_for_and_there_is_a_terminal(stream, progress, monkeypatch):
    op = poisson()
    monkeypatch.setattr("sys.stderr", stream())
    result = fcg(op, np.ones(op.shape[0]), rtol=1e-6, progress=progress)
    shown = sys.stderr.getvalue()
    assert result.converged and bool(shown) == (progress and stream is Terminal)
    assert not shown or ("fcg" in shown and " steps" in shown)


def test_zero_right_hand_sides_have_zero_solutions():
    op = poisson()
    result = fcg(op, np.zeros(op.shape[0]), M=MultigridPreconditioner().setup(op))
    assert result.converged and result.iterations == 0 and not result.x.any()
    result = fcg(op, np.zeros(op.shape[0]), x0=np.ones(op.shape[0]), atol=1e-8)
    assert result.converged and abs(result.x).max() < 1e-8


def closed(pocket=True):
    """A box with Neumann walls, and a pocket of fluid that nothing joins to the rest."""
    mask = np.ones((18, 16), bool)
    mask[4:9, 4:9] = False
    mask[6, 6] = pocket
    mask[5:8, 5:8] = pocket
    return GridPoisson(mask, spacing=0.1, bc="neumann")


@pytest.mark.parametrize("M", ["none", "multigrid"])
def test_singular_problems(M):
    op = closed()
    assert op.nullspace.shape[1] == 2
    M = MultigridPreconditioner().setup(op) if M == "multigrid" else None
    b = np.random.default_rng(0).standard_normal(op.shape[0])
    with pytest.raises(ValueError, match="b is not in the range of A: .* lies in the nullspace.*op.project"):
        fcg(op, b, M=M)
    result = fcg(op, op.project(b), M=M, rtol=1e-9)
    assert result.converged and result.residual <= 1e-9 * np.linalg.norm(op.project(b))
    assert abs(op.nullspace.T @ result.x).max() <= 1e-10 * np.linalg.norm(result.x)
    # A matrix tells nothing; its nullspace can be given.
    again = fcg(op.to_csr(), op.project(b), nullspace=op.nullspace, rtol=1e-9)
    np.testing.assert_allclose(again.x, result.x, atol=1e-6 * abs(result.x).max())


def test_matrices_that_are_not_positive_definite_are_found_out():
    A = np.diag([1.0, 2.0, -3.0, 4.0])
    result = fcg(A, np.ones(4))
    assert (
        not result.converged and "A is not positive definite: p.Ap = " in result.reason and result.info == -1
    )
    with pytest.raises(TypeError, match="A is complex128; fcg solves real symmetric systems"):
        fcg(np.eye(3) * 1j, np.ones(3))


BROKEN = {
    "NaN": lambda r: r * np.nan,
    "nothing": lambda r: 0 * r,
    "negative": lambda r: -r,
    "the same": lambda r: np.ones_like(r),
    "infinite": lambda r: r / 0.0 if False else r + np.inf,
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_preconditioner_is_replaced_and_said_so(how):
    op = poisson()
    b = np.random.default_rng(0).standard_normal(op.shape[0])
    result = fcg(op, b, M=BROKEN[how], rtol=1e-8)
    assert result.converged and np.linalg.norm(b - op @ result.x) <= 1e-8 * np.linalg.norm(b)
    if how != "negative":  # a line search does not mind the sign
        assert "went on with classical multigrid" in result.reason
        alone = fcg(op, b, M=BROKEN[how], rtol=1e-8, fallback=False, maxiter=500)
        assert not alone.converged and np.isfinite(alone.x).all()
        matrix = fcg(op.to_csr(), b, M=BROKEN[how], rtol=1e-8)
        assert matrix.converged and "went on with Jacobi's preconditioner" in matrix.reason
        operator = fcg(aslinearoperator(op.to_csr()), b, M=BROKEN[how], rtol=1e-8)
        assert operator.converged and "went on with no preconditioner" in operator.reason


def test_a_preconditioner_that_stops_working_midway():
    op = poisson()
    b = np.random.default_rng(0).standard_normal(op.shape[0])
    good, calls = MultigridPreconditioner().setup(op), []

    def M(r):
        calls.append(1)
        return good.matvec(r) if len(calls) < 3 else r * np.nan

    result = fcg(op, b, M=M, rtol=1e-9)
    assert result.converged and "from step 2" in result.reason


def test_more_than_float64_can_do_is_not_promised():
    A = spd(30, 1e12)
    result = fcg(A, np.random.default_rng(0).standard_normal(30), rtol=1e-15, maxiter=5000)
    assert not result.converged and result.residual > 0
    assert "does not get smaller in float64" in result.reason or "maxiter" in result.reason


def test_the_residual_is_recomputed():
    """A product that is wrong by a little spoils the recursion; the true residual is what counts."""
    A, rng = spd(40), np.random.default_rng(0)
    noisy = LinearOperator(A.shape, lambda x: A @ x * (1 + 1e-4 * rng.standard_normal()), dtype=float)
    result = fcg(noisy, rng.standard_normal(40), rtol=1e-7, maxiter=200)
    true = np.linalg.norm
    assert not result.converged or result.residual <= 1e-7 * true(rng.standard_normal(40)) * 10


def test_wrong_arguments():
    op = poisson()
    n = op.shape[0]
    ones = np.ones(n)
    for error, words, arguments in (
        (ValueError, rf"b has shape \(5,\), but A has shape \({n}, {n}\)", {"b": np.ones(5)}),
        (ValueError, "b holds numbers that are not finite", {"b": ones * np.nan}),
        (ValueError, "b holds <U1, expected numbers", {"b": np.array(["a"] * n)}),
        (ValueError, r"M has shape \(3, 3\), but A has shape", {"M": np.eye(3)}),
        (
            ValueError,
            "a MultigridPreconditioner, has no shape yet: call its `setup`",
            {"M": MultigridPreconditioner()},
        ),
        (ValueError, r"x0 has shape \(\d+, 2\), b", {"x0": np.ones((n, 2))}),
        (ValueError, "rtol=-1 should be at least 0", {"rtol": -1}),
        (ValueError, "maxiter=-2 should not be negative", {"maxiter": -2}),
        (ValueError, r"A has shape \(2, 3\), expected a square", {"A": np.ones((2, 3))}),
        (ValueError, "nullspace has shape", {"nullspace": np.ones((3, 1))}),
    ):
        with pytest.raises(error, match=words):
            fcg(**({"A": op, "b": ones} | arguments))


def random_problem(seed):
    """A system, a right-hand side and a preconditioner, good or bad, all drawn from the seed."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(4)
    if kind == 0:
        n = int(rng.integers(1, 30))
        A = spd(n, 10 ** rng.uniform(0, 12), seed)
    elif kind == 1:
        n = int(rng.integers(1, 30))
        A = rng.standard_normal((n, n))
        A = A + A.T  # indefinite
    elif kind == 2:
        A = GridPoisson.from_stencil(
            random_stencil(rng, rng.integers(3, 20, rng.integers(1, 4)), contrast=2.0)
        )
    else:
        A = scipy.sparse.random_array((20, 20), density=0.2, rng=rng)
        A = A @ A.T + 10 ** rng.uniform(-12, 0) * scipy.sparse.eye_array(20)
    n = A.shape[0]
    b = rng.standard_normal(n) * 10 ** rng.uniform(-20, 20)
    scale, shift = 10 ** rng.uniform(-8, 8), rng.standard_normal((n, n))
    choices = [
        None,
        lambda r: scale * r,
        lambda r: np.where(rng.random(n) < 0.02, np.nan, r),
        lambda r: shift @ r,
        lambda r: (r * scale).astype(np.float32),
        lambda r: np.maximum(r, 0) + 0.1 * r,
        lambda r: -r + 0.1 * np.roll(r, 1),
        MultigridPreconditioner().setup(A) if kind == 2 else None,
    ]
    return A, b, choices[rng.integers(len(choices))], 10 ** rng.uniform(-13, -2), int(rng.integers(1, 400))


def solved_or_said_so(seed):
    A, b, M, rtol, maxiter = random_problem(seed)
    result = fcg(A, b, M=M, rtol=rtol, maxiter=maxiter, m=seed % 4)
    assert np.isfinite(result.x).all()
    if result.converged:
        assert np.linalg.norm(b - A @ result.x) <= rtol * np.linalg.norm(b) * (1 + 1e-6) + 1e-300, seed
    return result.converged


@pytest.mark.filterwarnings("ignore:overflow|invalid value|divide by zero:RuntimeWarning")
@pytest.mark.parametrize("seeds", [range(k, k + 50) for k in range(0, 200, 50)])
def test_a_wrong_answer_is_never_called_converged(seeds):
    done = [solved_or_said_so(seed) for seed in seeds]
    assert 0 < sum(done) < len(done)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:overflow|invalid value|divide by zero:RuntimeWarning")
def test_a_wrong_answer_is_never_called_converged_at_length():
    assert 0 < sum(solved_or_said_so(seed) for seed in range(1000)) < 1000
