"""Invertible layers: log-determinants against dense Jacobians, both directions, what bounds the inverse."""

import math

import pytest
import torch
from torch import nn
from torch.autograd.functional import jacobian

from opflow.kernels import causal_conv
from opflow.nn.invertible import (
    ORIENTATIONS,
    ActNorm,
    AffineCoupling,
    Chain,
    CInCConv,
    FInCConv,
    InverseConv,
    Logit,
    PointwiseConv,
    QuadCoupling,
    Rescale,
    SplineCoupling,
    SplitPrior,
    Squeeze,
    Standardize,
    TopPrior,
)
from opflow.nn.invertible.causal_weight import CausalWeight, tap_norm
from opflow.nn.invertible.dequantization import VariationalDequantization
from opflow.nn.invertible.matrices import CORNERS
from opflow.nn.invertible.spline import rational_quadratic, rational_quadratic_inverse

SHAPE = (8, 4, 6)
FIELD = (2, 4, 6)

LAYERS = {
    "actnorm": lambda: ActNorm(8),
    "pointwise": lambda: PointwiseConv(8),
    "pointwise, actnorm": lambda: PointwiseConv(8, actnorm=True),
    **{f"cinc {c}": lambda c=c: CInCConv(8, corner=c) for c in CORNERS},
    **{f"cinc from {o}": lambda o=o: CInCConv(8, 2, reverse=o, actnorm=True) for o in ORIENTATIONS},
    "cinc 4x4, bounded": lambda: CInCConv(8, 4, gain_bound=0.5, actnorm=True),
    "cinc 1x1": lambda: CInCConv(8, 1, gain_bound=0.5),
    "finc": lambda: FInCConv(8),
    "finc, bounded": lambda: FInCConv(8, gain_bound=0.5),
    **{f"inverse {c}": lambda c=c: InverseConv(8, corner=c) for c in CORNERS},
    "inverse, actnorm": lambda: InverseConv(8, reverse=(True, False), gain_bound=0.8, actnorm=True),
    "affine": lambda: AffineCoupling(8, 5),
    "affine, circular": lambda: AffineCoupling(8, 5, circular=True),
    "affine, class": lambda: AffineCoupling(8, 5, condition=3),
    "affine, vector": lambda: AffineCoupling(8, 5, condition=(2,)),
    "affine, field": lambda: AffineCoupling(8, 5, condition=FIELD),
    "affine, circular field": lambda: AffineCoupling(8, 5, condition=FIELD, circular=True),
    "quad": lambda: QuadCoupling(8, 5),
    "quad, class": lambda: QuadCoupling(8, 5, condition=3),
    "spline": lambda: SplineCoupling(8, 5),
    "split prior": lambda: SplitPrior(8),
    "split prior, class": lambda: SplitPrior(8, condition=3),
    "split prior, circular field": lambda: SplitPrior(8, condition=FIELD, circular=True),
    "top prior": lambda: TopPrior(8),
    "top prior, class": lambda: TopPrior(8, condition=3),
    "top prior, field": lambda: TopPrior(8, condition=FIELD),
    "squeeze": Squeeze,
    "rescale": Rescale,
    "logit": lambda: Logit(0.05),
    "standardize": lambda: Standardize(8),
    "chain": lambda: Chain(PointwiseConv(8), FInCConv(8), AffineCoupling(8, 5)),
}
CONDITIONS = {
    "class": torch.tensor([2, 0, 1]),
    "vector": torch.randn(3, 2, dtype=torch.float64),
    "field": torch.randn(3, *FIELD, dtype=torch.float64),
}


def scattered(layer: nn.Module, seed: int = 0) -> nn.Module:
    """Move every parameter away from where it starts; in double precision and evaluation mode."""
    torch.manual_seed(seed)
    for p in layer.parameters():
        p.data += 0.2 * torch.randn_like(p) / max(1, p[0].numel()) ** 0.5
    if isinstance(layer, Standardize):
        layer.fit([3 + 2 * torch.randn(20, *SHAPE)])
    return layer.double().eval()


def condition_of(name: str) -> torch.Tensor | None:
    return next((cond for word, cond in CONDITIONS.items() if name.endswith(word)), None)


def data_of(name: str, n: int = 3) -> torch.Tensor:
    torch.manual_seed(1)
    x = torch.randn(n, *SHAPE, dtype=torch.float64)
    return x.sigmoid() if name == "logit" else x


