"""Flows learn a law that is known: fields are their labels times a hidden amplitude."""

import pytest
import torch

from opflow import metrics
from opflow.rectified import FunctionalFlow, Palette, SemFlow, SymmFlow
from opflow.training.optim import EMA

UNET = {"class": "UNet", "config": {"hidden_channels": 8, "multipliers": (1, 2)}}
CODEC = Palette(2, 1, perturbation=0.5)
pytestmark = pytest.mark.slow


def law(n, seed, labels=None):
    """Labels by a random level of smoothed noise; amplitude uniform between 1 and 3."""
    generator = torch.Generator().manual_seed(seed)
    if labels is None:
        noise = torch.randn(n, 1, 4, 4, generator=generator)
        smooth = torch.nn.functional.interpolate(noise, size=(8, 8), mode="bilinear")
        labels = (smooth[:, 0] > 0).long()
    amplitude = 1 + 2 * torch.rand(n, 1, 1, 1, generator=generator)
    return amplitude * (2.0 * labels[:, None] - 1), labels


def trained(flow, loss, steps=400):
    flow.fit_normalizer(law(512, 0)[0])
    parameters = list(flow.parameters())
    optimizer, average = torch.optim.AdamW(parameters), EMA(parameters, 0.99)
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 4e-3 * (1 - step / steps)
        optimizer.zero_grad()
        loss(*law(32, 1000 + step), generator).backward()
        optimizer.step()
        average.update(step)
    average._swap()
    return flow.eval()


def scores(draw):
    """Spread over the true spread, and the distance of amplitudes over their deviation."""
    labels = law(16, 7)[1].repeat_interleave(32, 0)
    fields, truth = draw(labels), law(512, 9, labels)[0]
    spread = metrics.diversity_ratio(fields.unflatten(0, (16, 32)), truth.unflatten(0, (16, 32)))
    apart = [(x * (2.0 * labels[:, None] - 1)).mean((1, 2, 3))[:, None] for x in (fields, truth)]
    return float(spread.mean()), metrics.sliced_wasserstein(*apart) / float(apart[1].std())


def test_the_improved_flow_learns_both_directions():
    torch.manual_seed(0)
    flow = SymmFlow(UNET, CODEC)
    trained(flow, flow.loss)
    spread, distance = scores(
        lambda y: flow.synthesise(y, seed=0, method="midpoint", n_steps=8, power=2).samples
    )
    assert 0.6 < spread < 1.4 and distance < 0.5, (spread, distance)  # the mean alone has 0 and 1
    fields, labels = law(64, 11)
    assert metrics.mean_iou(flow.segment(fields).labels, labels, 2) > 0.98
    draws = flow.synthesise(labels.repeat_interleave(16, 0), seed=0, n_steps=1).samples
    mean = draws.unflatten(0, (64, 16)).mean(1)  # one step from any noise is the conditional mean
    assert metrics.relative_l2(mean, 2.0 * (2.0 * labels[:, None] - 1)).mean() < 0.1
    pairs, maps = flow.sample(64, (8, 8), seed=0, method="midpoint", n_steps=8)
    assert (
        metrics.mean_iou((pairs.samples[:, 0] > 0).long(), maps, 2) > 0.7
    )  # they belong together: 0.33 if not


def test_the_published_flows_learn_both_directions():
    torch.manual_seed(0)
    flow = SymmFlow.published(UNET, CODEC)
    trained(flow, flow.loss)
    spread, distance = scores(lambda y: flow.synthesise(y, seed=0, n_steps=25).samples)
    assert 0.6 < spread < 1.6 and distance < 0.6, (spread, distance)
    fields, labels = law(64, 11)
    assert metrics.mean_iou(flow.segment(fields, seed=0).labels, labels, 2) > 0.95


@pytest.mark.parametrize("heads", ["velocity", "ends"])
def test_semflow_learns_both_directions(heads):
    torch.manual_seed(0)
    flow = SemFlow(UNET, CODEC, heads=heads)
    trained(flow, flow.loss, steps=200)
    fields, labels = law(64, 11)
    assert metrics.mean_iou(flow.segment(fields, n_steps=4).labels, labels, 2) > 0.95
    made = flow.synthesise(labels, seed=0, n_steps=4).samples
    assert metrics.mean_iou((made[:, 0] > 0).long(), labels, 2) > 0.95


def test_a_conditional_flow_learns_the_law():
    torch.manual_seed(0)
    flow = FunctionalFlow(UNET, condition_channels=1, dropout=0.1)
    trained(flow, lambda x, y, g: flow.loss(x, CODEC.encode(y), generator=g))
    options = {"seed": 0, "method": "midpoint", "n_steps": 8, "power": 2}
    spread, distance = scores(
        lambda y: flow.sample(len(y), (8, 8), condition=CODEC.encode(y), **options).samples
    )
    assert 0.6 < spread < 1.4 and distance < 0.5, (spread, distance)  # the mean alone has 0 and 1
