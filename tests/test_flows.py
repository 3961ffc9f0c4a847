"""Flows: densities against dense Jacobians and integrals, round trips after training, conditions, files."""

import itertools
import json
import math

import pytest
import torch
from torch.autograd.functional import jacobian

import opflow
from opflow.flows import CInCFlow, FieldFlow, FInCFlow, ImageFlow, InverseFlow
from opflow.flows.table import COUPLINGS, LAYERS

KINDS = [(layer, "affine") for layer in LAYERS] + [("cinc", "quad"), ("finc", "spline")]


def blobs(n: int, seed: int = 0) -> torch.Tensor:
    """Images of one bright spot each, 16 values, 8 x 4 pixels."""
    generator = torch.Generator().manual_seed(seed)
    row, column = (torch.rand(n, 1, 1, generator=generator) * side for side in (8, 4))
    i, j = torch.arange(8)[:, None], torch.arange(4)
    spot = 15 * torch.exp(-((i - row) ** 2 + (j - column) ** 2) / 4)
    return (spot + torch.rand(n, 8, 4, generator=generator)).floor().clamp(0, 15).long()[:, None]


def small_image_flow(layer: str = "finc", coupling: str = "affine", **options) -> ImageFlow:
    torch.manual_seed(0)
    options = {"levels": 2, "steps": 2, "hidden_channels": 16, "bins": 16} | options
    return ImageFlow((1, 8, 4), layer=layer, coupling=coupling, **options)


