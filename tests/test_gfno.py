"""The G-FNO: equivariance before and after training, grids, derivatives, compilation, errors."""

import itertools
import json

import numpy as np
import pytest
import torch

import opflow
import pde_data
from opflow import GFNO, TrainConfig, build, export, fit, load
from opflow.metrics import relative_l2
from opflow.nn.representations import GROUPS, channels_of
from tests.turning import turn_field

SMALL = dict(in_channels=1, out_channels=1, hidden_channels=3, n_layers=2)
KINDS = [("scalar",), ("pseudoscalar",), ("vector",), ("vector", "scalar", "pseudoscalar")]


def small(n_modes=(7, 7), seed=0, **options):
    torch.manual_seed(seed)
    return GFNO(n_modes, **{**SMALL, **options})


def of_kinds(in_kinds, out_kinds, n_modes=(11, 11), **options):
    sizes = dict(in_channels=channels_of(in_kinds), out_channels=channels_of(out_kinds))
    return small(n_modes, in_kinds=in_kinds, out_kinds=out_kinds, **sizes, **options)


@torch.no_grad()
def broken(model, x, group=None):
    """The worst relative distance of f(R x) from R f(x) over the group."""
    y, kinds = model(x), (model.in_kinds, model.out_kinds)
    errors = [
        relative_l2(model(turn_field(x, turn, kinds[0])), turn_field(y, turn, kinds[1])).max()
        for turn in GROUPS[group or model.group]
    ]
    return max(errors).item()


@torch.no_grad()
def cancelled(model, x):
    """How much smaller the output is than the features whose slots cancel in it, and rounding with them."""
    features = []
    hook = model.projection.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0]))
    share = model(x).std((0, *range(2, x.ndim))).min() / features[0].square().mean().sqrt()
    hook.remove()
    return share.item()


def fields(n, kinds, dtype, batch=2):
    return torch.randn(batch, channels_of(kinds), n, n, dtype=dtype)


@pytest.mark.parametrize("n", [32, 33, 64])
@pytest.mark.parametrize("kinds", KINDS, ids=".".join)
@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_commutes_with_the_group_untrained(group, kinds, n):
    """For every kind by itself and together, on even and odd grids; width and depth of a usual model."""
    usual = dict(hidden_channels=8, n_layers=4)
    for norm, single in ((None, 1e-6), ("instance_norm", 5e-6)):  # norms enlarge what was rounded before
        model = of_kinds(kinds, kinds, group=group, norm=norm, **usual)
        assert broken(model, fields(n, kinds, torch.float32)) <= single
        assert broken(model.double(), fields(n, kinds, torch.float64)) <= 1e-12


@pytest.mark.parametrize("group", ["p4", "p4m"])
@pytest.mark.parametrize("norm", [None, "instance_norm"])
def test_commutes_with_the_group_from_kind_to_kind(group, norm):
    """An untrained model leaves little of other kinds: slots cancel there, and their rounding does not."""
    for ins, outs in itertools.permutations(KINDS, 2):
        model, x = of_kinds(ins, outs, group=group, norm=norm), fields(32, ins, torch.float64)
        assert broken(model.double(), x) <= 1e-12 / min(1.0, cancelled(model, x)), (ins, outs)
        error = broken(model.float(), x.float())
        assert error <= 1e-6 / min(1.0, cancelled(model, x.float())), (ins, outs)


@pytest.mark.parametrize("group", ["p4", "p4m"])
@pytest.mark.parametrize("n", [32, 33])
def test_turns_about_the_origin_of_a_periodic_grid(group, n):
    """Those of the array are off by a point, which this embedding shows."""
    torch.manual_seed(0)
    kinds = dict(in_kinds=["pseudoscalar", "scalar"], out_kinds="pseudoscalar")
    model = GFNO((9, 9), 2, 1, 4, n_layers=2, group=group, positional_embedding="periodic", **kinds).double()
    x = torch.randn(2, 2, n, n, dtype=torch.float64)
    with torch.no_grad():
        y = model(x)
        for turn in GROUPS[group]:
            turned = model(turn_field(x, turn, model.in_kinds, "origin"))
            expected = turn_field(y, turn, model.out_kinds, "origin")
            assert (turned - expected).norm() <= 1e-12 * y.norm()
        quarter = GROUPS[group][1]
        turned = model(turn_field(x, quarter, model.in_kinds))
        assert (turned - turn_field(y, quarter, model.out_kinds)).norm() > 1e-3 * y.norm()


