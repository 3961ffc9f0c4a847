"""The multigrid preconditioner: symmetric positive definite whatever is learned, and fast."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import bicgstab, cg, gcrotmk, gmres, lgmres, minres, spsolve

from solvers import GridPoisson, MultigridPreconditioner, check_preconditioner, fcg
from solvers.cycle import LearnedCycle, pack
from solvers.dense_cycle import cycle
from solvers.domains import KINDS, random_stencil
from solvers.weights import FEATURES, CycleWeights, FaceNetwork

SIZES = [(40,), (33, 20), (64, 17), (17, 18, 19), (16, 32, 8), (1, 50), (30, 1, 20), (7, 7), (97, 3)]


def random_weights(seed, size=1.0):
    rng = np.random.default_rng(seed)
    shapes = ((16, FEATURES), (16, 16), (2, 16))
    layers = tuple((size * rng.standard_normal(s), size * rng.standard_normal(s[0])) for s in shapes)
    return CycleWeights(tuple(rng.uniform(0.02, 1.98, 3)), int(rng.integers(1, 4)), FaceNetwork(layers))


def problem(seed, sizes, periodic=False):
    rng = np.random.default_rng(seed)
    stencil = random_stencil(rng, sizes, contrast=float(rng.uniform(0, 3)))
    if not periodic:
        return GridPoisson.from_stencil(stencil)
    coeff = np.exp(rng.standard_normal(sizes))
    return GridPoisson(stencil.mask, coeff, spacing=0.3, bc={"xyz"[len(sizes) - 1]: "periodic"})


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("kind", ["classical", "random"])
def test_it_is_symmetric_positive_definite_whatever_the_weights(sizes, kind, periodic):
    for seed in range(3):
        op = problem(seed, sizes, periodic)
        weights = None if kind == "classical" else random_weights(seed)
        M = MultigridPreconditioner(weights, dtype=np.float64).setup(op)
        report = check_preconditioner(op, M, tolerance=1e-10)
        assert report.is_spd, f"\n{report}"
        if op.shape[0] < 400:
            dense = M @ np.eye(op.shape[0])
            assert abs(dense - dense.T).max() <= 1e-12 * abs(dense).max()
            k = op.nullspace.shape[1]
            values = np.linalg.eigvalsh((dense + dense.T) / 2)
            assert (values > 1e-9 * values[-1]).sum() == len(values) - k


@pytest.mark.parametrize("n_steps", [1, 2, 3, 4])
@pytest.mark.parametrize("lowest", [0.01, 0.5, 1.5, 1.99])
def test_the_smoother_converges_on_all_eigenvalues(lowest, n_steps):
    x = np.linspace(0, 2, 4001)[1:]
    error = np.prod([1 - step * x for step in CycleWeights((lowest,), n_steps).steps(0)], axis=0)
    assert (abs(error) < 1).all()
    # Chebyshev's are the smallest on the range: all extremes alike.
    assert abs(error[x >= lowest]).max() == pytest.approx(abs(error[-1]), rel=1e-3)


def test_the_cycle_in_torch_is_the_same():
    torch.manual_seed(0)
    for sizes in ((64, 32), (16, 32, 16), (24, 40)):
        rng = np.random.default_rng(1)
        stencils = [
            random_stencil(rng, sizes, kind, contrast) for kind, contrast in zip(KINDS, (0, 1.0, 0, 0))
        ]
        model = LearnedCycle(len(sizes), hidden=5, n_steps=3).double()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.3 * torch.randn_like(parameter)
            domains = pack(stencils)
            b = torch.randn(4, *sizes, dtype=torch.float64) * domains[:, -1]
            z = cycle(model.grids(domains), b).numpy()
        for k, stencil in enumerate(stencils):
            op = GridPoisson.from_stencil(stencil)
            M = MultigridPreconditioner(model.weights(), dtype=np.float64).setup(op)
            expected = op.vector(z[k]) / max(w.max() for w in stencil.weights)
            np.testing.assert_allclose(
                M @ op.vector(b[k].numpy()), expected, atol=1e-12 * abs(expected).max()
            )


def test_it_is_the_same_for_every_unit_of_length_and_coefficient():
    mask = random_stencil(np.random.default_rng(0), (20, 24), "blobs").mask
    coeff = np.exp(np.random.default_rng(1).standard_normal(mask.shape))
    one = GridPoisson(mask, coeff)
    other = GridPoisson(mask, 1e-9 * coeff, spacing=1e3)
    r = np.random.default_rng(2).standard_normal(one.shape[0])
    weights = random_weights(0)
    a, b = (MultigridPreconditioner(weights, dtype=np.float64).setup(op) @ r for op in (one, other))
    np.testing.assert_allclose(b * 1e-15, a, rtol=1e-9, atol=1e-12 * abs(a).max())
    M = MultigridPreconditioner(weights).setup(one)
    for scale in (2.0**-100, 2.0**100):
        np.testing.assert_array_equal(M @ (scale * r) / scale, M @ r)


def test_mirror_images_have_mirror_images():
    mask = random_stencil(np.random.default_rng(3), (24, 18), "porous").mask
    r = np.random.default_rng(4).standard_normal(mask.shape) * mask
    weights = random_weights(5)

    def applied(turn):
        op = GridPoisson(np.ascontiguousarray(turn(mask)))
        return op.field(MultigridPreconditioner(weights, dtype=np.float64).setup(op) @ op.vector(turn(r)))

    plain = applied(lambda a: a)
    for turn in (lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: a.T):
        np.testing.assert_allclose(applied(turn), turn(plain), atol=1e-12 * abs(plain).max())


SOLVERS = {
    "cg": cg,
    "minres": minres,
    "gmres": gmres,
    "bicgstab": bicgstab,
    "lgmres": lgmres,
    "gcrotmk": gcrotmk,
}


@pytest.mark.parametrize("kind", ["classical", "random"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_scipys_solvers_converge_with_it(solver, kind):
    op = problem(7, (48, 40))
    b = np.random.default_rng(0).standard_normal(op.shape[0])
    M = MultigridPreconditioner(None if kind == "classical" else random_weights(1, 0.3)).setup(op)
    # minres stops in another norm, and without M in a residual that it does not recompute.
    rtol = 1e-10 if solver == "minres" else 1e-7
    x, info = SOLVERS[solver](op, b, M=M, rtol=rtol, maxiter=200)
    assert info == 0 and np.linalg.norm(b - op @ x) <= 1e-6 * np.linalg.norm(b)


@pytest.mark.parametrize("ndim, sizes", [(2, (64, 128, 256)), (3, (16, 32, 64))])
def test_iterations_do_not_grow_with_the_grid(ndim, sizes):
    counts = []
    for n in sizes:
        axes = np.meshgrid(*[(np.arange(n) + 0.5) / n] * ndim, indexing="ij")
        mask = sum((a - c) ** 2 for a, c in zip(axes, (0.4, 0.6, 0.5))) > 0.2**2
        op = GridPoisson(mask, spacing=1 / n, bc={"x": ("neumann", "dirichlet"), "y": "neumann"})
        b = np.random.default_rng(0).standard_normal(op.shape[0])
        counts.append(fcg(op, b, M=MultigridPreconditioner().setup(op), rtol=1e-6).iterations)
    assert max(counts) <= 12 and max(counts) - min(counts) <= 2, counts


def test_stretched_cells_are_coarsened_where_they_are_strong():
    op = GridPoisson(np.ones((64, 64), bool), spacing=(1.0, 0.05))
    M = MultigridPreconditioner().setup(op)
    b = np.random.default_rng(0).standard_normal(op.shape[0])
    assert fcg(op, b, M=M, rtol=1e-6).iterations <= 15


def test_solutions_are_those_of_a_direct_solver():
    op = problem(11, (19, 21, 8))
    b = np.random.default_rng(0).standard_normal((op.shape[0], 2))
    result = fcg(op, b, M=MultigridPreconditioner().setup(op), rtol=1e-12)
    exact = spsolve(op.to_csr().tocsc(), b)
    np.testing.assert_allclose(result.x, exact, atol=1e-9 * abs(exact).max())
    assert result.setup_seconds > 0


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_change_nothing(threads, monkeypatch):
    monkeypatch.setattr("solvers.stencil_loops._SMALL", 0)
    monkeypatch.setattr("solvers.transfer._SMALL", 0)
    for sizes in ((33, 20), (17, 18, 19)):
        op = problem(2, sizes)
        r = np.random.default_rng(0).standard_normal(op.shape[0])
        M = MultigridPreconditioner(num_threads=threads).setup(op)
        alone = MultigridPreconditioner(num_threads=1)
        monkeypatch.undo()
        np.testing.assert_array_equal(M @ r, alone.setup(op) @ r)


def test_what_is_not_finite_does_not_stay():
    op = problem(0, (33, 20))
    M = MultigridPreconditioner().setup(op)
    r = np.random.default_rng(0).standard_normal(op.shape[0])
    before = M @ r
    assert np.isnan(M @ (r * np.nan)).all()
    assert not (M @ (0 * r)).any()
    np.testing.assert_array_equal(M @ r, before)


def test_another_mask():
    M = MultigridPreconditioner()
    mask = np.ones((16, 16), bool)
    M.setup(GridPoisson(mask))
    mask[4:8, 4:8] = False
    M.update(mask, spacing=0.1)
    assert M.shape == (240, 240)


def test_wrong_arguments():
    with pytest.raises(TypeError, match=r"works on a GridPoisson, got csr_matrix: .* GridPoisson.from_csr"):
        MultigridPreconditioner().setup(problem(0, (8, 8)).to_csr())
    with pytest.raises(ValueError, match="dtype=<class 'numpy.float16'> should be float32 or float64"):
        MultigridPreconditioner(dtype=np.float16)
    with pytest.raises(ValueError, match=r"lowest=\(2.0,\) should be numbers between 0 and 2"):
        CycleWeights((2.0,))
    with pytest.raises(ValueError, match="n_steps=0 should be at least 1"):
        CycleWeights(n_steps=0)


def test_weights_are_kept(tmp_path):
    op = problem(3, (33, 40))
    r = np.random.default_rng(0).standard_normal(op.shape[0])
    M = MultigridPreconditioner(random_weights(2))
    M.save(tmp_path / "weights.json")
    again = MultigridPreconditioner.load(tmp_path / "weights.json").setup(op)
    np.testing.assert_array_equal(again @ r, M.setup(op) @ r)
    with pytest.raises(FileNotFoundError, match="there is no file .*other.json"):
        MultigridPreconditioner.load(tmp_path / "other.json")
    for text, words in {
        '{"class": "FNO"}': "holds 'FNO', expected weights of a MultigridPreconditioner",
        '{"class": "MultigridPreconditioner"}': "holds no weights .* KeyError, 'layers'",
        "[1": "weights.json",
        (tmp_path / "weights.json")
        .read_text()
        .replace('"n_steps": ', '"n_steps": -'): "n_steps=-.* should be at",
    }.items():
        (tmp_path / "weights.json").write_text(text)
        with pytest.raises(ValueError, match=words):
            MultigridPreconditioner.load(tmp_path / "weights.json")
    with pytest.raises(ValueError, match=r"shapes \[\(2, 5\)\]; expected 12 inputs, 2 outputs"):
        CycleWeights(network=FaceNetwork(((np.zeros((2, 5)), np.zeros(2)),)))


@pytest.mark.parametrize("name, sizes", [("poisson2d", (96, 80)), ("poisson3d", (32, 24, 32))])
def test_pretrained_weights_are_worth_it_on_thin_walls(name, sizes):
    """Domains that no training has seen, fewer iterations in all; classical amid fluid, so alike on a box."""
    counts = {}
    for kind in ("plates", "box"):
        for which in ("pretrained", "classical"):
            M = (
                MultigridPreconditioner.from_pretrained(name)
                if which == "pretrained"
                else MultigridPreconditioner()
            )
            total = 0
            for seed in range(1000, 1006):
                op = GridPoisson.from_stencil(random_stencil(np.random.default_rng(seed), sizes, kind))
                b = np.random.default_rng(seed).standard_normal(op.shape[0])
                total += fcg(op, b, M=M.setup(op), rtol=1e-6).iterations
            counts[kind, which] = total
    assert counts["plates", "pretrained"] <= 0.8 * counts["plates", "classical"], counts
    assert counts["box", "pretrained"] <= 1.1 * counts["box", "classical"], counts


def test_weights_for_other_domains_are_told_and_harmless():
    op = problem(5, (20, 24))
    M = MultigridPreconditioner.from_pretrained("poisson3d", dtype=np.float64)
    with pytest.warns(UserWarning, match="learned on domains of 3 axes, this one has 2"):
        M.setup(op)
    assert check_preconditioner(op, M, tolerance=1e-10).is_spd
    with pytest.raises(ValueError, match="there are no weights 'poisson4d', there are poisson2d, poisson3d"):
        MultigridPreconditioner.from_pretrained("poisson4d")
