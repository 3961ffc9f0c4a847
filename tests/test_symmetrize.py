"""Symmetrize: exact equivariance of whatever is inside, by every method, on grids and on clouds."""

import json
import math

import pytest
import torch
from torch import nn

from opflow import FNO, LocalSFNO, TrainConfig, build, export, fit, load
from opflow.equivariance import Symmetrize
from opflow.metrics import GROUPS, relative_l2
from opflow.nn import fourier_resample
from opflow.nn.grid_turns import GridTurn
from opflow.nn.representations import channel_matrix
from pde_data import FieldDataset
from pde_data.audit import Audit, Score
from tests.turning import turn_field

KINDS = (["scalar", "pseudoscalar", "vector"], ["vector", "pseudoscalar"])
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
METHODS = ("average", "frame", "canonical")


def fno(seed=0, **options):
    torch.manual_seed(seed)
    model = FNO((5, 6), 4, 3, 6, n_layers=2, **options)
    model.normalizer.set([1, 2, 3, 4], [1, 2, 0.5, 2], [1, 0, 2], [3, 1, 2])  # respects no symmetry
    return model


def fields(*grid, dtype=torch.float32, seed=1):
    """A constant, one that is its own image under half a turn, one that two turns map to nearly itself."""
    x = torch.randn(4, 4, *grid, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    half_turn = GridTurn(GROUPS["p4"][2], KINDS[0])
    x[0] = 1.5
    x[1] += half_turn(x[1:2])[0]
    x[2] += (1 - 1e-3) * half_turn(x[2:3])[0]
    return x.to(dtype)


def errors(model, x, group):
    with torch.no_grad():
        y = model(x)
        for element in GROUPS[group]:
            turned = turn_field(x, element, model.in_kinds)
            yield relative_l2(model(turned), turn_field(y, element, model.out_kinds)).max().item()


# Grids


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("group", GROUPS)
def test_every_element_of_every_group_by_every_method(group, method, dtype):
    inner = fno().to(dtype).eval()
    model = Symmetrize(inner, group, *KINDS, method).eval()
    for grid in ((12, 12), (11, 11), (9, 14)):
        x = fields(*grid, dtype=dtype)
        assert max(errors(model, x, group)) <= TOLERANCE[dtype]
        inner.in_kinds, inner.out_kinds = KINDS
        assert max(errors(inner, x, group)) > 0.1


@pytest.mark.parametrize("method", METHODS)
def test_neuraloperators_fno(method):
    torch.manual_seed(0)
    inner = build(
        "neuralop:FNO", n_modes=(6, 6), in_channels=4, out_channels=3, hidden_channels=6, n_layers=2
    )
    model = Symmetrize(inner, "p4m", *KINDS, method).eval()
    assert max(errors(model, fields(16, 16), "p4m")) <= 1e-5


def test_the_average_is_that_of_the_definition():
    inner = FNO((4, 4), 1, 1, 4, n_layers=1).double().eval()
    x = torch.randn(2, 1, 8, 8).double()
    images = [inner(x.rot90(k, (2, 3))).rot90(-k, (2, 3)) for k in range(4)]
    mirrored = x.flip(2)
    images += [inner(mirrored.rot90(k, (2, 3))).rot90(-k, (2, 3)).flip(2) for k in range(4)]
    for group, count in (("p4", 4), ("C4", 4), ("p4m", 8), ("D4", 8)):
        expected = sum(images[:count]) / count
        torch.testing.assert_close(Symmetrize(inner, group).eval()(x), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_equivariant_stays_as_it_is(method):
    class Cube(nn.Module):
        def forward(self, x, out_grid=None):
            return x**3

    x = fields(8, 8, dtype=torch.float64)
    for mode in (True, False):
        model = Symmetrize(Cube(), "p4m", KINDS[0], KINDS[0], method).train(mode)
        torch.testing.assert_close(model(x), x**3, rtol=1e-14, atol=1e-14)


def test_translations_survive():
    inner = fno(positional_embedding=None).double()
    x = fields(12, 12, dtype=torch.float64)
    for method in METHODS:
        model = Symmetrize(inner, "p4m", *KINDS, method).eval()
        torch.testing.assert_close(
            model(x.roll((3, 5), (2, 3))), model(x).roll((3, 5), (2, 3)), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("method", METHODS[1:])
def test_weights_belong_to_the_function_and_not_to_the_grid(method):
    poses = Symmetrize(fno(), "p4m", *KINDS, method).poses
    coarse = torch.randn(32, 4, 13, 13, dtype=torch.float64)
    found = [
        poses.look(None, fourier_resample(coarse, grid)).weights for grid in ((13, 13), (16, 16), (33, 18))
    ]
    assert (found[0] > 0).sum(1).double().mean() < 4  # fewer calls than the average
    for weights in found:
        torch.testing.assert_close(weights.sum(1), torch.ones(32).double())
        torch.testing.assert_close(weights, found[0], rtol=0, atol=1e-9)


def test_frames_are_continuous_where_canonical_poses_jump():
    """On the way from a field to its image under a turn, two poses tie."""
    inner = FNO((4, 4), 1, 1, 4, n_layers=1).double()
    torch.manual_seed(3)
    x = torch.randn(1, 1, 9, 9).double()
    image = x.rot90(1, (2, 3))

    def largest_step(method, count):
        path = torch.linspace(0, 1, count).double()[:, None, None, None]
        y = Symmetrize(inner, "p4", method=method).eval()((1 - path) * x + path * image)
        return (y.diff(dim=0).flatten(1).norm(dim=1)).max().item()

    assert largest_step("canonical", 3201) > 0.5 * largest_step("canonical", 401)
    assert largest_step("frame", 3201) < 0.2 * largest_step("frame", 401)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("grid", [(8, 8), (8, 10)])
def test_training_draws_one_element_for_each_sample(method, grid):
    inner = FNO((4, 4), 1, 1, 4, n_layers=1).double()
    model = Symmetrize(inner, "p4m", method=method).train()
    x = torch.randn(1, 1, *grid).double().expand(40, -1, -1, -1)
    look = model.poses.look(inner, x[:1])
    images = torch.stack([look.at(g) for g in range(8)], 1)
    y = model(x)
    distance = (y[:, None] - images).flatten(2).norm(dim=2)
    nearest = distance.argmin(1)
    assert distance.amin(1).max() < 1e-12
    assert (look.weights[0, nearest] > 0).all()
    assert len(nearest.unique()) == (look.weights > 0).sum() or method == "frame"
    y.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in inner.parameters())


def test_trained_models_are_equivariant_whatever_their_normaliser_learnt():
    torch.manual_seed(0)
    x = torch.randn(24, 1, 10, 10) + 2  # the mean of a pseudoscalar that the data prefer
    data = torch.utils.data.TensorDataset(x, 3 * x.roll(1, 2))
    model = Symmetrize(FNO((4, 4), 1, 1, 4, n_layers=1), "p4m", "pseudoscalar", "pseudoscalar")
    fit(model, data, config=TrainConfig(epochs=2, batch_size=8))
    assert model.model.normalizer.input_mean.item() == pytest.approx(2, abs=0.1)
    assert max(errors(model.eval(), x[:4], "p4m")) <= 1e-5


@pytest.mark.parametrize("method", METHODS)
def test_another_output_grid_turns_too(method):
    model = Symmetrize(fno().double(), "p4m", *KINDS, method).eval()
    x = fields(10, 10, dtype=torch.float64)
    y, turned = model(x, (8, 14)), model(turn_field(x, GROUPS["p4"][1], KINDS[0]), (14, 8))
    torch.testing.assert_close(turned, turn_field(y, GROUPS["p4"][1], KINDS[1]), rtol=0, atol=1e-12)


def test_space_time_turns_in_space():
    model = Symmetrize(FNO((4, 4, 3), 2, 1, 4, n_layers=1).double(), "p4m", "vector", None, "frame").eval()
    assert max(errors(model, torch.randn(2, 2, 8, 8, 5).double(), "p4m")) <= 1e-12


@pytest.mark.parametrize("inner", ["FNO", "neuralop:FNO"])
def test_saved_and_loaded_with_the_model_inside(inner, tmp_path):
    torch.manual_seed(0)
    arguments = dict(n_modes=(4, 4), in_channels=4, out_channels=3, hidden_channels=4, n_layers=1)
    model = Symmetrize(build(inner, **arguments), "p4m", *KINDS, "canonical").eval()
    model.normalizer.set([1, 2, 3, 4], [1, 2, 0.5, 2], [1, 0, 2], [3, 1, 2])
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again.config == json.loads(json.dumps(model.config))
    x = fields(10, 10)
    assert torch.equal(again(x), model(x))
    assert not [name for name in model.state_dict() if name.startswith("normalizer")]


def test_built_from_a_description_as_a_run_does():
    description = {"class": "FNO", "config": {"n_modes": [4, 4], "hidden_channels": 4}}
    model = build("Symmetrize", model=description, group="p4", in_channels=2, out_channels=1)
    assert model.model.in_channels == 2 and model(torch.zeros(1, 2, 8, 8)).shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    "method",
    [
        "canonical",
        pytest.param("average", marks=pytest.mark.slow),
        pytest.param("frame", marks=pytest.mark.slow),
    ],
)
def test_compiles_as_one_graph_and_exports(method, tmp_path):
    model = Symmetrize(FNO((4, 4), 1, 1, 3, n_layers=1), "mx", "pseudoscalar", None, method).eval()
    torch._dynamo.reset()
    assert torch._dynamo.explain(model)(torch.randn(2, 1, 8, 8)).graph_break_count == 0
    torch._dynamo.reset()
    export.to_pt2(model, tmp_path / "m.pt2", torch.randn(3, 1, 14, 16))
    exported = export.load_pt2(tmp_path / "m.pt2")
    for grid in ((12, 12), (9, 14)):
        x = torch.randn(2, 1, *grid)
        torch.testing.assert_close(exported(x), model(x), rtol=0, atol=1e-5)


def test_padding_of_the_model_inside_counts():
    """Modes that a padded grid holds are trained; fit asks."""
    x = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    data = FieldDataset.from_arrays(inputs=x.numpy(), targets=x.numpy())
    config = TrainConfig(epochs=1, batch_size=2)
    options = dict(n_modes=(20, 20), in_channels=1, out_channels=1, hidden_channels=2, n_layers=1)
    model = Symmetrize(FNO(domain_padding=0.2, **options), "p4")
    assert model.padding == (0.2, 0.2)
    fit(model, data, config=config)
    with pytest.raises(ValueError, match=r"n_modes=\(20, 20\).*build it with n_modes=\(16, 16\)"):
        fit(Symmetrize(FNO(**options), "p4"), data, config=config)


def test_on_the_sphere_the_graph_is_of_the_grid_of_its_example(tmp_path):
    pytest.importorskip("torch_harmonics")
    model = Symmetrize(LocalSFNO(4, 1, 1, 4, n_layers=1), "mx").eval()
    assert not model.exports_any_grid and Symmetrize(fno(), "p4").exports_any_grid
    x = torch.randn(3, 1, 9, 16)
    export.to_pt2(model, tmp_path / "m.pt2", x)
    torch.testing.assert_close(export.load_pt2(tmp_path / "m.pt2")(x[:2]), model(x[:2]), rtol=0, atol=1e-6)


# Clouds


class PointNet(nn.Module):
    """A sum over points of a function of both places and the values: no symmetry but that of their order."""

    def __init__(self, n_dim, channels_in, channels_out):
        super().__init__()
        self.edges = nn.Sequential(
            nn.Linear(2 * n_dim + channels_in, 16), nn.Tanh(), nn.Linear(16, channels_out)
        )

    def forward(self, values, coords, query_coords=None, weights=None):
        n, query = values.shape[1], coords if query_coords is None else query_coords
        coords, query = (c.expand(len(values), -1, -1) for c in (coords, query))
        m = query.shape[1]
        features = [
            query[:, :, None].expand(-1, -1, n, -1),
            *(t[:, None].expand(-1, m, -1, -1) for t in (coords, values)),
        ]
        weight = (
            torch.full_like(values[..., 0], 1 / n) if weights is None else weights.expand(len(values), -1)
        )
        return torch.einsum("bn,bmnc->bmc", weight, self.edges(torch.cat(features, -1)))


def cloud(n_dim, dtype, batch=3, points=20, shared=False, seed=0):
    noise = torch.Generator().manual_seed(seed)
    shape = (points, n_dim) if shared else (batch, points, n_dim)
    coords = torch.rand(shape, generator=noise, dtype=torch.float64).pow(2)
    coords = coords * torch.tensor([3.0, 2.0, 1.0][:n_dim]).double()
    values = torch.randn(batch, points, 2 + n_dim, generator=noise, dtype=torch.float64)
    query = torch.rand(7, n_dim, generator=noise, dtype=torch.float64)
    weights = torch.rand(shape[:-1], generator=noise, dtype=torch.float64)
    return [t.to(dtype) for t in (values, coords, query, weights)]


def rotations(n_dim, proper, count=4):
    noise = torch.Generator().manual_seed(5)
    for number in range(count):
        turn, _ = torch.linalg.qr(torch.randn(n_dim, n_dim, generator=noise, dtype=torch.float64))
        wanted = 1 if proper or number % 2 else -1
        turn[0] *= wanted * torch.linalg.det(turn).sign()
        yield turn, torch.randn(n_dim, generator=noise, dtype=torch.float64)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("group", ["SO(2)", "O(2)", "SO(3)", "O(3)"])
def test_rotations_and_translations_of_clouds(group, method, dtype):
    torch.manual_seed(0)
    n_dim = int(group[-2])
    inner = PointNet(n_dim, 2 + n_dim, 1 + n_dim).to(dtype)
    model = Symmetrize(inner, group, *KINDS, method).eval()
    for shared in (True, False):
        values, coords, query, weights = cloud(n_dim, dtype, shared=shared)
        for options in ({}, {"weights": weights}):
            for turn, shift in rotations(n_dim, group.startswith("S")):
                rho = [channel_matrix(kinds, turn).T.to(dtype) for kinds in KINDS]

                def moved(points, turn=turn, shift=shift):
                    return (points.double() @ turn.T + shift).to(dtype)

                for q in (None, query):
                    place, turned = (coords, q), (moved(coords), None if q is None else moved(q))
                    with torch.no_grad():
                        y, again = (
                            model(values, *place, **options),
                            model(values @ rho[0], *turned, **options),
                        )
                        plain = relative_l2(
                            inner(values @ rho[0], *turned).mT, (inner(values, *place) @ rho[1]).mT
                        )
                    assert relative_l2(again.mT, (y @ rho[1]).mT).max() <= TOLERANCE[dtype]
                    assert plain.min() > 1e-2


def test_samples_on_one_cloud_stay_on_one_cloud():
    """Or each of them would have its neighbours searched for."""
    seen = []

    class Recorder(PointNet):
        def forward(self, values, coords, query_coords=None, weights=None):
            seen.append((coords, weights))
            return super().forward(values, coords, query_coords, weights)

    values, coords, query, weights = cloud(2, torch.float64, shared=True)
    model = Symmetrize(Recorder(2, 4, 3).double(), "O(2)", *KINDS, "frame").eval()
    y = model(values, coords, query, weights=weights)
    assert len(seen) == 4 and all(c.shape == (20, 2) and w.shape == (20,) for c, w in seen)
    look = model.poses.look(model.model, values, coords, query, weights=weights)
    images = torch.stack([look.at(g) for g in range(4)])
    torch.testing.assert_close(y, images.mean(0))
    seen.clear()
    drawn = torch.stack([model.train()(values, coords, query, weights=weights) for _ in range(20)])
    assert len(seen) == 20 and seen[0][0].ndim == 2
    nearest = (drawn[:, None] - images).flatten(2).norm(dim=2)
    assert nearest.amin(1).max() < 1e-12 and len(nearest.argmin(1).unique()) == 4
    own = coords.expand(3, -1, -1)
    own_drawn = model(values, own, query, weights=weights.expand(3, -1))
    assert (own_drawn[None] - images).flatten(2).norm(dim=2).amin(0).max() < 1e-12


def test_order_of_points_and_points_of_no_weight_do_not_matter():
    model = Symmetrize(PointNet(2, 4, 3).double(), "O(2)", *KINDS, "canonical").eval()
    values, coords, query, weights = cloud(2, torch.float64)
    y = model(values, coords, query, weights=weights)
    order = torch.randperm(20)
    mixed = model(values[:, order], coords[:, order], query, weights=weights[:, order])
    torch.testing.assert_close(mixed, y, rtol=0, atol=1e-13)
    filling = [torch.cat([t, 9 + 0 * t[:, :5]], 1) for t in (values, coords)]
    padded = torch.cat([weights, 0 * weights[:, :5]], 1)
    torch.testing.assert_close(model(*filling, query, weights=padded), y, rtol=0, atol=1e-13)


def test_a_cloud_with_a_mirror_of_its_own_has_two_canonical_poses():
    half = torch.rand(12, 2).double() * torch.tensor([1.0, 4.0])
    coords = torch.cat([half, half * torch.tensor([-1.0, 1.0])])
    model = Symmetrize(PointNet(2, 1, 1).double(), "O(2)", ["scalar"], ["scalar"], "canonical").eval()
    values = torch.randn(2, 12, 1).double().repeat(1, 2, 1)
    assert (model.poses.look(None, values, coords).weights > 0).sum(1).tolist() == [2, 2]
    y = model(values, coords)
    torch.testing.assert_close(y[:, :12], y[:, 12:], rtol=0, atol=1e-13)


@pytest.mark.parametrize("method, most", [("frame", {2, 4, 8}), ("canonical", {1})])
def test_number_of_poses_of_a_cloud(method, most):
    for group, count in (("SO(2)", 2), ("O(2)", 4), ("SO(3)", 4), ("O(3)", 8)):
        n_dim = int(group[-2])
        values, coords, *_ = cloud(n_dim, torch.float64)
        model = Symmetrize(PointNet(n_dim, 2 + n_dim, 1), group, KINDS[0], ["scalar"], method)
        weights = model.poses.look(None, values, coords).weights
        used = set((weights > 0).sum(1).tolist())
        assert used <= most and (method == "canonical" or used == {count})


def test_a_cloud_without_principal_axes_is_refused():
    angles = torch.arange(8) * (2 * math.pi / 8)
    coords = torch.stack([angles.cos(), angles.sin()], 1)
    model = Symmetrize(PointNet(2, 1, 1), "SO(2)", ["scalar"], ["scalar"], "frame").eval()
    with pytest.raises(
        ValueError, match="no principal axes: two of their variances differ by .* of the largest"
    ):
        model(torch.randn(1, 8, 1), coords)
    with pytest.raises(ValueError, match="acts on 2 dimensions, the points have 3"):
        model(torch.randn(1, 8, 1), torch.randn(8, 3))


def test_a_planar_cloud_in_space_is_no_exception():
    values, coords, query, _ = cloud(3, torch.float64)
    coords[..., 2] = 0
    model = Symmetrize(PointNet(3, 5, 1).double(), "SO(3)", KINDS[0], ["scalar"], "frame").eval()
    for turn, shift in rotations(3, proper=True):
        rho = channel_matrix(KINDS[0], turn).T
        again = model(values @ rho, coords @ turn.T + shift, query @ turn.T + shift)
        torch.testing.assert_close(again, model(values, coords, query), rtol=0, atol=1e-12)


def test_prediction_of_one_cloud_from_arrays():
    model = Symmetrize(PointNet(2, 4, 3), "SO(2)", *KINDS, "frame").train()
    values, coords, query, _ = cloud(2, torch.float64, batch=1, shared=True)
    y = model.predict(values[0].numpy(), coords.numpy(), query.numpy())
    assert y.shape == (7, 3) and model.training
    expected = model.eval()(values.float(), coords.float(), query.float())[0]
    torch.testing.assert_close(y, expected)


# Audits


def report(kinds, **verdicts):
    names = {"turn": "rotation by 90", "x": "reflection of x", "y": "reflection of y"}
    scores = {names[name]: Score(names[name], verdict) for name, verdict in verdicts.items()}
    return Audit(scores, 0.02, 0.99, kinds)


@pytest.mark.parametrize(
    "verdicts, group",
    [
        (dict(turn="keep", x="keep", y="keep"), "p4m"),
        (dict(turn="keep", x="keep", y="undecided"), "p4m"),
        (dict(turn="keep", x="reject", y="reject"), "p4"),
        (dict(turn="reject", x="keep", y="keep"), "p2mm"),
        (dict(turn="undecided", x="keep", y="reject"), "mx"),
        (dict(turn="skipped", x="reject", y="keep"), "my"),
    ],
)
def test_an_audit_chooses_the_group(verdicts, group):
    kinds = {"p": "scalar", "u": "vector x", "v": "vector y"}
    model = Symmetrize.from_audit(report(kinds, **verdicts), FNO((4, 4), 6, 3, 4), method="frame")
    assert model.group == group and model.method == "frame"
    assert model.in_kinds == ("scalar", "vector") * 2 and model.out_kinds == ("scalar", "vector")


def test_audits_that_leave_nothing_to_choose_say_so():
    kinds, keep = {"w": "pseudoscalar"}, dict(turn="keep")
    with pytest.raises(ValueError, match=r"keep no rotation or reflection.*\(rotation by 90: reject\)"):
        Symmetrize.from_audit(report(kinds, turn="reject"), FNO((4, 4), 1, 1, 4))
    with pytest.raises(ValueError, match="components of vectors do not follow one another"):
        Symmetrize.from_audit(report({"v": "vector y", "u": "vector x"}, **keep), FNO((4, 4), 2, 2, 4))
    with pytest.raises(
        ValueError, match=r"1 channels are not frames of the audited fields u, v: give rep_in"
    ):
        Symmetrize.from_audit(report({"u": "scalar", "v": "scalar"}, **keep), FNO((4, 4), 2, 1, 4))
    model = Symmetrize.from_audit(report({}, **keep), FNO((4, 4), 2, 1, 4), "vector", "scalar")
    assert model.in_kinds == ("vector",)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"group": "p6"}, r"unknown group 'p6': there are p4, p4m, .*O\(3\)"),
        ({"group": "p4", "method": "mean"}, "method='mean' is not one of 'average', 'frame', 'canonical'"),
        ({"group": "SO(2)"}, r"'average' is for finite groups; SO\(2\) has infinitely many elements"),
        ({"group": "p4", "rep_in": "tensor"}, "rep_in: unknown kind 'tensor'; there are scalar"),
        ({"group": "p4", "rep_out": ["vector"]}, r"rep_out=\('vector',\) make 2 channels"),
        ({"group": "p4", "model": FNO((4,), 1, 1, 4)}, "turns two space axes, and the FNO has one"),
        ({"group": "p4", "model": nn.Conv2d(1, 1, 3)}, "a Conv2d does not tell its in_channels"),
        ({"group": "p4", "model": {"name": "FNO"}}, 'described as {"class": NAME, "config"'),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, words):
    arguments = {"model": FNO((4, 4), 1, 1, 4), **arguments}
    if isinstance(arguments["model"], nn.Conv2d):
        del arguments["model"].in_channels
    with pytest.raises(ValueError, match=words):
        Symmetrize(**arguments)


def test_a_module_of_ones_own_cannot_be_saved(tmp_path):
    model = Symmetrize(PointNet(2, 1, 1), "SO(2)", ["scalar"], ["scalar"], "frame")
    with pytest.raises(
        ValueError, match="a PointNet cannot be described by its arguments, and so not be saved"
    ):
        model.save_pretrained(tmp_path)
