"""Certificates: what they measure is right, peers fail, ours pass what they claim."""

import inspect
import json
import math
import warnings

import pytest
import torch
from torch import nn

import opflow
from opflow import FNO, build, certify
from opflow.certification import Certificate, Row, on_sphere
from opflow.certification.claims import claims_of
from opflow.certification.inputs import periodic_fields
from opflow.cli import main
from opflow.equivariance import Symmetrize
from opflow.nn import fourier_resample
from opflow.operators import OPERATORS

BAND = {"non_linearity": "polynomial", "project": True}
KINDS = {"rep_in": ["pseudoscalar", "vector"], "rep_out": "pseudoscalar"}


def peer(name, **options):
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = dict(n_modes=(8, 8), in_channels=1, out_channels=1, hidden_channels=8, n_layers=2)
        return build(f"neuralop:{name}", **(arguments | options))


def local():
    return peer("LocalNO", default_in_shape=(32, 32), radius_cutoff=0.25, positional_embedding=None)


def rows(certificate, check):
    return [row for row in certificate.rows if row.check == check]


def verdicts(certificate, check):
    return {row.verdict for row in rows(certificate, check)}


class Known(nn.Module):
    """A map of fields with errors that are known in closed form."""

    def __init__(self, map, in_channels=1, **config):
        super().__init__()
        self.weight = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.map, self.in_channels, self.config = map, in_channels, config

    def forward(self, x):
        return self.map(self.weight * x)


# Ours: rows by the class in the registry, so that a class that joins it is certified. Each row is the model,
# the arguments of `certify`, and the checks that must be judged.
OURS = {
    "FNO": (
        lambda: FNO((9, 9), 1, 1, 8, n_layers=2, positional_embedding=None, **BAND),
        {},
        {"translation", "grid", "gradient"},
    ),
    "Symmetrize": (
        lambda: Symmetrize(FNO((9, 9), 3, 1, 8, positional_embedding=None, **BAND), "p4m", **KINDS),
        {},
        {"equivariance", "translation", "grid", "gradient"},
    ),
    "GFNO": (
        lambda: build(
            "GFNO",
            n_modes=(9, 9),
            in_channels=1,
            out_channels=1,
            hidden_channels=4,
            n_layers=2,
            group="p4m",
            in_kinds="pseudoscalar",
            out_kinds="pseudoscalar",
            positional_embedding=None,
        ),
        {},
        {"equivariance", "translation", "gradient"},
    ),
    "LocalNO": (
        lambda: build(
            "LocalNO",
            n_modes=(8, 8),
            in_channels=1,
            out_channels=1,
            hidden_channels=8,
            n_layers=2,
            positional_embedding=None,
        ),
        {"grids": [48, 64, 96], "translation": True, "tolerance": {"grid": 0.05}},
        {"translation", "grid", "gradient"},
    ),
    "MINO": (
        lambda: build(
            "MINO", in_channels=1, out_channels=1, hidden_channels=16, radius=0.3, latent=(4, 4), n_layers=1
        ),
        {},
        {"permutation", "gradient"},
    ),
    "LocalSFNO": (lambda: sphere(), {}, {"rotation", "gradient"}),
    "UNet": (
        lambda: build("UNet", in_channels=1, out_channels=1, hidden_channels=8, multipliers=(1, 2)),
        {},
        {"gradient"},
    ),
    "ConvNeXtUNet": (
        lambda: build("ConvNeXtUNet", in_channels=1, out_channels=1, hidden_channels=8, levels=2, blocks=1),
        {},
        {"gradient"},
    ),
    "PatchTransformer": (
        lambda: build(
            "PatchTransformer", in_channels=1, out_channels=1, hidden_channels=16, n_layers=1, heads=2
        ),
        {},
        {"gradient"},
    ),
}
OTHERS = {"NeuralopModel"}  # the peers below


def sphere(n_modes=5, **options):
    pytest.importorskip("torch_harmonics")
    return opflow.LocalSFNO(n_modes, 1, 1, 4, n_layers=2, **options)


def test_every_operator_has_a_row():
    assert set(OURS) | OTHERS == set(OPERATORS) and not set(OURS) & OTHERS


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", OURS)
def test_ours_keep_what_they_claim(name, dtype):
    torch.manual_seed(0)
    make, arguments, judged = OURS[name]
    certificate = certify(make().to(dtype), **arguments)
    assert {row.check for row in certificate.rows if row.verdict == "pass"} == judged, certificate
    assert certificate.passed


