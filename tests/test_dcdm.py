"""The Deep Conjugate Direction Method: the published iteration, network and loss, the data, the weights."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from torch.nn import functional

from solvers import DCDMNetwork, DCDMPreconditioner, GridPoisson, fcg, train_dcdm
from solvers.dcdm_data import krylov_residuals, lanczos_fields, mode_fields
from solvers.dcdm_loss import DirectionLoss

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from dcdm import balls
from incomplete_cholesky import IncompleteCholesky


def network(ndim=2, seed=0, **options):
    torch.manual_seed(seed)
    return DCDMNetwork(ndim, **{"width": 4, "pairs": (1, 1, 1), **options})


def right_side(op, seed=1):
    return np.random.default_rng(seed).standard_normal(op.shape[0])


def published(A, b, f, steps):
    """The loop of the paper's code: two products with A in each step, the residual computed anew."""
    x, r = np.zeros_like(b), b.copy()
    before: list[np.ndarray] = []
    iterates = []
    for _ in range(steps):
        q = f(r / np.linalg.norm(r))
        original = q
        for p in before[-2:]:
            q = q - p * (original @ (A @ p)) / (p @ (A @ p))
        x = x + (q @ r) / (q @ (A @ q)) * q
        r = b - A @ x
        before.append(q)
        iterates.append(x)
    return iterates


@pytest.mark.parametrize("trained", [False, True])
def test_fcg_makes_the_iterates_of_the_published_loop_with_half_the_products(trained):
    op = GridPoisson(balls(24, 2))
    if trained:
        M = DCDMPreconditioner.from_pretrained("dcdm2d", dtype="float64")
    else:
        M = DCDMPreconditioner(network(), dtype="float64")
    M.setup(op)
    b = right_side(op)
    ours, products = [], []

    def product(x):
        products.append(1)
        return op @ x

    A = scipy.sparse.linalg.LinearOperator(op.shape, product, dtype=np.float64)
    fcg(A, b, M=M, m=2, rtol=0, maxiter=8, callback=ours.append, fallback=False)
    theirs = published(op, b, M, 8)
    for x, y in zip(ours, theirs, strict=True):
        assert np.linalg.norm(x - y) < 1e-10 * np.linalg.norm(y)
    assert len(products) <= 8 + 2  # two check the residual at the end


@pytest.mark.parametrize("obstacles", [False, True])
def test_the_error_falls_at_every_step_and_faster_than_with_incomplete_cholesky(obstacles):
    mask = balls(32, 3) if obstacles else np.ones((32, 32, 32), bool)
    op = GridPoisson(mask)
    b = right_side(op)
    A = op.to_csr()
    exact = fcg(op, b, M=IncompleteCholesky(A), rtol=1e-11).x
    errors = [np.sqrt(exact @ (op @ exact))]
    M = DCDMPreconditioner.from_pretrained("dcdm3d").setup(op)
    ours = fcg(
        op,
        b,
        M=M,
        m=2,
        rtol=1e-4,
        callback=lambda x: errors.append(np.sqrt((x - exact) @ (op @ (x - exact)))),
    )
    theirs = fcg(op, b, M=IncompleteCholesky(A), rtol=1e-4)
    assert ours.converged and theirs.converged
    assert "went on" not in ours.reason
    assert (np.diff(errors) < 0).all()
    assert ours.iterations < theirs.iterations


def test_gcrotmk_converges_and_solvers_for_linear_preconditioners_are_warned_of():
    op = GridPoisson(balls(40, 2))
    b = right_side(op)
    M = DCDMPreconditioner.from_pretrained("dcdm2d").setup(op)
    x, info = scipy.sparse.linalg.gcrotmk(op, b, M=M, rtol=1e-6)
    assert info == 0 and np.linalg.norm(b - op @ x) <= 1e-6 * np.linalg.norm(b)
    fcg(op, b, M=M, m=2, maxiter=2)
    message = r"scipy's {} assumes a linear .*fcg\(A, b, M=M, m=2\).*gcrotmk"
    for name in ("cg", "minres", "gmres"):
        M.setup(op)
        with pytest.warns(UserWarning, match=message.format(name)) as caught:
            getattr(scipy.sparse.linalg, name)(op, b, M=M, maxiter=3)
        assert len(caught) == 1  # at the first call only


