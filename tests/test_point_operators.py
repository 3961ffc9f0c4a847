"""What every operator on points inherits by its row in `tests/tables.py`."""

import json

import numpy as np
import pytest
import torch

import opflow
from opflow import export, operators
from tests.cases.point_operators import close, field, points
from tests.tables import POINT_OPERATORS

EVERY = pytest.mark.parametrize("case", POINT_OPERATORS.values(), ids=POINT_OPERATORS)
# A U-Net takes long to trace.
TRACED = pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=pytest.mark.slow if "U-Net" in name else ())
        for name, case in POINT_OPERATORS.items()
    ],
)


def tensor(array):
    return torch.as_tensor(array) if isinstance(array, np.ndarray) else array


def time_of(model):
    return 0.3 if model.timed else None


def test_every_point_operator_has_a_row():
    known = {k for k, v in operators.OPERATORS.items() if issubclass(v, opflow.PointOperator)}
    assert known == {case.name for case in POINT_OPERATORS.values()}


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@EVERY
@torch.no_grad()
def test_the_order_of_the_points_does_not_matter(case, dtype, tolerance):
    model = case.build().to(dtype)
    coords, weights = points(90, dtype=dtype), torch.rand(90, dtype=dtype)
    order, queries = torch.randperm(90), points(20, seed=3, dtype=dtype)
    values = field(coords)
    mixed = (values[:, order], coords[order])
    y = model(values, coords, time=time_of(model), weights=weights)
    assert y.std(1).min() > 1e-2
    close(model(*mixed, time=time_of(model), weights=weights[order]), y[:, order], tolerance)
    y, again = (model(v, c, queries, time_of(model)) for v, c in ((values, coords), mixed))
    close(again, y, tolerance)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("twice", [False, True])
@EVERY
@torch.no_grad()
def test_the_order_of_the_points_of_a_lattice_does_not_matter(case, twice, weighted, dtype, tolerance):
    """Their triangulation is not unique, and the points around a cell are equally far from its centre."""
    model, time = case.build().to(dtype), time_of(case.build())
    axis = torch.linspace(0, 1, 9, dtype=dtype)
    coords = torch.cartesian_prod(axis, axis)
    if twice:  # only values tell points at one place apart: the rounding of their sums depends on the order
        coords, tolerance = torch.cat([coords, coords[::7]]), 3 * tolerance
    order, queries = torch.randperm(len(coords)), torch.cartesian_prod(axis[:-1], axis[:-1]) + 1 / 16
    values = field(coords) + 0.1 * torch.randn(2, len(coords), 2, dtype=dtype)  # also at one place
    weights = torch.rand(len(coords), dtype=dtype) + 0.1
    y, mixed = (
        model(values[:, o], coords[o], time=time, weights=weights[o] if weighted else None)
        for o in (torch.arange(len(coords)), order)
    )
    close(mixed, y[:, order], tolerance)
    for at in (queries, coords):
        y, mixed = (
            model(values[:, o], coords[o], at, time, weights[o] if weighted else None)
            for o in (torch.arange(len(coords)), order)
        )
        close(mixed, y, tolerance)


@EVERY
@torch.no_grad()
def test_a_batch_of_meshes_filled_up_is_its_samples(case):
    model = case.build()
    time = time_of(model)
    sets = [points(n, seed=n) for n in (40, 71, 55)]
    weights = [torch.rand(len(c)) + 0.1 for c in sets]
    single = [model(field(c, 1), c, time=time, weights=w)[0] for c, w in zip(sets, weights)]
    coords = torch.stack([torch.cat([c, c[:1].expand(71 - len(c), 2)]) for c in sets])
    values = torch.nn.utils.rnn.pad_sequence([field(c, 1)[0] for c in sets], batch_first=True)
    filled = torch.nn.utils.rnn.pad_sequence(weights, batch_first=True)
    y = model(values, coords, time=time, weights=filled)
    for i, expected in enumerate(single):
        close(y[i, : len(expected)], expected, 1e-5)


@EVERY
@torch.no_grad()
def test_a_batch_at_queries_is_its_samples_however_few_their_points(case):
    """Three points have fewer neighbours than others, and points at one place have more."""
    model, queries, time = case.build(radius=0.8), points(12, seed=5), time_of(case.build())
    many, few = points(40), points(7)[4:]
    twice = torch.cat([many[:20], many[:20]])
    sets = torch.stack([many, torch.cat([few, few[:1].expand(37, 2)]), twice])
    weights = torch.rand(3, 40) + 0.1
    weights[1, 3:] = 0
    values = field(sets[0], 3)
    y = model(values, sets, queries, time, weights)
    for i, n in enumerate((40, 3, 40)):
        alone = model(values[i : i + 1, :n], sets[i, :n], queries, time, weights[i, :n])
        close(y[i : i + 1], alone, 1e-5)