def test_points_are_sampled_in_the_domain_of_the_model():
    """The same model in other units of length has the same certificate."""
    found = []
    for domain, radius in ((None, 0.3), ([(20.0, 60.0), (-10.0, 30.0)], 12.0)):
        torch.manual_seed(0)
        model = opflow.MINO(1, 1, hidden_channels=16, radius=radius, latent=(4, 4), n_layers=1, domain=domain)
        certificate = certify(model.double(), group="SO(2)")
        assert verdicts(certificate, "equivariance") == {"fail"}
        assert verdicts(certificate, "permutation") == {"pass"}
        found.append([row.value for row in rows(certificate, "equivariance") + rows(certificate, "mesh")])
    assert found[1] == pytest.approx(found[0], rel=1e-6) and min(found[0]) > 1e-6


@pytest.mark.parametrize("method", ["average", "frame", "canonical"])
def test_neuraloperators_fno_fails_under_rotation_and_wrapped_it_passes(method):
    inner = peer("FNO", in_channels=3)
    kinds = dict(in_kinds=KINDS["rep_in"], out_kinds=KINDS["rep_out"])
    plain = certify(inner, group="p4", **kinds)
    assert not plain.passed and verdicts(plain, "equivariance") == {"fail"}
    wrapped = certify(Symmetrize(inner, "p4", method=method, **KINDS))
    assert wrapped.passed and verdicts(wrapped, "equivariance") == {"pass"}


def test_neuraloperators_localno_fails_on_other_grids_and_under_shifts():
    certificate = certify(local(), grids=[32, 48, 64], translation=True, tolerance=0.05)
    assert verdicts(certificate, "grid") == verdicts(certificate, "translation") == {"fail"}
    with pytest.raises(ValueError, match=r"neuralop:LocalNO fails 4 of 4 checks: translation by one point: "):
        certify(local(), grids=[32, 48, 64], translation=True, strict=True)