def test_the_preconditioner_is_positively_homogeneous_and_knows_zero():
    op = GridPoisson(balls(20, 2))
    M = DCDMPreconditioner(network(), dtype="float64").setup(op)
    r = right_side(op)
    np.testing.assert_allclose(M @ (3e5 * r), 3e5 * (M @ r), rtol=1e-10)
    assert not (M @ np.zeros(op.shape[0], np.int8)).any()
    assert np.isnan(M @ np.full(op.shape[0], np.nan)).all()
    assert M.matvec(r.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("levels", [1, 2, None])
@pytest.mark.parametrize("sizes", [(17, 31), (62, 72), (8, 8), (1, 9), (5, 6, 7), (1, 12, 9)])
def test_odd_sizes_are_padded_with_zeros(sizes, levels):
    op = GridPoisson(np.ones(sizes, bool))
    M = DCDMPreconditioner(network(len(sizes), levels=levels), dtype="float64").setup(op)
    r = right_side(op)
    deep = M.network.levels_on(sizes)
    unit = 2**deep
    padded = np.zeros([-(-size // unit) * unit for size in sizes])
    padded[tuple(slice(size) for size in sizes)] = (r / np.linalg.norm(r)).reshape(sizes)
    with torch.no_grad():
        z = M.network(torch.from_numpy(padded)[None, None], deep)[0, 0].numpy()
    z = z[tuple(slice(size) for size in sizes)].ravel() * np.linalg.norm(r)
    np.testing.assert_allclose(M @ r, z, atol=1e-12)


def test_obstacles_are_zeros_and_singular_systems_are_projected():
    mask = balls(24, 2)
    op = GridPoisson(mask, bc="neumann")
    M = DCDMPreconditioner(network(), dtype="float64").setup(op)
    b = op.project(right_side(op))
    assert abs((M @ b).sum()) < 1e-12 * np.abs(M @ b).sum()
    # What the network puts into solid cells does not count, and there it sees nothing.
    seen = op.field(b / np.linalg.norm(b), fill=0.0)
    with torch.no_grad():
        z = M.network(torch.from_numpy(seen)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(M @ b, op.project(op.vector(z) * np.linalg.norm(b)), atol=1e-10)


def test_the_published_network_written_out():
    net = network(2, width=3, pairs=(1, 3, 2)).double()
    state = net.state_dict()
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)

    def conv(name, v):
        return functional.conv2d(v, state[f"{name}.weight"], state[f"{name}.bias"], padding="same")

    def pairs(name, v, count):
        for k in range(count):
            v = conv(f"{name}.{k}.second", conv(f"{name}.{k}.first", v).relu()).relu() + v
        return v

    la = conv("second", conv("first", x)).relu()
    lb = conv("turn.0", pairs("down.0", la, 1)).relu()
    apa = pairs("coarsest", lb.unfold(2, 2, 2).unfold(3, 2, 2).mean((4, 5)), 3)
    up = apa.repeat_interleave(2, 2).repeat_interleave(2, 3) + lb
    torch.testing.assert_close(net(x), conv("last", pairs("up.0", up, 2)))


def test_published_sizes_and_what_the_additions_are_for():
    assert sum(p.numel() for p in DCDMNetwork(3).parameters()) == 97457  # the network for 64^3
    assert sum(p.numel() for p in DCDMNetwork(3, pairs=(2, 5, 3)).parameters()) == 152881  # for 128^3
    x = torch.randn(2, 1, 16, 16)
    homogeneous = network(bias=False, smooth=True)
    torch.testing.assert_close(homogeneous(7 * x), 7 * homogeneous(x))
    odd = network(odd=True)
    torch.testing.assert_close(odd(-x), -odd(x))
    shared = network(levels=None)
    assert [shared.levels_on((n, n)) for n in (4, 16, 32, 33, 64, 128)] == [1, 2, 3, 3, 4, 5]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"ndim": 1}, "ndim=1"),
        ({"width": 0}, "width=0"),
        ({"levels": 0}, "levels=0"),
        ({"pairs": (1, 2)}, "pairs"),
    ],
)
def test_networks_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        network(**options)


