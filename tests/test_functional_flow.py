"""FunctionalFlow: its loss, grids, points, conditions, densities, invariance."""

import math

import pytest
import torch

import opflow
from opflow import metrics
from opflow.rectified import ConditionalOT, FunctionalFlow, GaussianProcess, Straight

FNO = {"class": "FNO", "config": {"n_modes": (4, 4), "hidden_channels": 6, "n_layers": 2}}
MINO = {"class": "MINO", "config": {"hidden_channels": 16, "radius": 0.4, "latent": (4, 4), "n_layers": 1}}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def fields(n=4, size=8):
    return 3 * torch.randn(n, 1, size, size, generator=seeded()) + 5


def functional(network=FNO, **options):
    torch.manual_seed(0)
    flow = FunctionalFlow(network, noise=GaussianProcess(length=0.3, highest=4), **options)
    flow.fit_normalizer(fields(64))
    return flow.eval()


@pytest.mark.parametrize("head", ["velocity", "target"])
def test_the_loss_of_functional_flow(head):
    flow = functional(head=head, path=Straight(sigma=1e-4), condition_channels=1)
    field, condition = fields(), torch.randn(4, 1, 8, 8)
    generator = seeded(1)
    x1 = flow.normalize(field)
    x0 = flow.noise.sample((8, 8), 4, generator)
    t = torch.rand(4, generator=generator)
    x, target = flow.path.point(x0, x1, t)
    if head == "target":
        target = flow.path.across(x0, x1, t)
        x = x / flow.path.size(x, t)
        # What is drawn follows the velocity that this target means.
        z, v = flow.path.point(x0, x1, t)
        torch.testing.assert_close(flow.path.velocity_across(target, z, t), v)
    expected = (flow.network(torch.cat([x, condition], 1), t[:, None]) - target).square().mean()
    torch.testing.assert_close(flow.loss(field, condition, generator=seeded(1)), expected)


def test_the_same_flow_on_two_grids():
    # An alias-free FNO and a Gaussian process are one flow of functions: its samples agree on shared points.
    config = {
        "n_modes": (7, 7),
        "hidden_channels": 6,
        "n_layers": 2,
        "non_linearity": "polynomial",
        "project": True,
    }
    noise = GaussianProcess(length=0.3, nu=math.inf)
    torch.manual_seed(0)
    flow = FunctionalFlow({"class": "FNO", "config": config}, noise=noise).double()
    noise_on = {n: flow.draw_noise(2, (n, n), seed=0) for n in (15, 45)}
    # Without what the coarse grid cannot hold.
    band = noise_on[15]
    fine = opflow.nn.fourier_resample(band, (45, 45))
    a, b = (flow.transport(x, n_steps=5).samples for x in (band, fine))
    torch.testing.assert_close(b[..., ::3, ::3], a, atol=1e-10, rtol=1e-8)


def test_conditions_guidance_and_dropout():
    flow = functional(condition_channels=2, dropout=0.3, coupling=ConditionalOT())
    field, vector = fields(), torch.randn(4, 2)
    assert flow.loss(field, vector).isfinite()
    x, t = torch.randn(4, 1, 8, 8), torch.tensor(0.3)
    plane = vector[:, :, None, None].expand(-1, -1, 8, 8)
    with_it, without = flow.velocity(vector)(x, t), flow.velocity(None)(x, t)
    torch.testing.assert_close(flow.velocity(plane)(x, t), with_it)
    torch.testing.assert_close(flow.velocity(vector, guidance=3.0)(x, t), without + 3 * (with_it - without))
    zero = torch.zeros(4, 2)
    assert (flow.velocity(zero)(x, t) - without).abs().max() > 1e-4  # a condition of zero is one