@pytest.mark.parametrize("dtype, most", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_alias_free_layers_beside_gelu(dtype, most):
    """From 3K+1 points on nothing changes; a GELU network on 3K points is off by percents."""
    k = 8
    torch.manual_seed(0)
    ours = FNO((2 * k + 1,) * 2, 1, 1, 12, positional_embedding=None, **BAND).to(dtype)
    usual = FNO((2 * k,) * 2, 1, 1, 32, positional_embedding=None).to(dtype)
    ladder = [3 * k + 1, 4 * k, 5 * k + 3, 8 * k]
    for finest in (4 * k, 8 * k):
        found = rows(certify(ours, grids=[n for n in ladder if n <= finest]), "grid")
        assert len(found) == ladder.index(finest) and all(row.value <= most for row in found)
    coarse, fine = rows(certify(usual, grids=[3 * k, 6 * k, 8 * k]), "grid")
    assert coarse.value >= 1e-2 and fine.value < coarse.value / 3 and coarse.verdict == "fail"


def test_errors_are_those_of_the_definition():
    # f(u) = n u on n points.
    counts = certify(Known(lambda u: u.shape[-1] * u), grids=[8, 16, 32])
    assert [row.value for row in rows(counts, "grid")] == pytest.approx([0.75, 0.5], rel=1e-9)
    # A derivative changes its sign when its axis is mirrored, and is orthogonal to the other one.
    x = periodic_fields(1, 1, (12, 12), torch.zeros((), dtype=torch.float64))
    derivative = certify(Known(lambda u: u.roll(-1, 2) - u.roll(1, 2)), group="p4m", fields=x)
    found = {row.what: row.value for row in rows(derivative, "equivariance")}
    assert found["p4m: reflection of x"] == found["p4m: rotation by 180"] == pytest.approx(2)
    assert found["p4m: reflection of y"] < 1e-12
    # A gradient is a vector.
    both = Known(lambda u: torch.cat([u.roll(-1, a) - u.roll(1, a) for a in (2, 3)], 1))
    assert certify(both, group="p4m", out_kinds="vector").passed
    assert not certify(both, group="p4m").passed
    # A weight that depends on the place.
    ramp = Known(lambda u: u * torch.arange(u.shape[-1]))
    assert verdicts(certify(ramp, translation=True), "translation") == {"fail"}


def test_wrong_derivatives_are_found():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**2

        @staticmethod
        def backward(ctx, gradient):
            return 1.999 * ctx.saved_tensors[0] * gradient

    assert verdicts(certify(Known(Wrong.apply)), "gradient") == {"fail"}
    assert verdicts(certify(Known(torch.square)), "gradient") == {"pass"}


def test_what_is_not_finite_fails():
    certificate = certify(Known(lambda u: u / (u - u)), group="p4", translation=True)
    assert not certificate.passed and "pass" not in verdicts(certificate, "equivariance")


@pytest.mark.parametrize(
    "model, claimed",
    [
        (lambda: FNO((4, 4), 1, 1, 4), set()),
        (lambda: FNO((4, 4), 1, 1, 4, positional_embedding=None), {"translation"}),
        (lambda: FNO((4, 4), 1, 1, 4, positional_embedding=None, domain_padding=0.1), set()),
        (lambda: FNO((4, 4), 1, 1, 4, **BAND), {"alias_free"}),
        (lambda: peer("FNO"), set()),
        (lambda: peer("FNO", positional_embedding=None), {"translation"}),
        (
            lambda: Symmetrize(FNO((4, 4), 1, 1, 4, **BAND), "p4"),
            {"group", "in_kinds", "out_kinds", "alias_free"},
        ),
        (lambda: nn.Conv2d(1, 1, 1), set()),
    ],
)
def test_claims_are_read_from_the_arguments(model, claimed):
    assert {name for name, value in vars(claims_of(model())).items() if value} == claimed


def test_unclaimed_properties_are_shown_and_judged_when_asked_for():
    torch.manual_seed(0)
    model = FNO((6, 6), 1, 1, 4, n_layers=2).train()
    certificate = certify(model)
    assert certificate.passed and model.training
    for check in ("equivariance", "translation", "grid"):
        assert verdicts(certificate, check) == {"shown"}
    for arguments, check in (
        ({"group": "p4"}, "equivariance"),
        ({"grids": [18, 24]}, "grid"),
        ({"translation": True}, "translation"),
    ):
        asked = certify(model, **arguments)
        assert {row.check for row in asked.failed} == {check}
    silenced = certify(FNO((6, 6), 1, 1, 4, n_layers=1, positional_embedding=None), translation=False)
    assert verdicts(silenced, "translation") == {"shown"}


def test_fields_of_the_user_and_tolerances():
    torch.manual_seed(0)
    model = FNO((6, 6), 2, 1, 4, n_layers=2, positional_embedding=None)
    x = fourier_resample(torch.randn(3, 2, 9, 9), (24, 20))
    certificate = certify(
        model, fields=x, grids=[16, (12, 14)], tolerance={"grid": 10.0, "translation": 1e-4}
    )
    assert [row.what for row in rows(certificate, "grid")] == [
        "grid of 12 x 14 points, against 24 x 20",
        "grid of 16 x 16 points, against 24 x 20",
    ]
    assert {row.tolerance for row in rows(certificate, "translation")} == {1e-4}
    assert certificate.passed
    assert not certify(model, tolerance=1e-30).passed


@pytest.mark.parametrize("n_dim", [1, 3])
def test_other_dimensions(n_dim):
    torch.manual_seed(0)
    model = FNO((5,) * n_dim, 1, 1, 4, n_layers=1, positional_embedding=None, **BAND)
    certificate = certify(model)
    assert certificate.passed and verdicts(certificate, "grid") == {"pass"}
    assert bool(rows(certificate, "equivariance")) == (n_dim == 3)


def test_fields_on_all_grids_are_the_same_functions():
    like = torch.zeros((), dtype=torch.float64)
    fine, coarse = (periodic_fields(2, 5, grid, like) for grid in ((30, 33), (11, 11)))
    torch.testing.assert_close(fourier_resample(fine, (11, 11)), coarse, rtol=0, atol=1e-12)
    torch.testing.assert_close(fine.square().mean((2, 3)), torch.ones(2, 2).double(), rtol=1e-9, atol=0)


# The sphere


@pytest.mark.parametrize(
    "options", [{}, {"grid": "gauss", "positional_embedding": None}, {"radius_cutoff": 0.3}]
)
def test_models_on_the_sphere_turn_about_its_axis(options):
    torch.manual_seed(0)
    model = sphere(**options)
    certificate = certify(model)
    assert certificate.passed and [row.what for row in rows(certificate, "rotation")] == [
        "rotation about the axis by one point",
        "rotation about the axis by a third of the circle",
    ]
    assert not {"translation", "grid", "equivariance"} & {row.check for row in certificate.rows}
    assert not claims_of(model).translation and claims_of(model).rotation
    assert verdicts(certify(Symmetrize(model, "mx")), "equivariance") == {"pass"}
    # North and south differ by the embedding alone.
    mirrored = certify(model, group="mx", tolerance={"equivariance": 1e-4})
    assert mirrored.passed == (model.positional_embedding is None)
    assert certify(model, fields=torch.randn(2, 1, 41, 30)).passed


def test_a_model_that_knows_longitudes_fails_there():
    model = sphere()
    model.operate = lambda x, out_grid: x * torch.arange(x.shape[-1]).to(x)
    assert verdicts(certify(model), "rotation") == {"fail"}


def test_fields_on_the_sphere_have_no_seam():
    fields = on_sphere.random_fields(sphere(4), 2, torch.zeros((), dtype=torch.float64))
    # At a pole all longitudes are one point.
    assert fields[:, :, [0, -1]].std(-1).max() < 1e-12 and fields.std() > 0.5


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"group": "p4"}, "group='p4' turns latitudes into longitudes, .*: use 'mx', 'my', 'p2mm'"),
        ({"translation": True}, "translation=True asks for shifts along all axes, and latitudes cannot"),
        ({"grids": [16, 32]}, r"grids=\[16, 32\] cannot be compared on the sphere"),
    ],
)
def test_what_the_sphere_does_not_have_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        certify(sphere(), **arguments)