def test_the_origin_is_the_centre_of_a_forced_law():
    """The solver itself, under a forcing of cosines, commutes with turns about the origin alone."""
    options = dict(forcing="sym", viscosity=1e-3, times=[1.0])
    w = np.random.default_rng(0).standard_normal((1, 16, 16))
    w -= w.mean()
    w = np.fft.irfft2(np.fft.rfft2(w) * (np.abs(np.fft.fftfreq(16, 1 / 16))[:, None] < 4), s=(16, 16))
    quarter = GROUPS["p4"][1]

    def turn(values, about):
        return turn_field(torch.from_numpy(values), quarter, ["pseudoscalar"], about).numpy()

    end = pde_data.simulate("navier_stokes", w, **options)
    for about, largest, least in (("origin", 1e-6, 0), ("middle", 1, 1e-3)):
        error = pde_data.simulate("navier_stokes", turn(w[:, None], about)[:, 0], **options) - turn(
            end, about
        )
        assert least <= np.linalg.norm(error) / np.linalg.norm(end) <= largest


def test_quarter_turns_alone_do_not_give_reflections():
    """The network of p4 tells left from right; kinds do not stand for each other."""
    x = fields(16, ("scalar",), torch.float32)
    assert broken(small(group="p4"), x, "p4m") > 1e-3
    model = of_kinds(("pseudoscalar",), ("pseudoscalar",), group="p4m")
    model.in_kinds = model.out_kinds = ("scalar",)  # how the test turns the fields, not the model
    assert broken(model, x) > 1e-3


@pytest.mark.parametrize("norm", [None, "instance_norm"])
@pytest.mark.parametrize("kinds", KINDS, ids=".".join)
@pytest.mark.parametrize("group", ["p4", "p4m"])
@pytest.mark.parametrize("predict", ["field", "increment"])
def test_commutes_after_training_with_fitted_statistics(norm, kinds, group, predict):
    torch.manual_seed(1)
    offsets = torch.linspace(1, 3, channels_of(kinds))[:, None, None]  # means that would point somewhere
    x = torch.randn(24, channels_of(kinds), 16, 16) * offsets + offsets
    y = x.roll(1, -1) * 0.7 + 0.2 * x.square()
    model = of_kinds(kinds, kinds, group=group, norm=norm)
    config = TrainConfig(epochs=2, batch_size=8, learning_rate=1e-2, predict=predict, seed=0)
    before = model.lifting.weight.clone()
    fit(model, torch.utils.data.TensorDataset(x, y), config=config)
    assert model.normalizer.fitted and not torch.equal(before, model.lifting.weight)
    for n in (32, 33, 64):
        assert broken(model, fields(n, kinds, torch.float32)) <= 1e-5
        assert broken(model.double(), fields(n, kinds, torch.float64)) <= 1e-12
        model.float()


@pytest.mark.parametrize("norm", [None, "instance_norm"])
@pytest.mark.parametrize("ins, outs", [(KINDS[0], KINDS[2]), (KINDS[2], KINDS[1])])
def test_commutes_after_training_from_kind_to_kind(norm, ins, outs):
    """A stream function to its velocity, a velocity to its vorticity: what was small untrained has grown."""

    def difference(u, axis):
        return u.roll(-1, axis) - u.roll(1, axis)

    torch.manual_seed(1)
    x = torch.randn(24, channels_of(ins), 16, 16)
    dx, dy = difference(x, 2), difference(x, 3)
    y = torch.cat([-dy, dx], 1) if outs == ("vector",) else dx[:, 1:] - dy[:, :1]
    model = of_kinds(ins, outs, group="p4m", norm=norm)
    fit(
        model,
        torch.utils.data.TensorDataset(x, y),
        config=TrainConfig(epochs=2, batch_size=8, learning_rate=1e-2),
    )
    for n in (32, 33, 64):
        assert broken(model, fields(n, ins, torch.float32)) <= 1e-5
        assert broken(model.double(), fields(n, ins, torch.float64)) <= 1e-12
        model.float()


@pytest.mark.parametrize("norm", [None, "instance_norm"])
def test_commutes_with_translations_without_embedding(norm):
    x = torch.randn(2, 1, 12, 17, dtype=torch.float64)
    model = small(group="p4m", norm=norm, positional_embedding=None).double()
    shifted = model(x.roll((5, 3), (2, 3)))
    torch.testing.assert_close(shifted, model(x).roll((5, 3), (2, 3)), rtol=0, atol=1e-12)
    embedded = small(group="p4m", norm=norm).double()
    assert (embedded(x.roll(5, 2)) - embedded(x).roll(5, 2)).abs().max() > 1e-4