@EVERY
@torch.no_grad()
def test_a_shared_mesh_is_one_for_each_sample(case):
    model = case.build()
    coords, queries, time = points(60), points(30, seed=5), time_of(model)
    own = coords.expand(3, -1, -1)
    close(model(field(coords, 3), own, time=time), model(field(coords, 3), coords, time=time), 1e-5)
    shared = model(field(coords, 3), coords, queries, time)
    close(model(field(coords, 3), own, queries, time), shared, 1e-5)
    close(model(field(coords, 3), own, queries.expand(3, -1, -1), time), shared, 1e-5)


@EVERY
@torch.no_grad()
def test_queries_at_the_points_are_the_points(case):
    model, coords = case.build(), points(60)
    y = model(field(coords), coords, time=time_of(model))
    close(model(field(coords), coords, coords.clone(), time_of(model)), y, 1e-6)


@EVERY
@torch.no_grad()
def test_single_precision_is_rounded_double_precision(case):
    model, coords = case.build(), points(90, dtype=torch.float64)
    single = model(field(coords).float(), coords.float(), time=time_of(model))
    exact = model.double()(field(coords), coords, time=time_of(model))
    assert single.dtype == torch.float32 and exact.dtype == torch.float64
    close(single.double(), exact, 5e-5)


@pytest.mark.parametrize("batched", [False, True])
@EVERY
def test_autocast_rounds_to_half_precision(case, batched):
    # On axes of one or two nodes, slopes of PyTorch's convolution in bfloat16 are now and then not finite.
    model, coords = case.build(latent=(16, 16)), points(90)
    coords = coords.expand(2, -1, -1) if batched else coords
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = model(field(points(90)), coords, time=time_of(model)).float()
        loss = (y - 1).square().mean()
        slopes = torch.autograd.grad(loss, list(model.parameters()))
        results.append((y.detach(), torch.cat([g.flatten() for g in slopes])))
    (exact, slopes), (y, half) = results
    assert not torch.equal(y, exact)
    close(y, exact, 0.05)
    assert half @ slopes >= 0.9 * half.norm() * slopes.norm()


@EVERY
def test_gradients_are_slopes(case):
    """Along one direction of all parameters and the input, against a central difference in float64."""
    model, coords = case.build().double(), points(40, dtype=torch.float64)
    geometry = model.geometry(coords, query_coords=points(9, 2, 9, torch.float64))
    values = field(coords).requires_grad_()
    along = [values, *model.parameters()]
    into = torch.randn(2, 9, 1, dtype=torch.float64)
    grads = torch.autograd.grad((model(values, geometry, time=time_of(model)) * into).sum(), along)
    assert all(grad.any() for grad in grads), "a parameter without influence"
    directions = [torch.randn_like(p) for p in along]
    expected = sum((g * d).sum() for g, d in zip(grads, directions))
    ends = []
    with torch.no_grad():
        for sign in (1, -2):
            for p, d in zip(along, directions):
                p += sign * 1e-6 * d
            ends.append((model(values, geometry, time=time_of(model)) * into).sum())
    assert abs((ends[0] - ends[1]) / 2e-6 - expected) <= 1e-5 * abs(expected) + 1e-6


@EVERY
def test_the_saved_model_is_the_same_function(case, tmp_path):
    model, coords = case.build(), points(50).double()
    assert json.loads(json.dumps(model.config)).keys() == model.config.keys()
    model.save_pretrained(tmp_path)
    again = opflow.load(tmp_path)
    assert type(again) is type(model)
    assert all(torch.equal(again.state_dict()[name], v) for name, v in model.state_dict().items())
    expected = model.predict(field(coords), coords, time=time_of(model))
    close(again.predict(field(coords).numpy(), coords.numpy(), time=time_of(model)), expected, 1e-5)
    arrays = (coords.numpy(), coords.numpy()[:9], time_of(model), np.ones(50))
    close(again.predict(field(coords), *arrays), model.predict(field(coords), *map(tensor, arrays)), 1e-5)
    close(again.predict(field(coords)[1], coords, time=time_of(model)), expected[1], 1e-5)


