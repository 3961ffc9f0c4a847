"""MINO: what must not change its output, against definitions, and the published weights."""

import json

import numpy as np
import pytest
import torch

import opflow
from opflow import MINO, export
from opflow.nn import point_decoder, point_graph
from opflow.nn.position_code import position_code
from tests.test_points import scattered

SMALL = {"hidden_channels": 16, "radius": 0.35, "latent": (5, 4), "n_layers": 2}


def built(in_channels=2, out_channels=1, **options):
    """A small model at a generic point of its parameters: some of them start from zero."""
    torch.manual_seed(0)
    model = MINO(in_channels, out_channels, **(SMALL | options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    model.normalizer.set([0.3] * in_channels, [2.0] * in_channels, [1.0] * out_channels, [3.0] * out_channels)
    return model.eval()


def points(n, d=2, seed=0, dtype=torch.float32):
    return torch.tensor(scattered(n, d, seed), dtype=dtype)


def field(coords, batch=2):
    """Smooth fields, two channels, another phase in each sample."""
    phase = torch.arange(batch, dtype=coords.dtype)[:, None]
    s = coords.sum(-1)
    return torch.stack([torch.sin(4 * s + phase), torch.cos(3 * s - phase)], -1)


def close(a, b, tolerance):
    assert a.shape == b.shape
    assert (a - b).norm() <= tolerance * b.norm()


@pytest.mark.parametrize("processor", ["transformer", "unet"])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@torch.no_grad()
def test_the_order_of_the_points_does_not_matter(processor, dtype, tolerance):
    model = built(processor=processor).to(dtype)
    coords, weights = points(90, dtype=dtype), torch.rand(90, dtype=dtype)
    order = torch.randperm(90)
    values = field(coords)
    y = model(values, coords, weights=weights)
    assert y.std(1).min() > 1e-2
    close(model(values[:, order], coords[order], weights=weights[order]), y[:, order], tolerance)


@torch.no_grad()
def test_the_density_of_the_points_does_not_matter_with_quadrature():
    """Twice as many points in the left half: the mean over neighbours moves, the quadrature hardly."""
    even = points(1500, dtype=torch.float64)
    more = torch.rand(750, 2, dtype=torch.float64) * torch.tensor([0.5, 1.0], dtype=torch.float64)
    dense = torch.cat([even, more])
    queries = points(50, seed=7, dtype=torch.float64)
    moved = {}
    for reduction in ("quadrature", "mean"):
        model = built(reduction=reduction).double()
        before, after = (model(field(c), c, queries) for c in (even, dense))
        # The output without its mean, which hides changes.
        moved[reduction] = ((after - before).norm() / (before - before.mean(1, keepdim=True)).norm()).item()
    assert moved["quadrature"] <= 0.02 and moved["quadrature"] < moved["mean"] / 2, moved


@torch.no_grad()
def test_given_weights_count_and_their_unit_does_not_matter_for_the_mean():
    model = built(reduction="mean")
    coords = points(70)
    y = model(field(coords), coords)
    close(model(field(coords), coords, weights=torch.rand(70) + 0.1), y, 1e-6)
    model = built()
    exact, other = (
        model(field(coords), coords, weights=w) for w in (torch.full((70,), 1 / 70), torch.rand(70))
    )
    assert (other - exact).norm() > 1e-2 * exact.norm()


@pytest.mark.parametrize("options", [{}, {"processor": "unet"}, {"decoder_layers": 2}, {"reduction": "mean"}])
@torch.no_grad()
def test_a_batch_of_meshes_filled_up_is_its_samples(options):
    model = built(**options)
    sets = [points(n, seed=n) for n in (40, 71, 55)]
    weights = [torch.rand(len(c)) + 0.1 for c in sets]
    single = [model(field(c, 1), c, weights=w)[0] for c, w in zip(sets, weights)]
    coords = torch.stack([torch.cat([c, c[:1].expand(71 - len(c), 2)]) for c in sets])
    values = torch.nn.utils.rnn.pad_sequence([field(c, 1)[0] for c in sets], batch_first=True)
    filled = torch.nn.utils.rnn.pad_sequence(weights, batch_first=True)
    y = model(values, coords, weights=filled)
    for i, expected in enumerate(single):
        close(y[i, : len(expected)], expected, 1e-5)


@torch.no_grad()
def test_a_shared_mesh_is_one_for_each_sample():
    model = built(decoder_layers=2)
    coords, queries = points(60), points(30, seed=5)
    for q in (None, queries):
        shared = model(field(coords, 3), coords, q)
        own = model(field(coords, 3), coords.expand(3, -1, -1), None if q is None else q.expand(3, -1, -1))
        close(own, shared, 1e-5)
    close(model(field(coords, 3), coords.expand(3, -1, -1), queries), shared, 1e-5)


@torch.no_grad()
def test_chunks_of_queries_change_nothing(monkeypatch):
    coords = points(60)
    for layers in (1, 2):
        model = built(decoder_layers=layers, time=True)
        whole = model(field(coords), coords, points(45, seed=2), time=0.4)
        monkeypatch.setattr(point_decoder, "_CHUNK", 14)
        close(model(field(coords), coords, points(45, seed=2), time=0.4), whole, 1e-5)
        monkeypatch.undo()


@torch.no_grad()
def test_queries_at_the_points_are_the_points():
    model = built()
    coords = points(60)
    close(model(field(coords), coords, coords.clone()), model(field(coords), coords), 1e-6)


@torch.no_grad()
def test_neighbours_are_searched_once(monkeypatch):
    model = built()
    searches = []
    search = point_graph.neighbours
    monkeypatch.setattr(point_graph, "neighbours", lambda *a: searches.append(1) or search(*a))
    coords, other = points(60), points(60, seed=1)
    first = model(field(coords), coords)
    assert torch.equal(model(field(coords), coords.clone()), first) and len(searches) == 1
    geometry = model.geometry(coords)
    assert torch.equal(model(field(coords), geometry), first) and len(searches) == 1
    both = model(field(coords), torch.stack([other, coords]))
    assert len(searches) == 2
    close(both[1], first[1], 1e-5)
    coords[3] += 0.1  # in place: the same tensor, another mesh
    assert not torch.equal(model(field(coords), coords), first) and len(searches) == 3
    close(built()(field(coords), coords), model(field(coords), coords), 1e-6)


@torch.no_grad()
def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(point_graph, "_MOST_KEPT", 20_000)
    model = built()
    for seed in range(12):
        coords = points(60, seed=seed)
        y = model(field(coords), coords)
    kept = model._graph._kept
    assert 0 < len(kept) < 12
    assert sum(part.nbytes for parts in kept.values() for part in parts) <= 20_000
    monkeypatch.setattr(point_graph, "_MOST_KEPT", 0)
    assert torch.equal(model(field(coords), coords), y)


@torch.no_grad()
def test_nodes_without_points_are_as_if_they_were_not_there():
    model = built().double()
    coords = points(200, dtype=torch.float64)
    coords = coords[(coords - torch.tensor([0.0, 0.0])).norm(dim=1) > 0.7]  # a corner of the box is empty
    values, geometry = field(coords), model.geometry(coords)
    there = geometry.coverage > 0
    assert 0 < there.sum() < len(there)
    code, nodes = position_code(coords, 16), torch.tensor(model._graph.nodes)
    normalized = model.normalizer.normalize(values.mT).mT
    tokens = model.encoder(normalized, geometry, code, position_code(nodes, 16))[:, there]
    h = tokens
    for block in model.blocks:
        h = block(h, block.keys(tokens, None), None)
    y = model.decoder(h, normalized, code, None, None, None)
    close(model(values, geometry), 3 * y + 1, 1e-10)


@torch.no_grad()
def test_units_of_length_do_not_matter():
    coords = points(80, dtype=torch.float64)
    y = built().double()(field(coords), coords)
    moved = built(domain=((2.0, 6.0), (-1.0, 3.0)), radius=4 * SMALL["radius"]).double()
    close(moved(field(coords), 4 * coords + torch.tensor([2.0, -1.0])), y, 1e-10)


@torch.no_grad()
def test_time_conditions_every_sample_by_itself():
    model = built(time=True)
    coords = points(50)
    y = model(field(coords), coords, time=torch.tensor([0.1, 0.7]))
    for i, t in enumerate((0.1, 0.7)):
        close(model(field(coords), coords, time=t)[i], y[i], 1e-6)
    assert (model(field(coords), coords, time=0.1) - y)[1].norm() > 1e-2 * y[1].norm()
    with pytest.raises(ValueError, match="built with time=True: give time"):
        model(field(coords), coords)
    with pytest.raises(ValueError, match="one number, or one for each of 2 samples, got"):
        model(field(coords), coords, time=torch.zeros(3))
    with pytest.raises(ValueError, match="built with time=False and takes no time"):
        built()(field(coords), coords, time=0.1)


@pytest.mark.parametrize("processor", ["transformer", "unet"])
@pytest.mark.parametrize("latent", [(7,), (4, 5), (3, 4, 3)])
def test_any_dimension_and_every_parameter_learns(latent, processor):
    d = len(latent)
    model = built(coord_dim=d, latent=latent, radius=0.6, processor=processor, time=True)
    coords = points(40, d)
    y = model(torch.randn(1, 40, 2), coords, points(11, d, seed=1), time=0.5)
    assert y.shape == (1, 11, 1)
    (y * torch.randn_like(y)).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("time", [None, 0.3])
def test_gradients(time):
    model = built(hidden_channels=8, n_heads=2, n_layers=1, latent=(3, 3), time=time is not None).double()
    coords = points(7, dtype=torch.float64)
    geometry = model.geometry(coords, torch.rand(7, dtype=torch.float64), points(5, 2, 9, torch.float64))
    values = torch.randn(2, 7, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: model(v, geometry, time=time), values)
    names, parameters = zip(*model.named_parameters())
    parameters = [p.detach().clone().requires_grad_() for p in parameters]

    def loss(*given):
        inputs = (values.detach(), geometry)
        return (
            torch.func.functional_call(model, dict(zip(names, given)), inputs, {"time": time}).square().mean()
        )

    assert torch.autograd.gradcheck(loss, parameters, fast_mode=True)


def test_increments_start_from_the_field_at_the_queries():
    model = built(in_channels=2, out_channels=2)
    coords = points(80)
    values = field(coords)
    plain = model.predict(values, coords, points(9, seed=4))
    model.normalizer.increment.fill_(1.0)
    geometry = model.geometry(coords, query_coords=points(9, seed=4))
    expected = plain + geometry.at_queries(values)
    close(model.predict(values, geometry), expected, 1e-6)


def test_rollouts_at_points_feed_predictions_back():
    model = built(in_channels=2, out_channels=1)
    coords = points(40)
    geometry, x0 = model.geometry(coords), field(coords, 3)
    frames = opflow.rollout(model, x0, 3, geometry=geometry, batch_size=2)
    assert frames.shape == (3, 3, 40, 1)
    window = x0
    for step in range(3):
        close(frames[:, step], model.predict(window, geometry), 1e-5)
        window = torch.cat([window[..., 1:], frames[:, step]], -1)
    with pytest.raises(ValueError, match="needs one set of them"):
        opflow.rollout(model, x0, 3, geometry=model.geometry(coords.expand(3, -1, -1)))


@pytest.mark.parametrize(
    "options", [{}, pytest.param({"time": True, "processor": "unet"}, marks=pytest.mark.slow)]
)
def test_exports_with_its_mesh_for_any_batch(options, tmp_path):
    model = built(**options)
    coords = points(50)
    geometry = model.geometry(coords, query_coords=points(20, seed=3))
    export.to_pt2(model, tmp_path / "mino.pt2", field(coords, 1), geometry)
    exported = export.load_pt2(tmp_path / "mino.pt2")
    for batch in (1, 5):
        time = torch.rand(batch) if model.timed else None
        inputs = (field(coords, batch),) if time is None else (field(coords, batch), time)
        with torch.no_grad():
            close(exported(*inputs), model(field(coords, batch), geometry, time=time), 1e-5)
    with pytest.raises(ValueError, match="MINO works on points: give geometry=model.geometry"):
        export.to_pt2(model, tmp_path / "mino.pt2", field(coords))
    with pytest.raises(ValueError, match="export with one set of points"):
        export.to_pt2(model, tmp_path / "m.pt2", field(coords), model.geometry(coords.expand(2, -1, -1)))


def test_a_graph_without_breaks():
    model, coords = built(time=True), points(50)
    for sets in (coords, coords.expand(2, -1, -1)):
        torch._dynamo.reset()
        report = torch._dynamo.explain(model)(field(coords), model.geometry(sets), time=0.5)
        assert report.graph_break_count == 0 and report.graph_count == 1
    torch._dynamo.reset()


@pytest.mark.parametrize("processor", ["transformer", pytest.param("unet", marks=pytest.mark.slow)])
def test_compiled_it_is_the_same_function(processor):
    model, coords = built(processor=processor), points(50)
    geometry = model.geometry(coords)
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    y, expected = (m(field(coords), geometry) for m in (compiled, model))
    close(y, expected, 1e-5)
    grads = [torch.autograd.grad(z.square().sum(), model.encoder.first.weight)[0] for z in (y, expected)]
    close(*grads, 1e-4)
    torch._dynamo.reset()


def test_the_saved_model_is_the_same_function(tmp_path):
    model = built(time=True, processor="unet", domain=((0.0, 2.0), (0.0, 1.0)))
    assert json.loads(json.dumps(model.config)).keys() == model.config.keys()
    model.save_pretrained(tmp_path)
    again = opflow.load(tmp_path)
    coords = points(50).double()
    assert isinstance(again, MINO)
    expected = model.predict(field(coords), coords, time=0.3)
    assert all(torch.equal(again.state_dict()[name], v) for name, v in model.state_dict().items())
    close(again.predict(field(coords).numpy(), coords.numpy(), time=0.3), expected, 1e-6)
    single = again.predict(field(coords)[1], coords, time=0.3)
    close(single, expected[1], 1e-6)


@torch.no_grad()
def test_single_precision_is_rounded_double_precision():
    coords = points(90, dtype=torch.float64)
    for options in ({}, {"processor": "unet", "time": True}):
        model = built(**options)
        time = 0.25 if model.timed else None
        single = model(field(coords).float(), coords.float(), time=time)
        exact = model.double()(field(coords), coords, time=time)
        close(single.double(), exact, 5e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"hidden_channels": 18}, "a multiple of n_heads=4"),
        ({"hidden_channels": 2, "n_heads": 1}, "must be at least 4, two for each coordinate"),
        ({"latent": (4, 4, 4)}, r"latent=\(4, 4, 4\) needs one number of nodes per axis, 2 of them"),
        ({"radius": 0.0}, "radius must be a positive number, got 0.0"),
        ({"processor": "mamba"}, "processor='mamba' is not one of 'transformer', 'unet'"),
        ({"reduction": "sum"}, "reduction='sum' is not one of 'quadrature', 'mean'"),
        ({"domain": ((0.0, 1.0), (1.0, 0.0))}, r"needs \(low, high\) with low < high for each axis"),
        ({"n_layers": 0}, "n_layers must be at least 1, got 0"),
    ],
)
def test_arguments_that_do_not_fit_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MINO(2, 1, **(SMALL | options))


