"""The LocalNO: translations, one operator on every grid, branches, derivatives, export, errors."""

import json

import pytest
import torch
from torch.nn import functional as F

from opflow import LocalNO, build, export
from opflow.kernels.fno_layer import fno_layer_reference
from opflow.nn import local_block
from opflow.nn.local_integral import IntegralConv

SMALL = dict(n_modes=(4, 4), in_channels=2, out_channels=1, hidden_channels=6, n_layers=2)


def small(seed=0, **options):
    torch.manual_seed(seed)
    return LocalNO(**{**SMALL, **options})


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("grid", [(16,), (9, 14), (12, 12), (6, 7, 8)])
def test_commutes_with_circular_shifts_without_embedding(grid, dtype, tolerance):
    model = small(n_modes=(4,) * len(grid), positional_embedding=None).to(dtype)
    x = torch.randn(2, 2, *grid, dtype=dtype)
    shifts, axes = tuple(range(1, len(grid) + 1)), tuple(range(2, len(grid) + 2))
    a, b = model(x.roll(shifts, axes)), model(x).roll(shifts, axes)
    assert (a - b).norm() <= tolerance * b.norm()


def test_bounded_axes_and_the_embedding_break_that_symmetry():
    x = torch.randn(2, 2, 8, 10)
    mixed = small(positional_embedding=None, periodic=(True, False), spectral_layers=False)
    assert (mixed(x.roll(3, 2)) - mixed(x).roll(3, 2)).abs().max() < 1e-6
    assert (mixed(x.roll(3, 3)) - mixed(x).roll(3, 3)).abs().max() > 1e-3
    assert (small()(x.roll(3, 2)) - small()(x).roll(3, 2)).abs().max() > 1e-3


