"""Velocity networks, SemFlow and SymmFlow: losses against analytic ones, reversal, files, errors."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

import opflow
from opflow.rectified import (
    FunctionalFlow,
    GaussianProcess,
    Grey,
    OneHot,
    Palette,
    PermutationOT,
    SemFlow,
    SignedDistance,
    Straight,
    SymmFlow,
    VelocityNetwork,
    integrate,
)
from opflow.save import load_operator

UNET = {"class": "UNet", "config": {"hidden_channels": 8, "multipliers": (1, 2), "circular": True}}
FNO = {"class": "FNO", "config": {"n_modes": (4, 4), "hidden_channels": 6, "n_layers": 2}}
LOCALNO = {"class": "LocalNO", "config": {"n_modes": (4, 4), "hidden_channels": 6, "n_layers": 1}}
MINO = {"class": "MINO", "config": {"hidden_channels": 16, "radius": 0.4, "latent": (4, 4), "n_layers": 1}}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(n=4, size=8):
    field = torch.randn(n, 1, size, size, generator=seeded())
    return 3 * field + 5, (field[:, 0] > 0).long()


def fitted(flow):
    torch.manual_seed(0)
    flow.fit_normalizer(batch(64)[0])
    for parameter in flow.parameters():  # layers that start at zero would hide what they do
        torch.nn.init.normal_(parameter, std=0.1) if not parameter.any() else None
    return flow.eval()


def semflow(**options):
    torch.manual_seed(0)
    return fitted(SemFlow(UNET, Palette(2, 1), **options))


def symmflow(**options):
    torch.manual_seed(0)
    return fitted(SymmFlow(UNET, OneHot(2), **options))


def functional():
    torch.manual_seed(0)
    return fitted(FunctionalFlow(FNO, noise=GaussianProcess(length=0.3, highest=4)))


# Networks


@pytest.mark.parametrize("network", [UNET, FNO, LOCALNO], ids=lambda n: n["class"])
@pytest.mark.parametrize("n_times", [1, 2])
def test_networks_on_grids_know_every_time(network, n_times):
    torch.manual_seed(0)
    net = VelocityNetwork(network, 2, 3, n_times)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3) if not parameter.any() else None
    x, times = torch.randn(2, 2, 10, 8), torch.full((2, n_times), 0.4)
    y = net(x, times)
    assert y.shape == (2, 3, 10, 8)
    for i in range(n_times):
        moved = times.clone()
        moved[:, i] += 0.1
        assert (net(x, moved) - y).abs().max() > 1e-4


def test_networks_at_points_know_every_time_and_geometry():
    torch.manual_seed(0)
    net = VelocityNetwork(MINO, 2, 1, n_times=2)
    coords, x, times = torch.rand(30, 2), torch.randn(2, 30, 2), torch.full((2, 2), 0.4)
    y = net(x, times, coords)
    torch.testing.assert_close(net(x, times, net.geometry(coords)), y)
    for i in range(2):
        moved = times.clone()
        moved[:, i] += 0.1
        assert (net(x, moved, coords) - y).abs().max() > 1e-6


# SemFlow


def test_the_loss_of_semflow_is_the_mean_square_of_the_published_target():
    flow, (field, labels) = semflow(), batch()
    generator = seeded(5)
    z0, code = flow.normalize(field), 2.0 * labels[:, None] - 1
    z1 = code + flow.codec.gap / 2 * (torch.rand(code.shape, generator=generator) - 0.5)
    t = torch.rand(4, generator=generator)
    column = t.reshape(-1, 1, 1, 1)
    v = flow.network((1 - column) * z0 + column * z1, t[:, None])
    expected = (v - (z1 - z0)).square().mean()
    torch.testing.assert_close(flow.loss(field, labels, seeded(5)), expected)


@pytest.mark.parametrize("heads", ["velocity", "ends"])
def test_semflow_comes_back_to_the_field(heads):
    flow, (field, _) = semflow(heads=heads).double(), batch()
    field = field.double()
    options = {"method": "dopri5", "tolerance": 1e-6}
    there = flow.segment(field, **options)
    back = integrate(flow.velocity, there.flowed.samples, span=(1.0, 0.0), **options)
    start = flow.normalize(field)
    assert (there.flowed.samples - start).abs().max() > 0.1
    assert (back.samples - start).abs().max() <= 1e-3


def test_semflow_makes_other_fields_from_other_perturbations_only():
    flow, (_, labels) = semflow(), batch()
    a, b, c = (flow.synthesise(labels, seed=s, n_steps=3).samples for s in (0, 0, 1))
    assert torch.equal(a, b) and (a - c).abs().max() > 1e-3
    chunked = flow.synthesise(labels, seed=0, n_steps=3, chunk=3)
    torch.testing.assert_close(chunked.samples, a)
    assert chunked.nfe == 6


def test_one_step_of_two_heads_is_the_classifier():
    flow, (field, _) = semflow(heads="ends"), batch()
    output = flow.network(flow.normalize(field), torch.zeros(4, 1))
    found = flow.segment(field, n_steps=1).flowed.samples
    p = output[:, 1:].softmax(1)
    expected = flow.normalize(field) + (p[:, 1:] - p[:, :1]) - output[:, :1]
    torch.testing.assert_close(found, expected)


# SymmFlow


def test_the_published_loss_of_symmflow():
    torch.manual_seed(0)
    flow, (field, labels) = fitted(SymmFlow.published(UNET, Palette(2, 1))), batch()
    generator, s = seeded(3), 1e-4
    x = flow.normalize(field)
    code = 2.0 * labels[:, None] - 1
    y = code + flow.codec.gap / 2 * (torch.rand(code.shape, generator=generator) - 0.5)
    t = torch.rand(4, generator=generator)
    ex, ey = (torch.randn(x.shape, generator=generator) for _ in range(2))
    column = t.reshape(-1, 1, 1, 1)
    xt = (1 - (1 - s) * column) * ex + column * x
    yt = (1 - (1 - s) * column) * y + column * ey
    v = flow.network(torch.cat([xt, yt], 1), t[:, None])
    # Our velocity of the labels is that of their own time, 1 - t.
    first = (v[:, :1] - (x - (1 - s) * ex)).square().mean()
    second = (-v[:, 1:] - (ey - (1 - s) * y)).square().mean()
    torch.testing.assert_close(flow.loss(field, labels, seeded(3)), 0.7 * first + 0.3 * second)


def test_one_published_step_segments_by_noise_minus_velocity():
    torch.manual_seed(0)
    flow, (field, _) = fitted(SymmFlow.published(UNET, Grey(3))), batch()
    noise = torch.randn((4, 1, 8, 8), generator=seeded(2))
    v = flow.network(torch.cat([flow.normalize(field), noise], 1), torch.ones(4, 1))
    found = flow.segment(field, seed=2)
    torch.testing.assert_close(found.flowed.samples[:, 1:], noise + v[:, 1:])  # its velocity is minus ours
    mean = flow.classify(field, seed=2)
    assert torch.equal(mean.labels, flow.codec.decode((noise + v[:, 1:]).mean((2, 3))))


def test_one_improved_step_segments_as_the_classifier_whatever_the_noise():
    flow, (field, _) = symmflow(), batch()
    blank = torch.cat([flow.normalize(field), torch.zeros(4, 2, 8, 8)], 1)
    logits = flow.network(blank, torch.tensor([[1.0, 0.0]]).expand(4, 2))[:, 1:]
    for seed in (0, 1):
        found = flow.segment(field, seed=seed)
        assert torch.equal(found.labels, logits.argmax(1))
        torch.testing.assert_close(found.flowed.samples[:, 1:], flow.codec.mean(logits.softmax(1)))


def test_clean_ends_do_not_move():
    flow, (field, labels) = symmflow(), batch()
    found = flow.segment(field, seed=0, n_steps=4).flowed.samples
    torch.testing.assert_close(found[:, :1], flow.normalize(field))
    drawn = flow.synthesise(labels, seed=0, n_steps=4, keep=True).trajectory
    torch.testing.assert_close(drawn[:, :, 1:], flow.codec.encode(labels).expand(5, -1, -1, -1, -1))


@pytest.mark.parametrize("head", ["velocity", "target"])
def test_the_improved_loss_counts_what_is_not_clean(head):
    flow, (field, labels) = symmflow(weight=0.25, field_head=head, skew=2.0), batch(64)
    generator = seeded(4)
    x1, y1 = flow.normalize(field), flow.codec.encode(labels)
    sx, sy = flow._draw(64, generator, x1, False)
    x0 = torch.randn(x1.shape, generator=generator)
    y0 = torch.randn(y1.shape, generator=generator)
    a, b = sx.reshape(-1, 1, 1, 1), sy.reshape(-1, 1, 1, 1)
    x, y = (1 - a) * x0 + a * x1, (1 - b) * y0 + b * y1
    rho = (a**2 + (1 - a) ** 2).sqrt()
    shown, wanted = (x, x1 - x0) if head == "velocity" else (x / rho, ((1 - a) * x1 - a * x0) / rho)
    output = flow.network(torch.cat([shown, torch.where(b > 0, y, 0)], 1), torch.stack([sx, sy], 1))
    of_field = (output[:, :1] - wanted).square().mean((1, 2, 3))
    of_labels = cross_entropy(output[:, 1:], labels, reduction="none").mean((1, 2))
    assert ((sx == 1) | (sx < 1)).all() and (sx == 1).any() and (sy == 1).any() and (sy == 0).any()
    expected = (0.25 * of_field * (sx < 1) + 0.75 * of_labels * (sy < 1)).mean()
    torch.testing.assert_close(flow.loss(field, labels, seeded(4)), expected)


def test_labels_of_whole_fields_and_distances():
    flow, (field, _) = symmflow(), batch()
    whole = torch.tensor([0, 1, 1, 0])
    assert flow.loss(field, whole).isfinite()
    drawn = flow.synthesise(whole, (8, 6), seed=0, n_steps=2)
    assert drawn.samples.shape == (4, 1, 8, 6) and flow.classify(field).probabilities.shape == (4, 2)
    distances = fitted(SymmFlow(UNET, SignedDistance(2)))
    assert distances.loss(*batch()).isfinite() and distances.segment(field).labels.shape == (4, 8, 8)


@pytest.mark.parametrize("published", [True, False])
def test_the_loop_of_fixed_steps_goes_both_ways(published):
    torch.manual_seed(0)
    flow, (field, labels) = (
        SymmFlow.published(UNET, OneHot(2)) if published else SymmFlow(UNET, OneHot(2)),
        batch(),
    )
    flow = fitted(flow)
    there, back = (flow.fixed_steps("heun2", 3, synthesis=s, compile=False) for s in (True, False))
    drawn = [
        flow.synthesise(labels, seed=0, **o).samples
        for o in ({"method": "heun2", "n_steps": 3}, {"sampler": there})
    ]
    torch.testing.assert_close(*drawn)
    found = [
        flow.segment(field, seed=0, **o).flowed.samples
        for o in ({"method": "heun2", "n_steps": 3}, {"sampler": back})
    ]
    torch.testing.assert_close(*found)


def test_pairs_from_noise_alone():
    flow = symmflow()
    fields, labels = flow.sample(3, (6, 8), seed=0, n_steps=3)
    assert fields.samples.shape == (3, 1, 6, 8) and labels.shape == (3, 6, 8)
    with pytest.raises(ValueError, match="labels are clean where the field is noise"):
        fitted(SymmFlow.published(UNET, OneHot(2))).sample(3, (6, 8))


# Files and errors


@pytest.mark.parametrize("make", [semflow, symmflow, functional], ids=lambda f: f.__name__)
def test_a_flow_comes_back_from_its_folder(make, tmp_path):
    flow = make()
    flow.save_pretrained(tmp_path, grid=[8, 8])
    again = opflow.load(tmp_path)
    assert type(again) is type(flow) and not again.training
    field, labels = batch()
    batches = (field,) if make is functional else (field, labels)
    options = {"generator": seeded(3)}
    torch.testing.assert_close(again.loss(*batches, **options), flow.loss(*batches, generator=seeded(3)))
    with pytest.raises(ValueError, match="which is no map between fields"):
        load_operator(tmp_path)


def test_parts_come_back_too(tmp_path):
    flow = FunctionalFlow(
        FNO,
        noise=GaussianProcess(nugget=0.1),
        path=Straight(blur=1e-4),
        coupling=PermutationOT(),
        head="target",
    )
    flow.save_pretrained(tmp_path)
    again = opflow.load(tmp_path)
    assert (again.noise, again.path, again.coupling) == (flow.noise, flow.path, flow.coupling)
    codec = Palette(10, 3, levels=4, step=0.5, spread=True)
    SymmFlow.published(UNET, codec, channels=2).save_pretrained(tmp_path)
    again = opflow.load(tmp_path)
    assert (
        again.codec == codec
        and again.shared
        and not again.label_target
        and again.path == Straight(sigma=1e-4)
    )


def test_errors_of_the_models():
    field, labels = batch()
    for flow in (semflow(), symmflow()):
        with pytest.raises(ValueError, match=r"labels of shape \(4, 6, 8\) do not lie on the grid of fields"):
            flow.loss(field, labels[:, :6])
        with pytest.raises(ValueError, match="label 7 is outside of"):
            flow.loss(field, 7 * labels)
        with pytest.raises(
            ValueError, match=r"fields are \(batch, 1, \*space\), got a tensor of shape \(4, 2"
        ):
            flow.loss(field.expand(-1, 2, -1, -1), labels)
        with pytest.raises(ValueError, match="no solver is called 'rk5'; with fixed steps there are euler"):
            flow.synthesise(labels, method="rk5")
        with pytest.raises(ValueError, match="n_steps=0 must be at least 1"):
            flow.segment(field, n_steps=0)
        with pytest.raises(ValueError, match="chunk=0 must be at least 1"):
            flow.segment(field, chunk=0)
        with torch.no_grad():
            next(flow.network.parameters()).fill_(math.nan)
        with pytest.raises(FloatingPointError, match="not finite at step 0, time 0"):
            flow.segment(field)
    with pytest.raises(ValueError, match="a OneHot with 3 channels cannot be one end of a path whose other"):
        SemFlow(UNET, OneHot(3))
    with pytest.raises(ValueError, match="heads='ends' needs a codec with anchors"):
        SemFlow(UNET, SignedDistance(2), heads="ends")
    with pytest.raises(ValueError, match="times='both' is not one of 'separate', 'shared'"):
        SymmFlow(UNET, OneHot(2), times="both")
    with pytest.raises(ValueError, match="labels of whole fields need the grid"):
        symmflow().synthesise(torch.tensor([0, 1]))
    with pytest.raises(
        ValueError, match="'Nothing' is no Codec; there are Grey, OneHot, Palette, SignedDistance"
    ):
        SymmFlow(UNET, {"class": "Nothing"})
    with pytest.raises(ValueError, match="a Grey cannot be built from"):
        SymmFlow(UNET, {"class": "Grey", "colour": 3})
    with pytest.raises(ValueError, match="with one of FNO"):
        FunctionalFlow({"name": "FNO"})