def test_inputs_that_do_not_fit_are_named():
    model, coords = built(), points(30)
    values = field(coords)
    for inputs, message in (
        (
            (values[..., :1], coords),
            r"built for in_channels=2 and takes .* got a tensor of shape \(2, 30, 1\)",
        ),
        ((values, coords[:, :1]), r"coord_dim=2 and takes coords \(point, 2\).* got shape \(30, 1\)"),
        ((values, coords[:20]), r"values of shape \(2, 30, 2\) do not lie at coords of shape \(20, 2\)"),
        ((values, coords.expand(3, -1, -1)), r"do not lie at coords of shape \(3, 30, 2\)"),
        ((values, coords, points(9, 3)), r"query_coords of shape \(9, 3\) do not go with coords"),
        ((values, coords, None, None, torch.ones(7)), r"one number for each point, \(30,\), got \(7,\)"),
        ((values, coords, None, None, -torch.ones(30)), "weights must not be negative, the least is -1"),
        ((values, coords * torch.nan), "coords hold numbers that are not finite"),
        ((values, coords + 9), "none of the 20 latent nodes has a point within radius=0.35"),
        ((values, model.geometry(coords), coords), "a geometry has its query_coords and weights inside"),
    ):
        with pytest.raises(ValueError, match=message):
            model(*inputs)