@pytest.mark.parametrize("name", LAYERS)
def test_log_determinants_are_those_of_the_dense_jacobian(name):
    layer, x, cond = scattered(LAYERS[name]()), data_of(name), condition_of(name)
    z, logdet = layer(x, cond)
    back, inverse_logdet = layer.inverse(z, cond)
    assert logdet.shape == inverse_logdet.shape == (3,)
    first = None if cond is None else cond[:1]
    size = x[0].numel()
    dense = jacobian(lambda v: layer(v, first)[0], x[:1]).reshape(size, size)
    expected = torch.linalg.slogdet(dense)[1]
    torch.testing.assert_close(logdet[0], expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(inverse_logdet, -logdet, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_fresh_latents_come_back(name):
    layer, cond = scattered(LAYERS[name](), seed=2), condition_of(name)
    z = layer(data_of(name), cond)[0]
    z = torch.randn(z.shape, dtype=z.dtype)
    again = layer(layer.inverse(z, cond)[0], cond)[0]
    torch.testing.assert_close(again, z, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_are_exact(name):
    layer, cond = scattered(LAYERS[name](), seed=3), condition_of(name)
    x = data_of(name, n=1)[..., :4, :4].requires_grad_()
    cond = None if cond is None else cond[:1, ..., :4, :4] if cond.ndim == 4 else cond[:1]
    if parameters := [p for p in layer.parameters()]:
        x = (x, *parameters[-2:])
    else:
        x = (x,)

    def both(x, *_):
        z, logdet = layer(x, cond)
        return z, logdet

    assert torch.autograd.gradcheck(both, x, fast_mode=True)
    # Along one direction, and once more: double backward runs through the same rules.
    assert torch.autograd.gradgradcheck(both, x, fast_mode=True, atol=1e-4)


def test_actnorm_is_set_by_the_first_batch_and_by_no_other(tmp_path):
    for layer in (ActNorm(4), PointwiseConv(4, actnorm=True), CInCConv(4, actnorm=True)):
        x = 7 + 3 * torch.randn(64, 4, 5, 6)
        z, _ = layer(x)
        torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
        torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
        torch.testing.assert_close(layer(2 * x)[0], layer(2 * x)[0], rtol=0, atol=0)
        other = type(layer)(4) if isinstance(layer, ActNorm) else type(layer)(4, actnorm=True)
        other.load_state_dict(layer.state_dict())
        torch.testing.assert_close(other(2 * x)[0], layer(2 * x)[0], rtol=0, atol=0)  # still in training mode
    norm = ActNorm(4).eval()
    assert torch.equal(norm(x)[0], x) and not norm.fitted


def test_actnorm_of_inverse_convolutions_sets_what_is_solved():
    layer, x = InverseConv(4, actnorm=True), 7 + 3 * torch.randn(64, 4, 5, 6)
    z, _ = layer(x)
    weight = layer.weight()
    seen = causal_conv(z, weight, reverse=layer.reverse)
    torch.testing.assert_close(seen.mean((0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(seen.std((0, 2, 3)), torch.ones(4), atol=1e-2, rtol=0)


def test_a_constant_channel_keeps_actnorm_finite():
    norm, x = ActNorm(2), torch.stack([torch.full((8, 3, 3), 5.0), torch.randn(8, 3, 3)], 1)
    z, logdet = norm(x)
    assert torch.isfinite(z).all() and torch.isfinite(logdet).all() and z[:, 0].abs().max() < 1e-5


@pytest.mark.parametrize("corner", CORNERS)
def test_corners_are_invertible_whatever_the_parameters(corner):
    matrix = CORNERS[corner](6, groups=3).double()
    matrix.entries.data.normal_(std=2)
    a = matrix()
    identity = torch.eye(6, dtype=a.dtype).expand_as(a)
    torch.testing.assert_close(a @ matrix.inverse(), identity, atol=1e-7, rtol=0)
    torch.testing.assert_close(torch.linalg.slogdet(a)[1].sum(), matrix.log_abs_det(), atol=1e-9, rtol=1e-9)


def test_plu_starts_as_a_rotation():
    a = CORNERS["plu"](5).double()()[0]
    torch.testing.assert_close(a @ a.T, torch.eye(5, dtype=a.dtype), atol=1e-5, rtol=0)


def test_no_step_of_an_optimiser_makes_a_finc_corner_singular():
    """Gradients are not edited: weight decay and any optimiser leave the determinant at one."""
    layer = FInCConv(8)
    optimizer = torch.optim.SGD(layer.parameters(), lr=10.0, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(4, 8, 5, 5))[0].square().mean().backward()
        optimizer.step()
    corner = layer.weight()[..., -1, -1].view(4, 2, 2)
    torch.testing.assert_close(torch.linalg.det(corner), torch.ones(4), rtol=0, atol=1e-6)


def test_the_norm_of_taps_is_an_upper_bound_that_is_tight():
    taps = torch.randn(3, 8, 12, 12, dtype=torch.float64)
    exact = torch.linalg.matrix_norm(taps, ord=2).sum(1)
    assert (tap_norm(taps) >= exact).all() and (tap_norm(taps) <= 12 ** (1 / 16) * exact).all()
    taps = torch.zeros(1, 8, 3, 3, requires_grad=True)
    tap_norm(taps).sum().backward()
    assert float(tap_norm(taps).detach()) < 1e-10 and torch.isfinite(taps.grad).all()


def test_gain_bound_bounds_the_inverse_on_any_grid():
    torch.manual_seed(0)
    free, bound = CausalWeight(6), CausalWeight(6, gain_bound=0.8)
    bound.load_state_dict(free.state_dict())
    for weight in (free, bound):
        weight.taps.data.normal_(std=0.15)
        weight.taps.data[:, :1] = 0.3
    assert free.growth((32, 32)) > 1e5
    # The largest norm is at most sqrt(6) times the sum of spectral norms, and they sum to 1 / (1 - 0.8).
    assert bound.growth((32, 32)) <= math.sqrt(6) / (1 - 0.8)
    small = CausalWeight(6, gain_bound=0.8)
    assert torch.equal(small.relative_taps(), small.taps)  # below the bound nothing is touched


def test_splines_are_monotone_and_the_identity_outside():
    torch.manual_seed(0)
    shape = (200, 9)
    places, values = (
        torch.cat(
            [-torch.ones(200, 1), torch.rand(200, 7).mul(1.9).sub(0.95).sort(1).values, torch.ones(200, 1)], 1
        )
        for _ in range(2)
    )
    slopes = torch.rand(shape).add(0.05)
    x = torch.linspace(-1.5, 1.5, 401)[:, None].expand(-1, 200)
    y, log_slope = rational_quadratic(x, places, values, slopes)
    assert (y.diff(dim=0) > -1e-6).all() and torch.equal(y[x.abs() > 1], x[x.abs() > 1])
    places, values, slopes, x = (t.double() for t in (places, values, slopes, x))
    y, log_slope = rational_quadratic(x, places, values, slopes)
    back, inverse_log_slope = rational_quadratic_inverse(y, places, values, slopes)
    torch.testing.assert_close(back, x, atol=1e-8, rtol=0)
    torch.testing.assert_close(inverse_log_slope, -log_slope, atol=1e-6, rtol=0)
    numeric = (y[2:] - y[:-2]) / (x[2:] - x[:-2])
    middle = (numeric.log() - log_slope[1:-1]).abs().quantile(0.9)
    assert float(middle) < 0.05


def test_variational_noise_has_the_density_it_claims():
    """Weighted by one over its density, the noise measures the volume of a cube inside the unit cube."""
    torch.manual_seed(0)
    module = scattered(VariationalDequantization((1, 2, 2), hidden_channels=4, steps=2))
    x = torch.rand(1, 1, 2, 2, dtype=torch.float64).expand(200_000, -1, -1, -1)
    with torch.no_grad():
        u, log_q = module(x)
    assert 0 <= float(u.min()) and float(u.max()) <= 1
    inside = ((u > 0.2) & (u < 0.8)).flatten(1).all(1)
    weights = (-log_q).exp() * inside / 0.6**4
    error = float(weights.std()) / math.sqrt(len(weights))
    assert error < 0.02 and abs(float(weights.mean()) - 1) < 4 * error


REFUSED = [
    (lambda: FInCConv(6), "four equal groups, got channels=6"),
    (lambda: CInCConv(3, corner="round"), "corner must be one of plu, triangular, unit, got 'round'"),
    (lambda: CInCConv(3, kernel_size=0), "kernel_size must be at least 1, got 0"),
    (lambda: CInCConv(3, gain_bound=-1), "gain_bound must be positive"),
    (lambda: CausalWeight(6, groups=4), "4 groups of equal size cannot be made of 6 channels"),
    (lambda: AffineCoupling(1, 4), "2 parts, got channels=1: squeeze the field first"),
    (lambda: QuadCoupling(3, 4), "4 parts, got channels=3"),
    (lambda: Squeeze()(torch.zeros(1, 1, 3, 4)), r"only even sides can be squeezed, got \(3, 4\)"),
    (lambda: Logit(0.7), "alpha must lie between 0 and 0.5, got 0.7"),
    (lambda: Logit()(torch.full((1, 1, 2, 2), 255.0)), "scale images to"),
    (lambda: Standardize(1).fit([torch.ones(3, 1, 2, 2)]), r"channels \[0\] are constant"),
    (lambda: Standardize(1).fit([torch.full((3, 1, 2, 2), math.nan)]), "not finite"),
    (lambda: CInCConv(3)(torch.zeros(1, 3, 2, 2)), "longer than the field"),
]


@pytest.mark.parametrize("attempt, words", REFUSED, ids=[words for _, words in REFUSED])
def test_what_cannot_be_is_refused(attempt, words):
    with pytest.raises(ValueError, match=words):
        attempt()