# Clouds


class Attention(nn.Module):
    """Softmax over the points with quadrature weights: independent of order and, nearly, of the mesh."""

    def __init__(self, weighted=True, ordered=True):
        super().__init__()
        self.linear = nn.Linear(2, 8)
        self.out = nn.Linear(8, 1)
        self.weighted, self.ordered = weighted, ordered

    def forward(self, values, coords, query_coords=None, weights=None):
        coords = coords.expand(len(values), -1, -1)
        query = coords if query_coords is None else query_coords.expand(len(values), -1, -1)
        score = -(torch.cdist(query, coords) ** 2) / 0.1
        if self.weighted and weights is not None:
            score = score + weights.log()
        if not self.ordered:
            score = score + torch.arange(coords.shape[1]).to(score) / 10
        features = torch.tanh(self.linear(torch.cat([values, coords[..., :1]], -1)))
        return self.out(score.softmax(-1) @ features)


def test_clouds_are_measured_by_order_mesh_and_turns():
    torch.manual_seed(0)
    arguments = dict(in_kinds=["scalar"], out_kinds=["scalar"])
    certificate = certify(
        Attention().double(), grids=[16, 32], group="SO(2)", tolerance={"mesh": 0.1}, **arguments
    )
    assert verdicts(certificate, "permutation") == verdicts(certificate, "mesh") == {"pass"}
    assert verdicts(certificate, "equivariance") == {"fail"} and verdicts(certificate, "gradient") == {"pass"}
    unweighted = certify(Attention(weighted=False).double(), grids=[16, 32], **arguments)
    assert rows(unweighted, "mesh")[-1].value > 2 * rows(certificate, "mesh")[-1].value
    assert verdicts(certify(Attention(ordered=False).double(), **arguments), "permutation") == {"fail"}


@pytest.mark.parametrize("group", ["SO(2)", "O(2)"])
def test_wrapped_clouds_pass(group):
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.float64):
        wrapped = Symmetrize(Attention().to(dtype), group, ["scalar"], ["scalar"], "frame")
        certificate = certify(wrapped)
        assert certificate.passed and verdicts(certificate, "equivariance") == {"pass"}, certificate
        assert verdicts(certificate, "mesh") == {"shown"}


# Tables, files, command