@pytest.fixture(scope="module")
def published(real_data):
    with np.load(real_data / "mino_t_reference.npz") as file:
        return {name: torch.tensor(file[name]) for name in file.files}


def test_the_published_weights_give_the_published_output(published):
    state = {k.removeprefix("state/"): v for k, v in published.items() if k.startswith("state/")}
    heads, layers = published["config"][1:3].tolist()
    radius = float(published["radius"])
    model = opflow.interop.from_mino(state, radius=radius, n_heads=heads, latent=(6, 6))
    np.testing.assert_allclose(model._graph.nodes, published["query_pos"], atol=1e-7)
    assert len(model.blocks) == layers
    inputs = published["input_feat"].mT, published["input_pos"]
    y = model.predict(*inputs, time=published["timestep"])
    assert (y.mT - published["output"]).abs().max() <= 1e-5
    wider = opflow.interop.from_mino(state, radius=2 * radius, n_heads=heads, latent=(6, 6))
    assert (wider.predict(*inputs, time=published["timestep"]) - y).abs().max() > 1e-4


def test_other_tensors_are_no_published_mino(published):
    state = {k.removeprefix("state/"): v for k, v in published.items() if k.startswith("state/")}
    with pytest.raises(
        ValueError, match="no state dict of the published MINO-T: nothing in it is our encoder"
    ):
        opflow.interop.from_mino({"weight": torch.zeros(2)}, radius=0.1)
    name = "decoder.blocks.1.attn.kv.bias"
    with pytest.raises(ValueError, match=r"decoder.blocks.1.key_value.bias are on one side only"):
        opflow.interop.from_mino({k: v for k, v in state.items() if k != name}, radius=0.1, n_heads=2)
    with pytest.raises(
        ValueError, match=r"do not fit .* of width 24: decoder.blocks.1.key_value.bias \(3,\)"
    ):
        opflow.interop.from_mino(state | {name: torch.zeros(3)}, radius=0.1, n_heads=2)