def test_grids_that_do_not_fit():
    with pytest.raises(ValueError, match="multiples of 2: pad"):
        network()(torch.zeros(1, 1, 7, 8))
    with pytest.raises(ValueError, match="2 axes"):
        network()(torch.zeros(1, 1, 8, 8, 8))
    with pytest.raises(ValueError, match="3 axes, the network is for 2"):
        DCDMPreconditioner(network()).setup(GridPoisson(np.ones((4, 4, 4), bool)))
    with pytest.raises(TypeError, match="from_csr"):
        DCDMPreconditioner(network()).setup(scipy.sparse.eye_array(4))
    with pytest.raises(ValueError, match="float32 or float64"):
        DCDMPreconditioner(network(), dtype="float16")


@pytest.mark.parametrize("bc", ["dirichlet", "neumann", {"x": "periodic", "y": ("neumann", "dirichlet")}])
def test_the_product_of_the_loss_is_that_of_the_operator(bc):
    rng = np.random.default_rng(0)
    mask = balls(12, 2)
    op = GridPoisson(mask, np.exp(rng.standard_normal(mask.shape)), spacing=(0.1, 0.2), bc=bc)
    loss = DirectionLoss(op).double()
    x = rng.standard_normal(op.shape[0])
    product = op.vector(loss.product(torch.from_numpy(op.field(x))).numpy()) * op.stencil.diagonal.max()
    np.testing.assert_allclose(product, op @ x, rtol=1e-5, atol=1e-5 * np.abs(op @ x).max())


def test_the_loss_is_the_residual_after_the_best_step_whatever_the_scale():
    op = GridPoisson(np.ones((6, 7), bool))
    loss = DirectionLoss(op).double()
    f, b = torch.randn(2, 3, 1, 6, 7, dtype=torch.float64).unbind()
    A = op.to_csr()
    expected = []
    for q, r in zip(f.reshape(3, -1).numpy(), b.reshape(3, -1).numpy()):
        expected.append(np.sum((r - (q @ r) / (q @ (A @ q)) * (A @ q)) ** 2))
    assert float(loss(f, b)) == pytest.approx(np.mean(expected), rel=1e-6)
    assert float(loss(-1e-3 * f, b)) == pytest.approx(np.mean(expected), rel=1e-6)
    f.requires_grad_()
    assert torch.autograd.gradcheck(loss, (f, b))


@pytest.mark.parametrize("bc", ["dirichlet", {"x": "periodic", "y": ("neumann", "dirichlet")}])
def test_sampled_fields_have_the_spectrum_of_those_of_lanczos(bc):
    op = GridPoisson(np.ones((24, 20), bool), bc=bc)
    values, vectors = np.linalg.eigh(op.to_csr().toarray())
    energies = []
    for fields in (mode_fields(op, 200, vectors=60), lanczos_fields(op, 200, vectors=60, per_start=20)):
        flat = fields.reshape(200, -1)
        np.testing.assert_allclose(np.linalg.norm(flat, axis=1), 1, rtol=1e-5)
        share = np.mean((flat @ vectors) ** 2, axis=0)
        energies.append(
            [share[values <= limit].sum() for limit in np.quantile(values, np.linspace(0, 1, 12))]
        )
    np.testing.assert_allclose(*energies, atol=0.05)


def test_all_modes_are_drawn_and_the_low_ones_more():
    op = GridPoisson(np.ones((9, 8), bool))
    values, vectors = np.linalg.eigh(op.to_csr().toarray())
    # Of two pieces the lower is nine times as strong.
    strength = np.sqrt(np.mean((mode_fields(op, 400, vectors=2).reshape(400, -1) @ vectors) ** 2, axis=0))
    low = values < (values[0] + values[-1]) / 2 - 1e-9
    high = values > (values[0] + values[-1]) / 2 + 1e-9
    ratio = np.sqrt((strength[low] ** 2).sum() / (strength[high] ** 2).sum())
    assert ratio == pytest.approx(9, rel=0.05)


