"""MINO: what must not change its output, against definitions, and the published weights."""

import json

import numpy as np
import pytest
import torch

import opflow
from opflow import MINO
from opflow.nn import point_decoder, point_graph
from opflow.nn.perceiver import PerceiverBlock
from opflow.nn.position_code import position_code
from tests.cases.point_operators import close, field, points
from tests.tables import POINT_OPERATORS

build, SMALL = POINT_OPERATORS["MINO"].build, POINT_OPERATORS["MINO"].arguments


@torch.no_grad()
def test_the_density_of_the_points_does_not_matter_with_quadrature():
    """Twice as many points in the left half: the mean over neighbours moves, the quadrature hardly."""
    even = points(1500, dtype=torch.float64)
    more = points(754, seed=1, dtype=torch.float64)[4:] * torch.tensor([0.5, 1.0], dtype=torch.float64)
    dense = torch.cat([even, more])
    queries = points(50, seed=7, dtype=torch.float64)
    moved = {}
    for reduction in ("quadrature", "mean"):
        model = build(reduction=reduction).double()
        before, after = (model(field(c), c, queries) for c in (even, dense))
        # The output without its mean, which hides changes.
        moved[reduction] = ((after - before).norm() / (before - before.mean(1, keepdim=True)).norm()).item()
    assert moved["quadrature"] <= 0.02 and moved["quadrature"] < moved["mean"] / 2, moved


@torch.no_grad()
def test_given_weights_count_and_their_unit_does_not_matter_for_the_mean():
    model = build(reduction="mean")
    coords = points(70)
    y = model(field(coords), coords)
    close(model(field(coords), coords, weights=torch.rand(70) + 0.1), y, 1e-6)
    model = build()
    exact, other = (
        model(field(coords), coords, weights=w) for w in (torch.full((70,), 1 / 70), torch.rand(70))
    )
    assert (other - exact).norm() > 1e-3 * exact.norm()


@torch.no_grad()
def test_chunks_of_queries_change_nothing(monkeypatch):
    coords = points(60)
    for layers in (1, 2):
        model = build(decoder_layers=layers, time=True)
        whole = model(field(coords), coords, points(45, seed=2), time=0.4)
        monkeypatch.setattr(point_decoder, "_CHUNK", 14)
        close(model(field(coords), coords, points(45, seed=2), time=0.4), whole, 1e-5)
        monkeypatch.undo()


@torch.no_grad()
def test_neighbours_are_searched_once(monkeypatch):
    model = build()
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
    close(build()(field(coords), coords), model(field(coords), coords), 1e-6)


@torch.no_grad()
def test_a_geometry_is_of_the_coordinates_that_it_was_made_of():
    model, coords, queries = build(), points(60), points(9, seed=3)
    values, geometry = field(coords), model.geometry(coords, query_coords=queries)
    y = model(values, geometry)
    coords += 0.1
    queries += 0.1
    assert torch.equal(model(values, geometry), y)


@torch.no_grad()
def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(point_graph, "_MOST_KEPT", 20_000)
    model = build()
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
    model = build().double()
    coords = points(200, dtype=torch.float64)
    coords = coords[(coords - torch.tensor([0.0, 0.0])).norm(dim=1) > 0.7]  # a corner of the box is empty
    values, geometry = field(coords), model.geometry(coords)
    there = geometry.covered
    assert 0 < there.sum() < len(there)
    code, nodes = position_code(coords, 16), torch.tensor(model._graph.nodes)
    normalized = model.normalizer.normalize(values.mT).mT
    tokens = model.encoder(normalized, geometry, code, position_code(nodes, 16))[:, there]
    h, places = tokens, model._places(nodes[there])
    for block in model.blocks:
        h = block(h, block.keys(tokens, None, places), None, None, places)
    y = model.decoder(h, normalized, code, None, None, None, model._places(coords), places)
    close(model(values, geometry), 3 * y + 1, 1e-10)


@torch.no_grad()
def test_units_of_length_do_not_matter():
    coords = points(80, dtype=torch.float64)
    y = build().double()(field(coords), coords)
    moved = build(domain=((2.0, 6.0), (-1.0, 3.0)), radius=4 * SMALL["radius"]).double()
    close(moved(field(coords), 4 * coords + torch.tensor([2.0, -1.0])), y, 1e-10)


@torch.no_grad()
def test_time_conditions_every_sample_by_itself():
    model = build(time=True)
    coords = points(50)
    y = model(field(coords), coords, time=torch.tensor([0.1, 0.7]))
    for i, t in enumerate((0.1, 0.7)):
        close(model(field(coords), coords, time=t)[i], y[i], 1e-6)
    assert (model(field(coords), coords, time=0.1) - y)[1].norm() > 1e-2 * y[1].norm()


@pytest.mark.parametrize("processor", ["transformer", "unet"])
@pytest.mark.parametrize("latent", [(7,), (4, 5), (3, 4, 3)])
def test_any_dimension_and_every_parameter_learns(latent, processor):
    d = len(latent)
    model = build(coord_dim=d, latent=latent, radius=0.6, processor=processor, time=True)
    coords = points(40, d)
    y = model(torch.randn(1, 40, 2), coords, points(11, d, seed=1), time=0.5)
    assert y.shape == (1, 11, 1)
    (y * torch.randn_like(y)).sum().backward()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