def test_tables_and_json(tmp_path):
    certificate = certify(FNO((4, 4), 1, 1, 4, n_layers=1), group="p4")
    lines = str(certificate).splitlines()
    assert lines[0].split() == ["FNO,", "float32", "error", "tolerance", "verdict"]
    assert lines[1].startswith("p4: rotation by 90") and lines[1].endswith("FAIL")
    certificate.write(tmp_path / "c.json")
    read = json.loads((tmp_path / "c.json").read_text())
    assert read == json.loads(json.dumps(certificate.to_dict()))
    assert not read["passed"] and read["rows"][0]["verdict"] == "fail"
    skipped = [row for row in certify(peer("FNO")).rows if row.verdict == "skipped"]
    assert {row.check for row in skipped} == {"gradient"} and "does not run in float64" in skipped[0].remark
    assert math.isnan(Row("grid", "", math.nan, 1.0, "fail").value) and not Certificate("", "", ()).failed


def test_the_command(tmp_path, capsys):
    torch.manual_seed(0)
    FNO((7, 7), 1, 1, 6, n_layers=1, **BAND).save_pretrained(tmp_path)
    assert main(["certify", str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert "derivative by the weights, float64" in shown.out and not shown.err
    assert json.loads((tmp_path / "certificate.json").read_text())["passed"]
    assert main(["certify", str(tmp_path), "--group", "p4", "--grids", "16", "20"]) == 1
    shown = capsys.readouterr()
    assert "FAIL" in shown.out and shown.err.startswith(
        "opflow: error: FNO fails 3 of 6 checks: p4: rotation"
    )
    assert not json.loads((tmp_path / "certificate.json").read_text())["passed"]
    assert main(["certify", str(tmp_path), "--group", "p4", "--tolerance", "10"]) == 0
    assert main(["certify", str(tmp_path), "--group", "p6"]) == 1
    assert "unknown group 'p6': for models on grids there are p4, p4m" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"group": "SO(2)"}, r"unknown group 'SO\(2\)': for models on grids there are p4, p4m"),
        ({"grids": [32, 2]}, r"grids=\[32, 2\]: expected numbers of points, at least 4"),
        ({"grids": [(16, 16, 16), (32, 32, 32)]}, "one of them per space axis, 2 each"),
        ({"tolerance": {"gird": 1.0}}, "tolerance names no check gird; there are equivariance, translation"),
        ({"group": "p4", "in_kinds": "vector"}, "in_kinds=.* make 0 channels, a vector counting 2"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        certify(FNO((4, 4), 1, 1, 4, n_layers=1), **arguments)


@pytest.mark.parametrize(
    "make, arguments, words",
    [
        (
            lambda: FNO((8,), 1, 1, 4),
            {"group": "p4"},
            "group='p4' turns two space axes, and the fields have one: leave group out",
        ),
        (OURS["MINO"][0], {"translation": True}, "translation=True .* the model works at points: give group"),
        (
            OURS["MINO"][0],
            {"fields": (torch.zeros(2, 9, 1), torch.rand(9, 2)), "grids": [12, 24]},
            r"grids=\[12, 24\] asks for meshes of one function, .*: leave out fields",
        ),
        (OURS["MINO"][0], {"grids": [12]}, r"grids=\[12\] leaves nothing to compare: give at least two"),
        (OURS["FNO"][0], {"grids": [32]}, r"grids=\[32\] leaves nothing to compare: give at least two"),
        (
            OURS["FNO"][0],
            {"grids": [16, 48], "fields": torch.zeros(1, 1, 32, 32)},
            r"grids=\[16, 48\]: expected grids coarser than that of the fields, \(32, 32\)",
        ),
    ],
)
def test_what_is_asked_for_is_measured_or_refused(make, arguments, words):
    with pytest.raises(ValueError, match=words):
        certify(make(), **arguments)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_precisions_are_named(dtype):
    words = f"the model has weights in {dtype}, and certificates are made in torch.float32 or torch.float64"
    with pytest.raises(ValueError, match=words):
        certify(OURS["UNet"][0]().to(dtype))


def test_a_module_must_tell_its_channels():
    with pytest.raises(ValueError, match="a Attention does not tell its in_channels: give in_kinds"):
        certify(Attention())


def test_the_door():
    assert inspect.isfunction(opflow.certify) and opflow.Certificate is Certificate