@pytest.mark.parametrize("periodic", [True, (True, False)])
def test_refining_the_grid_converges_to_one_operator(periodic):
    """Faster than at first order, on cells of any shape."""
    bounded = periodic is not True
    options = dict(periodic=periodic, domain_length=(1.0, 2.0), spectral_layers=not bounded)
    model = small(**options, fin_diff_kernel_size=3, radius_cutoff=0.2).double()
    values = []
    for n in (16, 32, 64, 128):
        x = torch.arange(n, dtype=torch.float64)[:, None] / n
        y = torch.arange(3 * n // 2 + bounded, dtype=torch.float64) / (3 * n // 2)
        u = torch.stack([torch.sin(2 * torch.pi * (x + y)), torch.cos(2 * torch.pi * (2 * y - x) + 1)])
        values.append(model(0.5 * u[None])[0, 0, :: n // 16, :: n // 16])
    change = [((a - b).norm() / b.norm()).item() for a, b in zip(values, values[1:])]
    assert change[2] < 0.02 and change[1] < change[0] / 2.3 and change[2] < change[1] / 2.3, change


def test_local_kernels_see_what_the_modes_do_not():
    """A wave beyond all modes: an FNO's K gives nothing of it, D and I answer."""
    x = torch.cos(2 * torch.pi * 9 * torch.arange(32) / 32).view(1, 1, 32, 1).expand(1, 2, 32, 32)
    for branch in ("diff_layers", "disco_layers"):
        options = {"diff_layers": False, "disco_layers": False, branch: True}
        block = small(**options).blocks[0]
        u = x.repeat(1, 3, 1, 1)
        assert block.conv(u).sub(block.conv.bias.view(-1, 1, 1)).abs().max() < 1e-5
        assert block.local(u).abs().max() > 0.01


COMBINATIONS = [
    {},
    {"spectral_layers": False},
    {"diff_layers": False},
    {"disco_layers": False},
    {"diff_layers": False, "disco_layers": False},
    {"spectral_layers": [True, False], "diff_layers": [False, True], "disco_layers": [True, False]},
    {"disco_basis": "morlet", "disco_kernel_shape": (2, 3), "periodic": False},
    {"disco_basis": "zernike", "disco_kernel_shape": (3,), "fin_diff_kernel_size": 5},
    {"radius_cutoff": 0.45, "periodic": (False, True), "domain_length": (1.0, 3.0)},
]


@pytest.mark.parametrize("options", COMBINATIONS, ids=str)
def test_every_combination_trains_every_parameter_and_rebuilds(options):
    model = small(**options)
    x = torch.randn(2, 2, 9, 8)
    y = model(x)
    assert y.shape == (2, 1, 9, 8)
    y.square().sum().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still
    kernels = [p.grad.abs() for b in model.blocks if b.local for p in b.local.parameters()]
    assert all((k > 1e-7 * k.max()).all() for k in kernels)
    again = build("LocalNO", **json.loads(json.dumps(model.config)))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), model(x))


@pytest.mark.parametrize("options", COMBINATIONS[:6], ids=str)
def test_the_fused_layer_is_the_plain_one(options, monkeypatch):
    model, plain = small(**options), small(**options).double()
    monkeypatch.setattr(local_block, "fno_layer", fno_layer_reference)
    expected = plain(torch.ones(1, 2, 9, 10).double().cumsum(2))
    monkeypatch.undo()
    torch.testing.assert_close(
        model(torch.ones(1, 2, 9, 10).cumsum(2)).double(), expected, rtol=1e-5, atol=1e-5
    )
    x = torch.randn(2, 2, 9, 10)
    for block in plain.blocks:
        block.skip.register_forward_hook(lambda *_: None)  # which the fused layer must not pass by
    torch.testing.assert_close(model(x).double(), plain(x.double()), rtol=0, atol=1e-5)
    model(x).square().sum().backward()
    plain(x.double()).square().sum().backward()
    for a, b in zip(model.parameters(), plain.parameters()):
        assert (a.grad - b.grad).norm() <= 1e-5 * b.grad.norm() + 1e-7


def test_derivatives_of_the_whole_model():
    model = small(hidden_channels=3, in_channels=1, n_modes=(2, 3)).double()
    x = torch.randn(1, 1, 5, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, (x,), nondet_tol=1e-10)
    assert torch.autograd.gradgradcheck(model, (x,), nondet_tol=1e-10)


@pytest.mark.parametrize("n_dim", [1, 2, 3])
def test_float32_agrees_with_float64(n_dim):
    model = small(n_modes=(4,) * n_dim, periodic=False).eval()
    x = torch.randn(1, 2, *(9, 12, 7)[:n_dim])
    y32, y64 = model(x), model.double()(x.double())
    assert y64.dtype == torch.float64 and (y32 - y64).norm() <= 1e-5 * y64.norm()


def test_other_output_grids_on_periodic_axes():
    model = small()
    assert model(torch.randn(1, 2, 8, 9), out_grid=(12, 15)).shape == (1, 1, 12, 15)
    with pytest.raises(
        ValueError, match=r"out_grid=\(8, 9\) differs from the grid \(8, 8\) on a bounded axis"
    ):
        small(periodic=(True, False))(torch.randn(1, 2, 8, 8), out_grid=(8, 9))


@pytest.mark.parametrize(
    "options",
    [
        {"n_layers": 1},
        pytest.param({"periodic": (True, False), "disco_layers": [True, False]}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_pt2_agrees_on_other_grids(options, tmp_path):
    model = small(**options).eval()
    model.normalizer.set([1.0, -2.0], [2.0, 0.5], [3.0], [4.0], increment=True)
    export.to_pt2(model, tmp_path / "m.pt2", torch.randn(1, 2, 12, 16))
    exported = export.load_pt2(tmp_path / "m.pt2")
    for batch, *grid in ((1, 9, 32), (3, 17, 12)):
        x = torch.randn(batch, 2, *grid)
        with torch.no_grad():
            torch.testing.assert_close(exported(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_onnx_agrees_on_other_grids(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = small(periodic=(True, False)).eval()
    export.to_onnx(model, tmp_path / "m.onnx", torch.randn(1, 2, 12, 16))
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    for batch, *grid in ((1, 9, 32), (3, 17, 12)):
        x = torch.randn(batch, 2, *grid)
        (y,) = session.run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(y), model.predict(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"periodic": False}, {"n_modes": (4, 4, 4)}], ids=str)
def test_no_graph_breaks(options):
    model = small(**options)
    grid = (12, 10, 9)[: len(model.n_modes)]
    torch._dynamo.reset()
    assert torch._dynamo.explain(model)(torch.randn(2, 2, *grid)).graph_break_count == 0
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled_code_agrees():
    model = small(periodic=(True, False)).eval()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=False)
    for size in ((2, 2, 16, 20), (3, 2, 24, 17)):
        x = torch.randn(size)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-5, atol=1e-5)
    torch._dynamo.reset()


def test_plain_layers_are_those_of_the_fno():
    """Without local kernels the layer is an FNO's: one formula, term by term."""
    block = small(diff_layers=False, disco_layers=False).double().blocks[0]
    u = torch.randn(1, 6, 8, 9, dtype=torch.float64)
    z = F.gelu(block.conv(u) + block.skip(u))
    torch.testing.assert_close(block(u), F.gelu(block.mlp(z) + block.gate(u)))


@pytest.mark.parametrize(
    "options, words",
    [
        ({"n_modes": 8}, r"n_modes=8 needs one number of modes per space axis, such as \(16, 16\)"),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        ({"diff_layers": [True]}, r"diff_layers=\[True\] needs one bool, or one per layer, 2 of them"),
        ({"spectral_layers": 1}, "spectral_layers=1 needs one bool, or one per layer, 2 of them"),
        (
            {"n_modes": (4,), "disco_layers": True},
            r"disco_layers are for two dimensions, and n_modes=\(4,\) has 1",
        ),
        ({"radius_cutoff": 0.6}, "radius_cutoff=0.6 is more than half of the periodic axis of length 1"),
        ({"fin_diff_kernel_size": 2}, "kernel_size=2 must be odd"),
        ({"disco_basis": "haar"}, "disco_basis='haar' is not one of"),
        (
            {"domain_length": (1, 2, 3)},
            "domain_length=.* needs one positive number, or one per space axis, 2",
        ),
        ({"positional_embedding": "sin"}, "positional_embedding='sin' is not one of 'grid', None"),
    ],
)
def test_options_that_do_not_exist_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        small(**options)


@pytest.mark.parametrize(
    "options, radius",
    [
        ({"domain_length": (1.0, 8.0)}, 0.5),
        ({"n_modes": (1, 8)}, 0.5),
        ({"n_modes": (1, 8), "periodic": (False, True)}, 0.5),
        ({"n_modes": (1, 8), "periodic": False}, 1.0),
        ({"n_modes": (8, 8)}, 0.125),
    ],
)
def test_the_default_radius_fits_into_a_periodic_box(options, radius):
    model = LocalNO(**dict(n_modes=(8, 8), in_channels=1, out_channels=1, hidden_channels=4) | options)
    integrals = [m for m in model.modules() if isinstance(m, IntegralConv)]
    assert {integral.support.radius for integral in integrals} == {radius}


def test_inputs_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="LocalNO was built for in_channels=2"):
        small()(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="the input is torch.float64 and the model torch.float32"):
        small()(torch.zeros(1, 2, 8, 8).double())
    with pytest.raises(ValueError, match=r"out_grid=12 needs one size per space axis, 2 of them"):
        small()(torch.zeros(1, 2, 8, 8), out_grid=12)