@TRACED
def test_exports_with_its_mesh_for_any_batch(case, tmp_path):
    model, coords = case.build(), points(50)
    geometry = model.geometry(coords, query_coords=points(20, seed=3))
    export.to_pt2(model, tmp_path / "model.pt2", field(coords, 1), geometry)
    exported = export.load_pt2(tmp_path / "model.pt2")
    for batch in (1, 5):
        time = (torch.rand(batch),) if model.timed else ()
        with torch.no_grad():
            expected = model(field(coords, batch), geometry, time=time[0] if time else None)
            close(exported(field(coords, batch), *time), expected, 1e-5)


def test_what_cannot_be_exported_is_named(tmp_path):
    model, coords = POINT_OPERATORS["MINO"].build(), points(30)
    with pytest.raises(ValueError, match="MINO works on points: give geometry=model.geometry"):
        export.to_pt2(model, tmp_path / "m.pt2", field(coords))
    with pytest.raises(ValueError, match="export with one set of points"):
        export.to_pt2(model, tmp_path / "m.pt2", field(coords), model.geometry(coords.expand(2, -1, -1)))
    with pytest.raises(ValueError, match="FNO works on grids and takes no geometry"):
        example = torch.zeros(2, 1, 8)
        export.to_pt2(opflow.FNO((4,), 1, 1, 4), tmp_path / "m.pt2", example, model.geometry(coords))


@TRACED
def test_compiles_as_one_graph(case):
    model, coords = case.build(), points(50)
    sets = (coords, coords.expand(2, -1, -1))
    torch._dynamo.reset()
    report = torch._dynamo.explain(model)(field(coords), model.geometry(sets[1]), time=time_of(model))
    assert report.graph_break_count == 0 and report.graph_count == 1
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    y, expected = (m(field(coords), model.geometry(sets[0]), time=time_of(model)) for m in (compiled, model))
    close(y, expected, 1e-5)
    first = next(p for name, p in model.named_parameters() if p.ndim > 1)
    close(*(torch.autograd.grad(z.square().sum(), first)[0] for z in (y, expected)), 1e-4)
    torch._dynamo.reset()


@EVERY
def test_inputs_that_do_not_fit_are_named(case):
    model, coords = case.build(), points(30)
    values, time = field(coords), time_of(model)
    name = case.name
    for inputs, message in (
        ((values[..., :1], coords), rf"{name} was built for in_channels=2 and .* shape \(2, 30, 1\)"),
        ((values, coords[:, :1]), r"coord_dim=2 and takes coords \(point, 2\).* got shape \(30, 1\)"),
        ((values, coords[:20]), r"values of shape \(2, 30, 2\) do not lie at coords of shape \(20, 2\)"),
        ((values, coords.expand(3, -1, -1)), r"do not lie at coords of shape \(3, 30, 2\)"),
        ((values, coords, points(9, 3)), r"query_coords of shape \(9, 3\) do not go with coords"),
        ((values, coords, None, time, torch.ones(7)), r"one number for each point, \(30,\), got \(7,\)"),
        ((values, coords, None, time, -torch.ones(30)), "weights must not be negative, the least is -1"),
        ((values, coords * torch.nan), "coords hold numbers that are not finite"),
        ((values.double(), coords), r"values are torch.float64 and the model torch.float32: convert one"),
        ((values, coords.double()), r"coords are torch.float64 and the model torch.float32: convert one"),
        ((values, coords, coords.double()), "query_coords are torch.float64 and coords torch.float32"),
        ((values, coords.long()), r"coords are torch.int64, expected real numbers: convert with `.float"),
        ((values, model.geometry(coords.double())), r"a geometry with `.to\(device, dtype\)`"),
        ((values.numpy(), coords), "values must be a tensor, got a ndarray: convert it with `torch.as_ten"),
        ((values, coords.numpy()), "coords must be a tensor, got a ndarray: .* `predict`, which takes"),
        ((values, coords, coords.tolist()), "query_coords must be a tensor, got a list"),
        ((values, model.geometry(coords), coords), "a geometry has its query_coords and weights inside"),
    ):
        with pytest.raises(ValueError, match=message):
            model(*inputs)
    if model.timed:
        with pytest.raises(ValueError, match=f"this {name} was built with time=True: give time"):
            model(values, coords)
        with pytest.raises(ValueError, match="one number, or one for each of 2 samples, got"):
            model(values, coords, time=torch.zeros(3))
    else:
        with pytest.raises(ValueError, match=f"this {name} was built with time=False and takes no time"):
            model(values, coords, time=0.1)