def test_flows_at_points():
    flow = functional(MINO, condition_channels=1)
    coords = torch.rand(40, 2)
    field, condition = 3 * torch.randn(2, 40, 1) + 5, torch.randn(2, 40, 1)
    geometry = flow.network.geometry(coords)
    torch.testing.assert_close(
        flow.loss(field, condition, geometry, generator=seeded()),
        flow.loss(field, condition, coords, generator=seeded()),
    )
    own = torch.rand(2, 30, 2)
    drawn = flow.sample(2, own, condition=torch.randn(2, 30, 1), seed=0, n_steps=2, chunk=1)
    assert drawn.samples.shape == (2, 30, 1) and drawn.nfe == 4
    # Filling, of weight zero, does not count in the loss.
    weights = torch.ones(2, 40)
    weights[:, 30:] = 0
    filled = field.clone()
    filled[:, 30:] += 1e3
    geometry = flow.network.geometry(coords.expand(2, -1, -1), weights)
    one, other = (
        flow.loss(u, condition, geometry, weights=weights, noise=torch.zeros(2, 40, 1), generator=seeded())
        for u in (field, filled)
    )
    torch.testing.assert_close(one, other)
    plain = flow.loss(field, condition, geometry, noise=torch.zeros(2, 40, 1), generator=seeded())
    assert (plain - one).abs() > 1e-3


def test_log_prob_of_a_flow_in_physical_units():
    flow = functional().double()
    torch.nn.init.zeros_(flow.network.net.projection.second.weight)
    torch.nn.init.zeros_(flow.network.net.projection.second.bias)
    field = fields().double()
    found = flow.log_prob(field, probes=2, method="euler", n_steps=2)
    # With a velocity of zero it is the noise itself, moved and scaled.
    exact = flow.noise.log_prob(flow.normalize(field)) - 64 * math.log(float(flow.normalizer.output_std))
    torch.testing.assert_close(found.value, exact)
    assert found.nfe == 2


def test_seeds_chunks_and_the_compiled_loop():
    flow = functional()
    a = flow.sample(5, (8, 8), seed=1, n_steps=3)
    torch.testing.assert_close(flow.sample(5, (8, 8), seed=1, n_steps=3, chunk=2).samples, a.samples)
    assert (flow.sample(5, (8, 8), seed=2, n_steps=3).samples - a.samples).abs().max() > 1e-3
    sampler = flow.fixed_steps(n_steps=3, compile=False)
    torch.testing.assert_close(
        flow.transport(flow.draw_noise(5, (8, 8), 1), sampler=sampler).samples, a.samples
    )
    noise, pairs = flow.reflow_pairs(5, (8, 8), seed=1, n_steps=3)
    torch.testing.assert_close(pairs, a.samples)
    assert flow.loss(pairs, noise=noise).isfinite()


def test_an_invariant_law_by_a_symmetrised_velocity():
    description = {"class": "FNO", "config": {**FNO["config"], "positional_embedding": None}}
    network = {"class": "Symmetrize", "config": {"model": description, "group": "p4m", "about": "origin"}}
    torch.manual_seed(0)
    flow = FunctionalFlow(network, noise=GaussianProcess(length=0.3)).eval()
    noise = flow.draw_noise(3, (8, 8), seed=0)

    def turned(u):
        return u.rot90(1, (2, 3)).roll(1, 2)  # a quarter turn about the first point

    plain, moved = flow.transport(noise, n_steps=3).samples, flow.transport(turned(noise), n_steps=3).samples
    torch.testing.assert_close(moved, turned(plain), atol=1e-5, rtol=1e-5)
    # The law of the noise is invariant, so that of the samples is: two samples cannot be told apart.
    samples = flow.sample(400, (8, 8), seed=1, n_steps=3).samples
    lot = seeded(2)
    found = metrics.sliced_wasserstein(turned(samples[:200]), samples[200:], 64, generator=lot)
    floor = metrics.two_halves(
        lambda a, b: metrics.sliced_wasserstein(a, b, 64, generator=lot), samples, 20, lot
    )
    assert found <= 1.1 * floor[-1]


def test_errors_of_functional_flow():
    field = fields()
    flow = functional(condition_channels=2)
    with pytest.raises(ValueError, match="condition_channels=2 has that many channels for each of 4 samples"):
        flow.loss(field, torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"does not lie on the grid of one of shape \(4, 1, 8, 8\)"):
        flow.loss(field, torch.zeros(4, 2, 8, 9))
    with pytest.raises(ValueError, match="is not for 5 samples"):
        flow.sample(5, (8, 8), condition=torch.zeros(4, 2))
    with pytest.raises(ValueError, match="give a condition"):
        flow.sample(5, (8, 8))
    with pytest.raises(ValueError, match="guidance=2 needs a condition, and dropout"):
        flow.sample(4, (8, 8), condition=torch.zeros(4, 2), guidance=2)
    with pytest.raises(ValueError, match="needs the points"):
        functional(MINO).loss(torch.zeros(2, 5, 1))
