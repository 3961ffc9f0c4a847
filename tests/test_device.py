"""The multigrid cycle on a device of torch: that of the compiled kernels, for tensors and for SciPy."""

import numpy as np
import pytest
import torch
from scipy.sparse.linalg import cg

from solvers import GridPoisson, MultigridPreconditioner, check_preconditioner, fcg
from solvers.domains import random_stencil

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")),
]
CASES = {
    "line": ((40,), {}),
    "odd": ((33, 20), {"x": ("neumann", "dirichlet")}),
    "periodic": ((31, 18), {"x": "periodic", "y": "neumann"}),
    "torus": ((16, 24, 9), "periodic"),
    "stretched": ((24, 40), {"y": "neumann"}),
    "narrow": ((1, 50), "dirichlet"),
    "cube": ((17, 18, 19), {"z": "neumann"}),
    "flat": ((30, 1, 20), "neumann"),
}


def problem(name, seed=0):
    sizes, bc = CASES[name]
    rng = np.random.default_rng(seed)
    mask = random_stencil(rng, sizes, "porous").mask
    mask.flat[0] = True  # alone, perhaps: a part of the fluid of its own
    spacing = (1.0, 0.1) if name == "stretched" else 0.3
    return GridPoisson(mask, np.exp(rng.standard_normal(sizes)), spacing=spacing, bc=bc)


def weights(op):
    ndim = op.mask.ndim
    return MultigridPreconditioner.from_pretrained(f"poisson{ndim}d").weights if ndim > 1 else None


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_it_is_the_cycle_of_the_compiled_kernels(name, device):
    op = problem(name)
    r = np.random.default_rng(1).standard_normal(op.shape[0])
    for dtype, tolerance in ((np.float64, 1e-11), (np.float32, 1e-5)):
        M, compiled = (
            MultigridPreconditioner(weights(op), dtype=dtype, device=d).setup(op) for d in (device, None)
        )
        assert M.levels == compiled.levels
        expected = compiled @ r
        np.testing.assert_allclose(M @ r, expected, atol=tolerance * abs(expected).max())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", CASES)
def test_it_is_symmetric_positive_definite(name, device):
    op = problem(name, seed=3)
    M = MultigridPreconditioner(weights(op), dtype=np.float64, device=device).setup(op)
    report = check_preconditioner(op, M, tolerance=1e-10)
    assert report.is_spd, f"\n{report}"
    if op.shape[0] < 1000:
        dense = M @ np.eye(op.shape[0])
        assert abs(dense - dense.T).max() <= 1e-12 * abs(dense).max()


@pytest.mark.parametrize("device", DEVICES)
def test_tensors_stay_where_they_are_and_keep_their_type(device):
    op = problem("periodic")
    M = MultigridPreconditioner(device=device).setup(op)
    columns = np.random.default_rng(2).standard_normal((op.shape[0], 3))
    expected = M @ columns
    for dtype in (torch.float32, torch.float64):
        r = torch.from_numpy(columns).to(device, dtype)
        z = M.apply(r)
        assert z.device == r.device and z.dtype == dtype and z.shape == r.shape
        np.testing.assert_allclose(z.cpu(), expected, atol=1e-5 * abs(expected).max())
        np.testing.assert_allclose(M.apply(r[:, 0]).cpu(), z[:, 0].cpu(), atol=1e-5 * abs(expected).max())
    columns.flags.writeable = False
    np.testing.assert_array_equal(M @ np.asfortranarray(columns), expected)
    np.testing.assert_array_equal(M @ columns, expected)
    np.testing.assert_allclose(M @ (1j * columns), 1j * expected)


@pytest.mark.parametrize("device", DEVICES)
def test_every_size_of_vector_and_what_is_not_finite(device):
    op = problem("odd")
    M = MultigridPreconditioner(device=device).setup(op)
    r = np.random.default_rng(3).standard_normal(op.shape[0])
    for scale in (2.0**-100, 2.0**100, 2.0**-1000):
        np.testing.assert_array_equal(M @ (scale * r) / scale, M @ r)
    for scale in (2.0**-100, 2.0**125):
        single = (scale * r).astype(np.float32)
        np.testing.assert_allclose((M @ single) / scale, M @ r, rtol=1e-4, atol=1e-5 * abs(M @ r).max())
    columns = M @ np.stack([r, r * np.nan, 0 * r, np.where(r > 2, np.inf, r)], 1)
    np.testing.assert_allclose(columns[:, 0], M @ r, atol=1e-5 * abs(M @ r).max())
    assert np.isnan(columns[:, 1]).all() and not columns[:, 2].any() and np.isnan(columns[:, 3]).any()


@pytest.mark.parametrize("device", DEVICES)
def test_conjugate_gradients_take_the_same_steps(device):
    op = problem("cube")
    b = np.random.default_rng(4).standard_normal(op.shape[0])
    M, compiled = (
        MultigridPreconditioner.from_pretrained("poisson3d", device=d).setup(op) for d in (device, None)
    )
    x, info = cg(op, b, M=M, rtol=1e-6)
    assert info == 0 and np.linalg.norm(b - op @ x) <= 1e-6 * np.linalg.norm(b)
    found, expected = (fcg(op, b, M=m, rtol=1e-6) for m in (M, compiled))
    assert found.converged and found.iterations == expected.iterations


def test_devices_that_are_not_there_and_tensors_without_a_device():
    with pytest.raises(ValueError, match="device='abacus' cannot be used here, take device=None"):
        MultigridPreconditioner(device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="device='cuda' cannot be used here"):
            MultigridPreconditioner(device="cuda")
    op = problem("odd")
    with pytest.raises(TypeError, match=r'got a tensor on cpu: .* MultigridPreconditioner\(device="cpu"\)'):
        MultigridPreconditioner().setup(op).apply(torch.ones(op.shape[0]))
