"""Inverses stay bounded in training, and where they do not, the failure is found and named."""

import pytest
import torch

from opflow.flows import FieldFlow, ImageFlow

RECOMMENDED = 2e-3  # learning rate of Adamax
ROUND_TRIP = 1e-3


def digits_like(n: int, seed: int = 0) -> torch.Tensor:
    """Smooth images of 16 values, 8 x 8 pixels."""
    generator = torch.Generator().manual_seed(seed)
    rough = torch.randn(n, 1, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(rough, (8, 8), mode="bilinear")
    return (8 + 4 * smooth).clamp(0, 15).long()


def round_trip(flow: ImageFlow) -> float:
    """Largest error over fresh latents, through pixels and back, and over new images."""
    z = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    images = digits_like(256, seed=1)
    x = (images + torch.rand(images.shape)) / 16
    with torch.no_grad():
        there = (flow.encode(flow.decode(z)) - z).abs().max()
        return max(float(there), float((flow.decode(flow.encode(x)) - x).abs().max()))


def train(flow: ImageFlow, steps: int, learning_rate: float) -> None:
    images = digits_like(512)
    optimizer = torch.optim.Adamax(flow.parameters(), learning_rate)
    for step in range(steps):
        batch = images[torch.randint(512, (64,), generator=torch.Generator().manual_seed(step))]
        optimizer.zero_grad()
        flow.bits_per_dim(batch).mean().backward()
        optimizer.step()
    flow.eval()


def make(layer: str, gain_bound: float | None) -> ImageFlow:
    torch.manual_seed(0)
    return ImageFlow((1, 8, 8), 2, 4, layer, 16, bins=16, gain_bound=gain_bound)


@pytest.mark.parametrize("layer", ["cinc", "finc", "inverse"])
def test_bounded_flows_stay_invertible_at_ten_times_the_learning_rate(layer):
    flow = make(layer, 0.9)
    train(flow, 80, 10 * RECOMMENDED)
    assert round_trip(flow) <= ROUND_TRIP
    assert torch.isfinite(flow.sample(100)).all()


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["cinc", "finc", "inverse"])
def test_bounded_flows_stay_invertible_for_two_thousand_steps(layer):
    flow = make(layer, 0.9)
    train(flow, 2000, 10 * RECOMMENDED)
    assert round_trip(flow) <= ROUND_TRIP


@pytest.mark.parametrize("layer", ["cinc", "finc", "inverse"])
def test_unbounded_training_that_fails_names_the_layer_and_the_remedy(layer):
    with pytest.raises(FloatingPointError, match=r"at level \d, .* amplifies .*gain_bound=0.9"):
        train(make(layer, None), 30, 3.0)


@pytest.mark.parametrize("layer", ["cinc", "finc", "inverse"])
def test_samples_of_a_flow_beyond_its_bound_are_refused(layer):
    free, bounded = make(layer, None).eval(), make(layer, 0.9).eval()
    for flow in (free, bounded):
        for _, weight, _ in flow.body.causal_weights():
            weight.taps.data.normal_(std=3.0)
    with pytest.raises(FloatingPointError, match="amplifies rounding errors .* torch.float32 can bear"):
        free.sample(4)
    assert round_trip(bounded) <= ROUND_TRIP and torch.isfinite(bounded.sample(4)).all()
    # Double precision bears more.
    for _, weight, _ in free.body.causal_weights():
        weight.taps.data.mul_(0.05)
    assert torch.isfinite(free.double().sample(4)).all()


def test_weights_that_are_not_finite_are_named():
    flow = FieldFlow((1, 8, 8), 1, 1, hidden_channels=4).eval()
    flow.body.priors[0].moments.data.fill_(torch.nan)
    with pytest.raises(
        FloatingPointError, match=r"priors.0.moments among them. To avoid it, lower the learning"
    ):
        flow.log_prob(torch.randn(2, 1, 8, 8))
    with pytest.raises(FloatingPointError, match="a sample is not finite"):
        flow.sample(2)
    with pytest.raises(ValueError, match="given data of which 1 values are not finite"):
        x = torch.randn(2, 1, 8, 8)
        x[0, 0, 0, 0] = torch.inf
        FieldFlow((1, 8, 8), 1, 1, hidden_channels=4).eval().log_prob(x)
