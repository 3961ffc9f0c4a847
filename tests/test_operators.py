"""What every operator on grids inherits by its row in `tests/tables.py`."""

import json

import numpy as np
import pytest
import torch

import opflow
from opflow import export, operators
from tests.tables import OPERATORS, POINT_OPERATORS

EVERY = pytest.mark.parametrize("name", OPERATORS)


def close(a, b, tolerance):
    assert a.shape == b.shape
    assert (a - b).norm() <= tolerance * b.norm()


def test_every_operator_has_a_row():
    wrappers = {"NeuralopModel", "Symmetrize"}
    points = {case.name for case in POINT_OPERATORS.values()}
    assert set(OPERATORS) | points | wrappers == set(operators.OPERATORS)


@EVERY
def test_samples_do_not_see_each_other_on_any_grid(name):
    case = OPERATORS[name]
    model = case.build(name).eval()
    for grid in case.grids:
        x = case.field(grid, batch=3)
        with torch.no_grad():
            y = model(x)
            assert y.shape == (3, model.out_channels, *grid)
            for i in range(3):
                close(model(x[i : i + 1]), y[i : i + 1], 1e-5)
        assert y.std() > 1e-3


@EVERY
def test_single_precision_is_rounded_double_precision(name):
    case = OPERATORS[name]
    model = case.build(name).eval()
    for grid in case.grids:
        x = case.field(grid, dtype=torch.float64)
        with torch.no_grad():
            single = model.float()(x.float())
            y = model.double()(x)
        assert single.dtype == torch.float32 and y.dtype == torch.float64
        close(single.double(), y, 2e-5)


@EVERY
def test_autocast_rounds_to_half_precision(name):
    case = OPERATORS[name]
    model = case.build(name)
    x = case.field(case.grids[0])
    exact = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x)
    close(y.to(exact.dtype), exact, 0.1)
    y.abs().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@EVERY
def test_gradients_are_slopes(name):
    """Along one direction of all parameters and the input, against a central difference in float64."""
    case = OPERATORS[name]
    model = case.build(name).double()
    grid = case.grids[-1]
    x = case.field(grid, dtype=torch.float64).requires_grad_()
    weight = torch.randn_like(model(x))
    along = [x, *model.parameters()]
    grads = torch.autograd.grad((model(x) * weight).sum(), along)
    directions = [torch.randn_like(p) for p in along]
    expected = sum((g * d).sum() for g, d in zip(grads, directions))
    values = []
    with torch.no_grad():
        for sign in (1, -2):
            for p, d in zip(along, directions):
                p += sign * 1e-6 * d
            values.append((model(x) * weight).sum())
    slope = (values[0] - values[1]) / 2e-6
    assert abs(slope - expected) <= 1e-5 * abs(expected) + 1e-6


@EVERY
def test_every_parameter_receives_a_gradient(name):
    case = OPERATORS[name]
    model = case.build(name)
    x = case.field(case.grids[1])
    (model(x) * torch.randn(2, model.out_channels, *x.shape[2:])).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@EVERY
def test_the_saved_model_is_the_same_function(name, tmp_path):
    case = OPERATORS[name]
    model = case.build(name).eval()
    assert json.loads(json.dumps(model.config)).keys() == model.config.keys()
    model.save_pretrained(tmp_path / "model")
    again = opflow.load(tmp_path / "model").eval()
    assert type(again) is type(model)
    x = case.field(case.grids[0])
    with torch.no_grad():
        assert torch.equal(again(x), model(x))


@EVERY
def test_the_exported_graph_serves_every_batch_and_grid(name, tmp_path):
    case = OPERATORS[name]
    model = case.build(name).eval()
    export.to_pt2(model, tmp_path / "model.pt2", case.field(case.grids[0]))
    exported = export.load_pt2(tmp_path / "model.pt2")
    grids = case.grids if model.exports_any_grid else case.grids[:1] * 3
    for batch, grid in enumerate(grids, start=1):
        x = case.field(grid, batch)
        with torch.no_grad():
            close(exported(x), model(x), 2e-5)


@EVERY
def test_compiles_as_one_graph(name):
    case = OPERATORS[name]
    model = case.build(name).eval()
    torch._dynamo.reset()
    x = case.field(case.grids[0])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")  # a break would be an error
    y, expected = compiled(x), model(x)
    close(y, expected, 2e-5)
    grads = [torch.autograd.grad(z.square().sum(), list(model.parameters())) for z in (y, expected)]
    scale = max(g.norm() for g in grads[1])
    for a, b in zip(*grads):
        assert (a - b).norm() <= 1e-4 * b.norm() + 1e-5 * scale
    torch._dynamo.reset()


@EVERY
def test_inputs_that_do_not_fit_are_named(name):
    case = OPERATORS[name]
    model = case.build(name)
    with pytest.raises(ValueError, match=rf"{name} was built for in_channels=2, got a tensor of shape"):
        model(torch.zeros(1, 5, *case.grids[0]))
    with pytest.raises(ValueError, match=rf"{name} was built for {len(case.grids[0])} space dimensions"):
        model(torch.zeros(1, 2, 8, 8, 8, 8))


@pytest.mark.parametrize(
    "name, options",
    [
        ("FNO", {"n_modes": np.array([4, 4]), "domain_padding": np.array([0.1, 0.2])}),
        ("GFNO", {"n_modes": np.array([4, 4])}),
        (
            "LocalNO",
            {
                "n_modes": np.array([4, 4]),
                "domain_length": np.array([1.0, 2.0]),
                "periodic": np.array([True, False]),
                "diff_layers": np.array([True, False, True, True]),
                "radius_cutoff": np.float32(0.25),
            },
        ),
        ("LocalSFNO", {"n_modes": np.int64(4), "disco_layers": np.array([True, False, False, True])}),
        ("UNet", {"multipliers": np.array([1, 2])}),
        ("ConvNeXtUNet", {"levels": np.int64(2)}),
        ("PatchTransformer", {"hidden_channels": np.int64(16), "heads": np.int64(2)}),
    ],
)
def test_arguments_of_numpy_are_plain_in_the_file(name, options, tmp_path):
    if name == "LocalSFNO":
        pytest.importorskip("torch_harmonics")
    torch.manual_seed(0)
    model = opflow.build(
        name, **dict(in_channels=1, out_channels=1, hidden_channels=np.int64(8)) | options
    ).eval()
    assert json.loads(json.dumps(model.config)).keys() == model.config.keys()
    model.save_pretrained(tmp_path)
    x = torch.randn(1, 1, 17, 24)
    torch.testing.assert_close(opflow.load(tmp_path)(x), model(x), rtol=0, atol=0)
