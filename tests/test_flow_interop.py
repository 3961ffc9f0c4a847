"""Our layers inside other libraries of flows."""

import pytest
import torch
from torch.distributions import Transform, constraints

from opflow.nn.invertible import (
    AffineCoupling,
    Bijection,
    Chain,
    CInCConv,
    FInCConv,
    InverseConv,
    PointwiseConv,
)

SHAPE = (4, 4, 6)
LAYERS = {"cinc": CInCConv, "finc": FInCConv, "inverse": InverseConv}


def step(layer: str, seed: int = 0) -> Bijection:
    torch.manual_seed(seed)
    coupling = AffineCoupling(4, 8)
    coupling.net.last.weight.data.normal_(std=0.1)
    return Chain(LAYERS[layer](4), PointwiseConv(4), coupling)


class AsTransform(Transform):
    """A bijection as a transform of torch, which is what zuko composes."""

    domain = codomain = constraints.independent(constraints.real, 3)
    bijective = True

    def __init__(self, bijection: Bijection):
        super().__init__()
        self.bijection = bijection

    def _call(self, x):
        return self.bijection(x)[0]

    def _inverse(self, y):
        return self.bijection.inverse(y)[0]

    def log_abs_det_jacobian(self, x, y):
        return self.bijection(x)[1]

    def call_and_ladj(self, x):
        return self.bijection(x)


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_work_inside_normflows(layer):
    """Their `forward` decodes: `Reverse` exchanges the two directions."""
    normflows = pytest.importorskip("normflows")
    ours = [step(layer, seed) for seed in range(2)]
    base = normflows.distributions.DiagGaussian(SHAPE)
    flow = normflows.NormalizingFlow(base, [normflows.flows.Reverse(s) for s in reversed(ours)])
    x = torch.randn(5, *SHAPE)
    z, logdet = Chain(*ours)(x)
    torch.testing.assert_close(flow.log_prob(x), base.log_prob(z) + logdet, atol=1e-4, rtol=1e-5)
    samples, log_q = flow.sample(6)
    torch.testing.assert_close(flow.log_prob(samples), log_q, atol=1e-3, rtol=1e-4)
    flow.forward_kld(x).backward()
    assert all(p.grad is not None for s in ours for p in s.parameters())
    # Theirs between ours.
    mixed = normflows.NormalizingFlow(
        base, [normflows.flows.Reverse(ours[0]), normflows.flows.Invertible1x1Conv(4, use_lu=False)]
    )
    samples, log_q = mixed.sample(6)
    torch.testing.assert_close(mixed.log_prob(samples), log_q, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("layer", LAYERS)
def test_layers_work_inside_zuko(layer):
    zuko = pytest.importorskip("zuko")
    ours = Chain(step(layer), step(layer, seed=1))
    base = zuko.distributions.DiagNormal(torch.zeros(SHAPE), torch.ones(SHAPE), ndims=3)
    flow = zuko.distributions.NormalizingFlow(AsTransform(ours), base)
    x = torch.randn(5, *SHAPE)
    z, logdet = ours(x)
    torch.testing.assert_close(flow.log_prob(x), base.log_prob(z) + logdet, atol=1e-4, rtol=1e-5)
    samples, log_q = flow.rsample_and_log_prob((6,))
    torch.testing.assert_close(flow.log_prob(samples), log_q, atol=1e-3, rtol=1e-4)


def test_torch_composes_them():
    transform = AsTransform(step("cinc"))
    normal = torch.distributions.Independent(
        torch.distributions.Normal(torch.zeros(SHAPE), torch.ones(SHAPE)), 3
    )
    distribution = torch.distributions.TransformedDistribution(normal, [transform.inv])
    x = torch.randn(5, *SHAPE)
    z, logdet = transform.bijection(x)
    torch.testing.assert_close(distribution.log_prob(x), normal.log_prob(z) + logdet)
    assert distribution.sample((3,)).shape == (3, *SHAPE)