def test_data_need_what_they_say():
    with pytest.raises(ValueError, match="lanczos_fields"):
        mode_fields(GridPoisson(balls(16, 2)), 1)
    with pytest.raises(ValueError, match="vectors=1"):
        lanczos_fields(GridPoisson(balls(16, 2)), 1, vectors=1)
    with pytest.raises(ValueError, match="modes or lanczos"):
        train_dcdm(network(), GridPoisson(np.ones((8, 8), bool)), data="ritz")


def test_recorded_residuals_are_those_of_the_method():
    op = GridPoisson(balls(12, 2))
    start = op.field(right_side(op))
    M = DCDMPreconditioner(network()).setup(op)
    found = list(krylov_residuals(op, start[None], M=M, steps=3))
    iterates = published(op, right_side(op), M, 3)
    for r, x in zip(found, iterates, strict=True):
        expected = op.field(right_side(op) - op @ x)
        np.testing.assert_allclose(r, expected / np.linalg.norm(expected), atol=1e-4)


def test_training_lessens_the_loss_and_the_iterations():
    op = GridPoisson(np.ones((16, 16), bool))
    net = network(width=8, levels=None, bias=False, smooth=True)
    b = right_side(op)
    before = fcg(op, b, rtol=1e-4, m=2).iterations
    M = train_dcdm(net, op, samples=64, rounds=2, seconds=3.0)
    assert M.trained["ends"] == [["dirichlet"] * 2] * 2 and M.trained["loss"] < 0.5
    after = fcg(op, b, rtol=1e-4, M=M, m=2, fallback=False)
    assert after.converged and after.iterations < before


def test_saved_and_loaded_it_does_the_same(tmp_path):
    op = GridPoisson(balls(16, 2))
    M = DCDMPreconditioner(network(levels=None, odd=True), trained={"loss": 0.5}).setup(op)
    M.save(tmp_path)
    again = DCDMPreconditioner.load(tmp_path).setup(op)
    np.testing.assert_array_equal(again @ right_side(op), M @ right_side(op))
    assert again.trained == {"loss": 0.5}
    M.save(tmp_path, half=True)
    rounded = DCDMPreconditioner.load(tmp_path).setup(op)
    np.testing.assert_allclose(rounded @ right_side(op), M @ right_side(op), rtol=0.1, atol=0.02)


def test_wrong_weights_are_named(tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    DCDMPreconditioner(network(width=3)).save(small)
    DCDMPreconditioner(network(width=4)).save(large)
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        DCDMPreconditioner.load(tmp_path)
    (large / "model.safetensors").replace(small / "model.safetensors")
    with pytest.raises(ValueError, match=r"expected coarsest.*shape \(3,.*found \(4,"):
        DCDMPreconditioner.load(small)
    (small / "config.json").write_text('{"class": "FNO", "config": {}}')
    with pytest.raises(ValueError, match="'FNO', expected a \"DCDMPreconditioner\""):
        DCDMPreconditioner.load(small)
    (small / "config.json").write_text('{"class": "DCDMPreconditioner", "network": {"ndim": 5}}')
    with pytest.raises(ValueError, match="ndim=5"):
        DCDMPreconditioner.load(small)
    DCDMPreconditioner(network(width=4)).save(large)
    (large / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="truncated"):
        DCDMPreconditioner.load(large)
    with pytest.raises(ValueError, match="no weights 'dcdm4d', there are dcdm2d, dcdm3d"):
        DCDMPreconditioner.from_pretrained("dcdm4d")


def test_other_faces_than_those_of_the_training_are_warned_of():
    M = DCDMPreconditioner.from_pretrained("dcdm2d")
    with pytest.warns(UserWarning, match="trained on a box with faces .*dirichlet.* train_dcdm"):
        M.setup(GridPoisson(np.ones((16, 16), bool), bc="neumann"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        M.setup(GridPoisson(balls(16, 2), obstacles="dirichlet"))


def test_the_weights_are_small():
    files = (Path(sys.modules["solvers.dcdm"].__file__).parent / "pretrained").glob("dcdm*/*")
    assert sum(file.stat().st_size for file in files) < 1.2e6