def test_space_and_time():
    for group, norm in itertools.product(("p4", "p4m"), (None, "instance_norm")):
        model = of_kinds(("vector",), ("pseudoscalar",), (5, 5, 6), group=group, norm=norm)
        x = torch.randn(2, 2, 9, 9, 7)
        assert broken(model, x) <= 1e-6 / min(1.0, cancelled(model, x))
        assert broken(model.double(), x.double()) <= 1e-12
        with torch.no_grad():
            backwards = model(x.double().flip(-1)).flip(-1)
            assert relative_l2(backwards, model(x.double())).max() > 1e-3  # time has a direction


def test_other_grids():
    """Unequal sides, fewer points than modes, a single sample, another grid for the output."""
    model = small((12, 12), norm="instance_norm", out_channels=2)
    for grid in ((9, 14), (15, 6), (8, 8), (5, 5)):
        assert model(torch.randn(1, 1, *grid)).shape == (1, 2, *grid)
    assert broken(model, torch.randn(2, 1, 8, 8)) <= 1e-6  # the Nyquist mode has no image, and is left out
    assert model.predict(torch.randn(1, 8, 9), out_grid=(16, 17)).shape == (2, 16, 17)


@pytest.mark.parametrize("norm", [None, "instance_norm"])
def test_float32_and_few_modes_agree_with_float64_and_ffts(norm, monkeypatch):
    model, x = small((9, 9), group="p4m", norm=norm, in_channels=2), torch.randn(2, 2, 13, 16)
    y = model(x)
    monkeypatch.setattr("opflow.nn.spectral._MAX_MODES_FOR_PRODUCT", 0)
    exact = model.double()(x.double())
    assert (y - exact).norm() / exact.norm() < 1e-5
    assert ((model.float()(x) - exact).norm() / exact.norm()) < 1e-5


def test_hooks_see_every_part():
    for norm in (None, "instance_norm"):
        model, x, seen = small(norm=norm), torch.randn(1, 1, 8, 8), []
        expected = model(x)
        for part in (model.blocks[0].skip, model.blocks[1].mlp.first, model.projection.second):
            part.register_forward_hook(lambda *_, seen=seen: seen.append(1))
        torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-5)
        assert len(seen) == 3