@pytest.mark.parametrize("time", [None, 0.3])
def test_gradients(time):
    model = build(hidden_channels=8, n_heads=2, n_layers=1, latent=(3, 3), time=time is not None).double()
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
    model = build(in_channels=2, out_channels=2)
    coords = points(80)
    values = field(coords)
    plain = model.predict(values, coords, points(9, seed=4))
    model.normalizer.increment.fill_(1.0)
    geometry = model.geometry(coords, query_coords=points(9, seed=4))
    expected = plain + geometry.at_queries(values)
    close(model.predict(values, geometry), expected, 1e-6)


def test_rollouts_at_points_feed_predictions_back():
    model = build(in_channels=2, out_channels=1)
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


@torch.no_grad()
@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_arguments_of_numpy_are_saved(kind, tmp_path):
    options = {"domain": kind([(0.0, 2.0), (0.0, 1.0)]), "radius": kind(0.5), "latent": kind([5, 4])}
    options |= {"n_layers": np.int64(1), "hidden_channels": np.int32(16), "time": np.bool_(False)}
    model, coords = MINO(np.int64(2), 1, **options).eval(), points(30)
    y = model(field(coords), coords)
    model.save_pretrained(tmp_path)
    again = opflow.load(tmp_path)
    assert again.config["domain"] == [[0.0, 2.0], [0.0, 1.0]] and again.config["radius"] == 0.5
    close(again.eval()(field(coords), coords), y, 1e-6)
    pairs = MINO(2, 1, domain=[(np.float32(0), np.float64(2)), np.array([0, 1])], latent=[np.int64(4)] * 2)
    assert json.dumps(pairs.config["domain"]) == "[[0.0, 2.0], [0, 1]]"
    assert json.dumps(pairs.config["latent"]) == "[4, 4]"


def test_a_domain_that_does_not_hold_the_points_is_named():
    coords = points(30)
    message = (
        r"30 of 30 points lie outside of the domain \[\[0.0, 1.0\], \[0.0, 1.0\]\] and further than radius"
    )
    with pytest.raises(ValueError, match=message):
        build()(field(coords), coords + 9)


@torch.no_grad()
@pytest.mark.parametrize("reduction", ["quadrature", "mean"])
def test_points_out_of_sight_are_not_dropped(reduction):
    model, coords = build(reduction=reduction), points(30)
    values, weights = field(coords), torch.ones(30)
    weights[7] = 0
    y = model(values, coords, weights=weights)
    coords[7, 1] = 1.5
    for options in ({}, {"weights": torch.ones(30)}):
        with pytest.raises(ValueError, match=r"1 of 30 points lie outside .* build the model with `domain=`"):
            model(values, coords, **options)
    near = torch.arange(30) != 7
    close(model(values, coords, weights=weights)[:, near], y[:, near], 1e-5)  # filling may lie anywhere
    coords[7, 1] = 1.2
    model(values, coords)  # the nodes at the edge see it


def test_nodes_that_see_no_points_are_named():
    coords = points(30)
    sparse = build(latent=(1, 1), radius=0.02)
    with pytest.raises(ValueError, match="none of the 1 latent nodes has a point within radius=0.02"):
        sparse(field(coords), coords, weights=torch.ones(30))


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


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_local_attention_is_attention_with_a_penalty_on_distance(dim):
    torch.manual_seed(0)
    block = PerceiverBlock(12, 3, sharpness=[2.0, 0.7, 0.0]).double()
    q, kv, x, y = (torch.randn(2, n, c, dtype=torch.float64) for c in (12, dim) for n in (5, 7))
    penalty = (x[:, None, :, None] - y[:, None, None]).square().sum(-1)
    keys = block.keys(kv, None, y)

    def slow(sharpness):
        plain = PerceiverBlock(12, 3).double()
        plain.load_state_dict(block.state_dict(), strict=False)
        return plain(q, plain.keys(kv, None), None, -0.5 * sharpness.square()[:, None, None] * penalty)

    sharpness = block.sharpness.detach().clone().requires_grad_()
    got, expected = block(q, keys, None, None, x), slow(sharpness)
    close(got, expected, 1e-12)
    close(
        *(
            torch.autograd.grad(v.square().sum(), s)[0]
            for v, s in ((got, block.sharpness), (expected, sharpness))
        ),
        1e-10,
    )


@torch.no_grad()
def test_local_attention_does_not_depend_on_where_the_places_are_counted_from():
    block = PerceiverBlock(8, 2, sharpness=[1.0, 0.5]).double()
    q, kv, x, y = (torch.randn(2, n, c, dtype=torch.float64) for c in (8, 2) for n in (5, 7))
    first, moved = (block(q, block.keys(kv, None, y + a), None, None, x + a) for a in (0.0, 3.0))
    close(moved, first, 1e-12)


@torch.no_grad()
@pytest.mark.parametrize("shared", [True, False])
def test_output_at_some_of_the_points_is_the_output_there(shared):
    model = build()
    coords = points(40) if shared else torch.stack([points(40, seed=s) for s in (0, 1)])
    values = field(coords)
    index = torch.tensor([3, 39, 0, 3]) if shared else torch.tensor([[3, 39, 0, 3], [1, 2, 2, 38]])
    geometry = model.geometry(coords)
    whole = model(values, geometry)
    close(model(values, geometry.at(index)), whole.take_along_dim(index.expand(2, -1)[..., None], 1), 1e-6)