def train(flow, loss, steps: int = 40, learning_rate: float = 1e-2) -> list[float]:
    optimizer = torch.optim.Adamax(flow.parameters(), learning_rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        losses.append(float(value.detach()))
    flow.eval()
    return losses


def trained(layer: str, coupling: str, **options) -> ImageFlow:
    flow = small_image_flow(layer, coupling, **options)
    images = blobs(128)
    losses = train(flow, lambda: flow.bits_per_dim(images).mean())
    assert losses[-1] < losses[1] - 0.3  # it has learned
    return flow


def scattered(flow):
    torch.manual_seed(1)
    for p in flow.parameters():
        p.data += 0.1 * torch.randn_like(p)
    return flow.double().eval()


@pytest.mark.parametrize("layer, coupling", KINDS)
def test_log_determinants_of_whole_models_are_dense(layer, coupling):
    arguments = {"levels": 2, "steps": 2, "layer": layer, "coupling": coupling, "hidden_channels": 6}
    for flow in (ImageFlow((3, 4, 8), **arguments), FieldFlow((3, 8, 4), **arguments)):
        x = torch.rand(2, *flow.shape, dtype=torch.float64)
        if isinstance(flow, FieldFlow):
            flow.fit_normalization(5 + 3 * torch.randn(50, *flow.shape))
        scattered(flow)
        dense = jacobian(lambda v, flow=flow: flow.encode(v), x[:1]).reshape(96, 96)
        z, logdet = flow(x)
        torch.testing.assert_close(logdet[0], torch.linalg.slogdet(dense)[1], rtol=1e-9, atol=1e-9)
        normal = torch.distributions.Normal(0, 1).log_prob(z).sum(1)
        torch.testing.assert_close(flow.log_prob(x), normal + logdet, rtol=1e-12, atol=1e-10)
        torch.testing.assert_close(flow.inverse(z)[1], -logdet, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layer, shape", [("glow", (2, 1, 1)), ("cinc", (2, 1, 1)), ("inverse", (2, 1, 1))])
def test_densities_integrate_to_one(layer, shape):
    flow = scattered(FieldFlow(shape, levels=0, steps=2, layer=layer, hidden_channels=8, circular=False))
    side = torch.linspace(-20, 20, 401, dtype=torch.float64)
    x = torch.cartesian_prod(side, side).view(-1, *shape)
    with torch.no_grad():
        total = float(flow.log_prob(x).exp().sum()) * float(side[1] - side[0]) ** 2
    assert abs(total - 1) < 1e-3


@pytest.mark.parametrize(
    "layer, coupling, shape", [("cinc", "affine", (2, 1, 2)), ("finc", "spline", (4, 1, 1))]
)
def test_densities_in_four_dimensions_integrate_to_one(layer, coupling, shape):
    options = {"layer": layer, "coupling": coupling, "hidden_channels": 4, "circular": False}
    flow = scattered(FieldFlow(shape, levels=0, steps=1, **options))
    side = torch.linspace(-7, 7, 29, dtype=torch.float64)
    x = torch.cartesian_prod(*[side] * 4).view(-1, *shape)
    with torch.no_grad():
        total = sum(float(flow.log_prob(part).exp().sum()) for part in x.split(200_000))
    assert abs(total * float(side[1] - side[0]) ** 4 - 1) < 5e-3


@pytest.mark.parametrize("layer, coupling", KINDS)
def test_round_trips_after_training(layer, coupling):
    flow, images = trained(layer, coupling), blobs(64, seed=1)
    x = (images + torch.rand(images.shape)) / 16
    z = torch.randn(256, 32)  # fresh: nearer to failure than the latents of data
    with torch.no_grad():
        assert (flow.decode(flow.encode(x)) - x).abs().max() <= 1e-4
        assert (flow.encode(flow.decode(z)) - z).abs().max() <= 1e-4
        y, _ = flow.body.inverse(z)
        assert (flow.body(y)[0] - z).abs().max() <= 1e-4
        assert abs(float((flow.body(y)[1] + flow.body.inverse(z)[1]).abs().max())) <= 1e-3
        flow.double()
        x, z = x.double(), z.double()
        assert (flow.decode(flow.encode(x)) - x).abs().max() <= 1e-9
        assert (flow.encode(flow.decode(z)) - z).abs().max() <= 1e-9


def test_bits_per_dim_is_the_density_of_dequantised_images():
    flow, images = scattered(small_image_flow()), blobs(4)
    torch.manual_seed(5)
    bits = flow.bits_per_dim(images)
    torch.manual_seed(5)
    x = (images + torch.rand(images.shape, dtype=torch.float64)) / 16
    expected = -(flow.log_prob(x) - 32 * math.log(16)) / (32 * math.log(2))
    torch.testing.assert_close(bits, expected, rtol=1e-12, atol=1e-12)
    averaged = torch.stack([flow.bits_per_dim(images, draws=20) for _ in range(5)])
    single = torch.stack([flow.bits_per_dim(images) for _ in range(20)])
    assert averaged.std(0).mean() < 0.4 * single.std(0).mean()


def test_bits_of_one_pixel_sum_to_a_probability():
    """Over all images of a tiny space, two to the minus bits sums to at most one: it is a bound."""
    flow = scattered(ImageFlow((1, 2, 2), levels=1, steps=1, hidden_channels=4, bins=3))
    every = torch.tensor(list(itertools.product(range(3), repeat=4))).view(-1, 1, 2, 2)
    with torch.no_grad():
        total = float((2.0 ** (-4 * flow.bits_per_dim(every, draws=200))).sum())
    assert 0.1 < total <= 1.0


def test_variational_dequantisation_trains_and_tightens_the_bound():
    flow = trained("glow", "affine", dequantization="variational")
    images = blobs(64, seed=1)
    with torch.no_grad():
        bits = flow.bits_per_dim(images, draws=4).mean()
    assert torch.isfinite(bits) and bits < math.log2(16)
    gradients = [p.grad is not None and p.grad.abs().max() > 0 for p in flow.dequantize.parameters()]
    assert any(gradients)


CONDITIONS = {
    "class": (3, lambda n: torch.arange(n) % 3),
    "vector": ((2,), lambda n: torch.linspace(-1, 1, 2 * n).view(n, 2)),
    "field": ((2, 8, 4), lambda n: torch.linspace(-1, 1, 64 * n).view(n, 2, 8, 4)),
}


@pytest.mark.parametrize("kind", CONDITIONS)
def test_conditions_change_density_and_samples(kind):
    condition, make = CONDITIONS[kind]
    flow = scattered(small_image_flow(condition=condition))
    x, cond = torch.rand(6, 1, 8, 4, dtype=torch.float64), make(6)
    z = flow.encode(x, cond)
    torch.testing.assert_close(flow.decode(z, cond), x, atol=1e-9, rtol=0)
    rolled = flow.log_prob(x, cond.roll(1, 0))
    assert ((flow.log_prob(x, cond) - rolled).abs() > 1e-3).all()
    # One condition without a batch axis goes with all samples.
    torch.testing.assert_close(flow.log_prob(x, cond[2]), flow.log_prob(x, cond[2:3].expand_as(cond)))
    distribution = flow.distribution(cond)
    assert distribution.batch_shape == (6,) and distribution.event_shape == (1, 8, 4)
    sample = distribution.sample((5,))
    assert sample.shape == (5, 6, 1, 8, 4)
    rows = torch.stack([flow.log_prob(s, cond) for s in sample])
    torch.testing.assert_close(distribution.log_prob(sample), rows)
    torch.testing.assert_close(distribution.expand((5, 6)).log_prob(sample), rows)
    assert flow.distribution(cond[0]).batch_shape == ()
    assert flow.sample(4, cond=cond[1]).shape == (4, 1, 8, 4)


def test_a_class_is_learned():
    """Bright images of one class, dark ones of the other: samples follow the label."""
    torch.manual_seed(0)
    labels = torch.arange(128) % 2
    images = (torch.rand(128, 1, 4, 4) * 4 + 10 * labels[:, None, None, None]).long()
    flow = ImageFlow((1, 4, 4), levels=1, steps=2, hidden_channels=16, bins=16, condition=2)
    train(flow, lambda: flow.bits_per_dim(images, labels).mean(), learning_rate=1e-2)
    dark, bright = (flow.quantize(flow.sample(64, cond=torch.tensor(c))).float().mean() for c in (0, 1))
    assert dark < 4 and bright > 9


def test_samples_follow_seed_temperature_and_batches():
    flow = scattered(small_image_flow())

    def draw(seed: int = 0, **options) -> torch.Tensor:
        return flow.sample(10, generator=torch.Generator().manual_seed(seed), **options)

    assert torch.equal(draw(), draw()) and not torch.equal(draw(), draw(seed=1))
    torch.testing.assert_close(draw(batch_size=10), draw())
    assert draw(batch_size=3).shape == (10, 1, 8, 4) and flow.sample(0).shape == (0, 1, 8, 4)
    assert torch.equal(draw(temperature=0)[0], draw(temperature=0)[9])
    z = torch.randn(10, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(draw(temperature=0.7), flow.decode(0.7 * z))
    quantized = flow.quantize(draw())
    assert quantized.dtype == torch.uint8 and int(quantized.max()) <= 15


def test_a_progress_bar_is_shown_when_asked_for(capsys):
    small_image_flow().eval().sample(5, batch_size=2, progress=True)
    assert "5/5" in capsys.readouterr().err
    small_image_flow().eval().sample(5, batch_size=2)
    assert capsys.readouterr().err == ""  # no terminal


def test_samples_are_distributed_as_the_density_says():
    """Mean of 1 / p over samples in a box is its volume: sampling and log_prob are of one distribution."""
    flow = scattered(FieldFlow((2, 1, 1), levels=0, steps=2, layer="cinc", hidden_channels=8, circular=False))
    x = flow.sample(50_000, batch_size=10_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        weights = (-flow.log_prob(x)).exp() * (x.abs() < 1).flatten(1).all(1) / 4
    assert abs(float(weights.mean()) - 1) < 4 * float(weights.std()) / math.sqrt(len(x)) < 0.05


@pytest.mark.parametrize("flow", ["image", "field"])
def test_files_give_the_same_flow(flow, tmp_path):
    options = {"levels": 1, "steps": 2, "hidden_channels": 8, "layer": "inverse", "condition": (1, 8, 4)}
    if flow == "image":
        flow = ImageFlow((2, 8, 4), bins=16, dequantization="variational", coupling="quad", **options)
    else:
        flow = FieldFlow((2, 8, 4), gain_bound=None, **options)
        flow.fit_normalization(3 + 2 * torch.randn(20, 2, 8, 4))
    x, cond = torch.rand(4, 2, 8, 4), torch.randn(4, 1, 8, 4)
    flow.log_prob(x, cond)  # sets ActNorm
    flow.eval()
    flow.save_pretrained(tmp_path, units="1/s")
    loaded = opflow.load(tmp_path)
    assert type(loaded) is type(flow) and loaded.config == json.loads(json.dumps(flow.config))
    assert not loaded.training
    assert torch.equal(loaded.log_prob(x, cond), flow.log_prob(x, cond))
    generators = [torch.Generator().manual_seed(3) for _ in range(2)]
    samples = [f.sample(4, cond=cond, generator=g) for f, g in zip((flow, loaded), generators)]
    assert torch.equal(*samples)
    loaded.train().log_prob(x / 2, cond)  # the first batch was seen before the file was written
    assert torch.equal(loaded.eval().log_prob(x, cond), flow.log_prob(x, cond))


def test_named_flows_are_rows_of_the_table():
    for make, layer, coupling in (
        (CInCFlow, "cinc", "quad"),
        (FInCFlow, "finc", "affine"),
        (InverseFlow, "inverse", "affine"),
    ):
        config = make((1, 8, 8), steps=1, hidden_channels=4).config
        assert (config["layer"], config["coupling"]) == (layer, coupling)
        assert make((1, 8, 8), steps=1, hidden_channels=4, coupling="spline").config["coupling"] == "spline"
    assert set(COUPLINGS) == {"affine", "quad", "spline"}


def flow(**options) -> ImageFlow:
    return ImageFlow((3, 8, 8), **{"steps": 1, "hidden_channels": 4} | options)


REFUSED = [
    (lambda: flow(levels=4), ValueError, r"2\*\*levels must divide both sides of \(8, 8\)"),
    (lambda: flow(layer="glw"), ValueError, "layer must be one of glow, cinc, finc, inverse, got 'glw'"),
    (lambda: flow(coupling="x"), ValueError, "coupling must be one of affine, quad, spline, got 'x'"),
    (lambda: flow(steps=0), ValueError, "steps must be at least 1, got 0"),
    (lambda: flow(bins=1), ValueError, "bins.*at least 2, got 1"),
    (lambda: flow(dequantization="none"), ValueError, "uniform or variational, got 'none'"),
    (lambda: flow(condition=(1, 4, 4)), ValueError, r"on the grid \(8, 8\)"),
    (lambda: FieldFlow((6, 4, 4), levels=0, layer="finc"), ValueError, "four equal groups, got channels=6"),
    (lambda: flow().log_prob(torch.zeros(2, 3, 8, 8).byte()), TypeError, "integers go to bits_per_dim"),
    (
        lambda: flow().log_prob(torch.zeros(2, 1, 8, 8)),
        ValueError,
        r"shape=\(3, 8, 8\), got .*\(2, 1, 8, 8\)",
    ),
    (lambda: flow().log_prob(torch.full((2, 3, 8, 8), math.nan)), ValueError, "not exist|not finite"),
    (lambda: flow().bits_per_dim(torch.zeros(2, 3, 8, 8)), TypeError, "takes integers from 0 to 255"),
    (lambda: flow(bins=8).bits_per_dim(torch.full((2, 3, 8, 8), 9)), ValueError, "bins=10"),
    (lambda: flow().sample(2, temperature=-1), ValueError, "must not be negative, got -1"),
    (lambda: flow().decode(torch.zeros(2, 5)), ValueError, r"shape \(batch, 192\), got \(2, 5\)"),
    (lambda: flow().sample(2, cond=torch.zeros(2)), ValueError, "has no condition: leave cond out"),
    (lambda: flow(condition=3).sample(2), ValueError, "condition=3: pass cond"),
    (lambda: flow(condition=3).sample(2, cond=torch.tensor([0, 3])), ValueError, "integers from 0 to 2"),
    (lambda: flow(condition=3).sample(2, cond=torch.zeros(2)), ValueError, "integers from 0 to 2"),
    (lambda: flow(condition=(2,)).sample(2, cond=torch.zeros(2, 3)), ValueError, r"shape \(batch, 2\)"),
    (lambda: flow(condition=(2,)).sample(2, cond=torch.zeros(3, 2)), ValueError, "2 samples need"),
    (lambda: FieldFlow((1, 4, 4)).fit_normalization(torch.ones(3, 1, 4, 4)), ValueError, "constant"),
]


@pytest.mark.parametrize("attempt, error, words", REFUSED, ids=[words for *_, words in REFUSED])
def test_what_cannot_be_is_refused(attempt, error, words):
    with pytest.raises(error, match=words):
        attempt()


def test_commands_for_operators_refuse_flows(tmp_path):
    from opflow.save import load_operator

    FieldFlow((1, 4, 4), levels=1, steps=1, hidden_channels=4).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a FieldFlow, which is no map between fields"):
        load_operator(tmp_path)