def test_radial_kernels_commute_and_hold_one_number_per_orbit():
    for group, orbits in (("p4", 1 + (7**2 - 1) // 4), ("p4m", 10)):
        model = small(group=group, radial=True, norm="instance_norm")
        assert model.blocks[0].conv.weight.shape == (orbits, 1, 3, 3)
        assert broken(model, torch.randn(2, 1, 33, 33)) <= 1e-6
    model = small((5, 5, 4), radial=True).double()
    assert broken(model, torch.randn(2, 1, 8, 8, 7).double()) <= 1e-12


OPTIONS = [
    {},
    {"group": "p4m", "norm": "instance_norm"},
    {"positional_embedding": None, "in_kinds": "vector", "in_channels": 2},
    {"group": "p4m", "out_kinds": ["pseudoscalar"], "in_kinds": ["pseudoscalar"]},
    {"radial": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_trains_every_parameter_and_survives_json(options, tmp_path):
    model = small(**options)
    x = torch.randn(2, model.in_channels, 9, 8)
    model(x).square().sum().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not still
    again = build("GFNO", **json.loads(json.dumps(model.config)))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), model(x))
    model.double().save_pretrained(tmp_path)
    assert torch.equal(load(tmp_path)(x.double()), model(x.double()))


@pytest.mark.parametrize("norm", [None, "instance_norm"])
def test_derivatives_of_the_whole_model(norm):
    options = dict(hidden_channels=1, n_layers=2, group="p4", norm=norm)
    model = small((3, 3), **options).double()
    x = torch.randn(1, 1, 4, 5, dtype=torch.float64, requires_grad=True)
    parameters = [p for p in model.parameters()]

    def function(x, *parameters):
        named = dict(zip([n for n, _ in model.named_parameters()], parameters))
        return torch.func.functional_call(model, named, x)

    assert torch.autograd.gradcheck(function, (x, *parameters), nondet_tol=1e-10, atol=1e-4)
    assert torch.autograd.gradgradcheck(model, (x,), nondet_tol=1e-10, atol=1e-4)


@pytest.mark.parametrize("norm", [None, "instance_norm"])
def test_gradients_of_the_fused_model_are_those_of_float64(norm):
    model = small((9, 9), norm=norm, group="p4m", hidden_channels=5)
    twin = small((9, 9), norm=norm, group="p4m", hidden_channels=5).double()
    twin.load_state_dict(model.state_dict())
    x = torch.randn(2, 1, 16, 13)
    model(x).square().sum().backward()
    twin(x.double()).square().sum().backward()
    for (name, a), b in zip(model.named_parameters(), twin.parameters()):
        assert (a.grad - b.grad).norm() <= 1e-5 * b.grad.norm() + 1e-6, name


@pytest.mark.parametrize("norm", ["instance_norm"])  # the default form has a row in tests/tables.py
def test_compiles_as_one_graph(norm):
    model = small((4, 4), n_layers=1, norm=norm).eval()
    x = torch.randn(2, 1, 8, 9)
    report = torch._dynamo.explain(model)(x)
    assert report.graph_break_count == 0 and report.graph_count == 1
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    y, expected = compiled(x), model(x)
    assert (y - expected).norm() / expected.norm() <= 1e-5
    torch._dynamo.reset()


PUBLISHED = {"norm": "instance_norm", "group": "p4m", "in_kinds": "pseudoscalar"}


@pytest.mark.parametrize("options", [PUBLISHED], ids=str)
def test_exports_for_every_grid(options, tmp_path):
    model = small((8, 8), n_layers=1, **options).eval()
    model.normalizer.set([1.0], [2.0], [3.0], [4.0], increment=options == {})
    export.to_pt2(model, tmp_path / "m.pt2", torch.randn(1, 1, 12, 16))
    exported = export.load_pt2(tmp_path / "m.pt2")
    for shape in ((1, 1, 9, 32), (3, 1, 17, 17)):
        x = torch.randn(shape)
        with torch.no_grad():
            assert relative_l2(exported(x), model(x)).max() <= 1e-5


@pytest.mark.slow
def test_exports_with_time(tmp_path):
    model = small((6, 6, 4), n_layers=1).eval()
    export.to_pt2(model, tmp_path / "m.pt2", torch.randn(1, 1, 8, 9, 7))
    x = torch.randn(2, 1, 10, 8, 9)
    assert relative_l2(export.load_pt2(tmp_path / "m.pt2")(x), model.predict(x)).max() <= 1e-5


def test_a_step_of_training_is_the_same_on_turned_data():
    """So augmentation by the group would add nothing: gradients do not see how the data are turned."""
    model = small(group="p4m")
    x, y = torch.randn(2, 4, 1, 16, 16)
    grads = []
    for turn in GROUPS["p4m"]:
        model.zero_grad()
        (
            model(turn_field(x, turn, ("scalar",))) - turn_field(y, turn, ("scalar",))
        ).square().mean().backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    for g in grads[1:]:
        assert (g - grads[0]).norm() <= 1e-5 * grads[0].norm()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"n_modes": 16}, r"n_modes=16 needs one number of modes per axis of the plane"),
        ({"n_modes": (16,)}, r"n_modes=\(16,\) needs one number of modes per axis"),
        ({"n_modes": (8, 12)}, r"n_modes=\(8, 12\): the two axes that turn into each other need the same"),
        ({"group": "p6"}, "group='p6' is not one of 'p4', 'p4m'"),
        ({"in_kinds": ["tensor"]}, "in_kinds: unknown kind 'tensor'; there are scalar, pseudoscalar, vector"),
        (
            {"out_kinds": ["vector"]},
            r"out_kinds=\('vector',\) make 2 channels, a vector counting 2, but there",
        ),
        ({"positional_embedding": "grid"}, "='grid' is not one of 'symmetric', 'periodic', None"),
        ({"norm": "batch_norm"}, "norm='batch_norm' is not one of 'instance_norm', None"),
        ({"hidden_channels": 0}, "hidden_channels must be at least 1, got 0"),
        (
            {"radial": True, "in_kinds": "vector", "in_channels": 2},
            "cannot hold what an element of 'p4' changes: in_kinds must be scalars; use radial=False",
        ),
    ],
)
def test_options_that_do_not_exist_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        small(**options)


def test_inputs_that_do_not_fit_are_named():
    model = small()
    with pytest.raises(
        ValueError, match=r"GFNO was built for in_channels=1, got a tensor of shape \(1, 2, 9, 9\)"
    ):
        model(torch.zeros(1, 2, 9, 9))
    with pytest.raises(ValueError, match="out_grid=12 needs one size per space axis, 2 of them"):
        model(torch.zeros(1, 1, 9, 9), out_grid=12)
    with pytest.raises(ValueError, match="the input is torch.float64 and the model torch.float32"):
        model(torch.zeros(1, 1, 9, 9).double())
    with pytest.raises(ValueError, match="the last input channels are the frame .* give them the same kinds"):
        of_kinds(("scalar", "vector"), ("scalar",), group="p4").normalizer.set(
            [0] * 3, [1] * 3, [0], [1], True
        )


def test_it_is_among_the_public_names():
    assert opflow.GFNO is GFNO and "GFNO" in opflow.__all__
