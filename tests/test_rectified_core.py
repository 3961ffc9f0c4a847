"""Paths, couplings, sampling and likelihood against closed forms."""

import math

import pytest
import torch
from torchdiffeq._impl.odeint import SOLVERS

from opflow import metrics
from opflow.rectified import (
    ADAPTIVE,
    FIXED,
    ConditionalOT,
    FixedSteps,
    GaussianProcess,
    Independent,
    PermutationOT,
    Reversed,
    Straight,
    VariancePreserving,
    White,
    coarse_to_fine,
    integrate,
    log_prob,
    straightness,
)
from opflow.rectified.guidance import drop, guided

F64 = torch.float64
PATHS = [Straight(), Straight(sigma=0.2), VariancePreserving(), Reversed(Straight(sigma=0.2))]


def draws(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


# Paths


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_velocities_are_derivatives_of_the_paths(path):
    x0, x1, t = draws(5, 3), draws(5, 3, seed=1), torch.linspace(0.1, 0.9, 5, dtype=F64)
    x, v = path.point(x0, x1, t)
    h = 1e-5
    numeric = (path.point(x0, x1, t + h)[0] - path.point(x0, x1, t - h)[0]) / (2 * h)
    torch.testing.assert_close(v, numeric, atol=1e-9, rtol=0)
    torch.testing.assert_close(path.velocity_to(x1, x, t), v)
    torch.testing.assert_close(path.velocity_across(path.across(x0, x1, t), x, t), v)


@pytest.mark.parametrize("path", PATHS, ids=repr)
def test_paths_join_their_ends(path):
    x0, x1 = draws(2, 4), draws(2, 4, seed=1)
    start, end = (path.point(x0, x1, torch.full((2,), t, dtype=F64))[0] for t in (0.0, 1.0))
    sigma = 0.2 if "0.2" in repr(path) else 0.0
    left, right = (sigma, 0) if isinstance(path, Reversed) else (0, sigma)
    torch.testing.assert_close(start, x0 + left * x1)
    torch.testing.assert_close(end, x1 + right * x0)


def test_the_published_targets():
    x0, x1, t = draws(3, 2), draws(3, 2, seed=1), torch.tensor([0.2, 0.5, 0.7], dtype=F64)
    s, column = 1e-4, t[:, None]
    x, v = Straight(sigma=s).point(x0, x1, t)  # SymmFlow, FFM
    torch.testing.assert_close(x, (1 - (1 - s) * column) * x0 + column * x1)
    torch.testing.assert_close(v, x1 - (1 - s) * x0)
    torch.testing.assert_close(v, (x1 - (1 - s) * x) / (1 - (1 - s) * column))
    y, w = Reversed(Straight(sigma=s)).point(x0, x1, 1 - t)  # SymmFlow, the labels x1
    torch.testing.assert_close(y, (1 - (1 - s) * column) * x1 + column * x0)
    torch.testing.assert_close(-w, x0 - (1 - s) * x1)
    blurred, u = Straight(blur=0.1).point(x0, x1, t, noise=torch.ones_like(x0))  # OFM
    torch.testing.assert_close(blurred, (1 - column) * x0 + column * x1 + 0.1)
    torch.testing.assert_close(u, x1 - x0)


# Couplings


def test_the_permutation_is_the_best_of_all():
    from itertools import permutations

    noise, data = draws(6, 3), draws(6, 3, seed=1)
    found = PermutationOT()(noise, data)
    costs = {p: float((noise[list(p)] - data).square().sum()) for p in permutations(range(6))}
    assert tuple(found.tolist()) == min(costs, key=costs.__getitem__)


@pytest.mark.parametrize("coupling", [Independent(), PermutationOT(), ConditionalOT()], ids=repr)
def test_couplings_drop_no_item(coupling):
    condition = draws(64, 1, seed=2) if isinstance(coupling, ConditionalOT) else None
    found = coupling(draws(64, 3), draws(64, 3, seed=1), condition)
    assert found.sort().values.tolist() == list(range(64))


def test_conditional_transport_stays_within_discrete_conditions():
    condition = torch.arange(40)[:, None].remainder(4).to(F64)
    noise, data = draws(40, 2), draws(40, 2, seed=1)
    found = ConditionalOT(weight=1e4)(noise, data, condition)
    assert torch.equal(condition[found], condition) and not torch.equal(found, torch.arange(40))
    assert (noise[found] - data).square().sum() < (noise - data).square().sum()


# Sampling: a mixture of Gaussians whose velocity is known

CENTRES, SPREAD = torch.tensor([[2.0, 0.0], [-1.0, 1.5], [-1.0, -1.5]], dtype=F64), 0.3


def mixture_velocity(x, t):
    """Conditional mean of x1 - x0 at x_t = (1 - t) x0 + t x1, x0 normal, x1 the mixture."""
    variance = (1 - t) ** 2 + (t * SPREAD) ** 2
    away = x[:, None] - t * CENTRES
    share = (-away.square().sum(2) / (2 * variance)).softmax(1)
    gain = (t * SPREAD**2 - (1 - t)) / variance
    return (share[..., None] * (CENTRES + gain * away)).sum(1)


def mixture(n, seed):
    which = torch.randint(3, (n,), generator=torch.Generator().manual_seed(seed))
    return CENTRES[which] + SPREAD * draws(n, 2, seed=seed + 1)


def test_marginals_of_a_mixture_are_within_the_floor_of_two_halves():
    n = 1000
    generator = torch.Generator().manual_seed(7)

    def distance(a, b):
        return metrics.sliced_wasserstein(a, b, 64, generator=generator)

    flowed = integrate(mixture_velocity, draws(n, 2, seed=3), method="dopri5", tolerance=1e-6)
    floor = metrics.two_halves(distance, mixture(2 * n, 10), 50, generator)
    found = distance(flowed.samples, mixture(n, 20))
    assert found <= floor.quantile(0.99), (found, floor)
    half = integrate(mixture_velocity, draws(n, 2, seed=3), n_steps=20, span=(0.0, 0.5), keep=True)
    x, _ = Straight().point(draws(n, 2, seed=30), mixture(n, 31), torch.full((n,), 0.5, dtype=F64))
    assert distance(half.samples, x) <= 1.5 * floor[-1]
    assert (
        half.trajectory.shape == (21, n, 2)
        and half.nfe == 20
        and torch.equal(half.trajectory[-1], half.samples)
    )


@pytest.mark.parametrize("method, order", [("euler", 1), ("midpoint", 2), ("heun2", 2), ("rk4", 4)])
def test_solvers_converge_at_their_order(method, order):
    start = torch.ones(1, 1, dtype=F64)

    def end(method, n):
        return float(integrate(lambda x, t: torch.sin(3 * x + t), start, method=method, n_steps=n).samples)

    exact = end("rk4", 640)
    errors = [abs(end(method, n) - exact) for n in (20, 40)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


@pytest.mark.parametrize("method", ["euler", "midpoint", "heun2"])
def test_the_loop_of_fixed_steps_is_torchdiffeqs(method):
    start = draws(7, 2)
    ours = FixedSteps(mixture_velocity, method, n_steps=9)(start, keep=True)
    theirs = integrate(mixture_velocity, start, method=method, n_steps=9, keep=True)
    torch.testing.assert_close(ours.trajectory, theirs.trajectory)
    assert ours.nfe == theirs.nfe


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own
def test_compiled_steps_are_the_same():
    start = draws(7, 2)
    ours = FixedSteps(mixture_velocity, "heun2", n_steps=9, compile=True)(start)
    torch.testing.assert_close(ours.samples, FixedSteps(mixture_velocity, "heun2", n_steps=9)(start).samples)


def test_step_sizes_tolerances_and_names():
    start = draws(3, 2)
    assert integrate(mixture_velocity, start, step_size=0.3).nfe == 4
    assert torch.equal(
        integrate(mixture_velocity, start, step_size=0.25).samples,
        integrate(mixture_velocity, start, n_steps=4).samples,
    )
    loose, tight = (
        integrate(mixture_velocity, start, method="dopri5", tolerance=tol) for tol in (1e-2, 1e-8)
    )
    exact = integrate(mixture_velocity, start, method="rk4", n_steps=400).samples
    assert loose.nfe < tight.nfe
    assert (tight.samples - exact).abs().max() < 1e-6 < (loose.samples - exact).abs().max()
    assert {*FIXED, *ADAPTIVE} <= SOLVERS.keys()


# Likelihood


@pytest.mark.parametrize("probes", [None, 64], ids=["exact", "hutchinson"])
def test_log_prob_of_a_linear_flow_is_the_gaussian_density(probes):
    matrix = 0.5 * draws(4, 4)
    x = draws(6, 1, 4, seed=1)
    found = log_prob(
        lambda u, t: u @ matrix.T,
        x,
        White(),
        probes=probes,
        generator=torch.Generator().manual_seed(0),
        tolerance=1e-7,
    )
    carried = torch.linalg.matrix_exp(matrix)
    law = torch.distributions.MultivariateNormal(torch.zeros(4, dtype=F64), carried @ carried.T)
    error = (found.value - law.log_prob(x[:, 0])).abs()
    if probes is None:
        assert error.max() < 1e-3 and (found.standard_error == 0).all()
    else:  # the same probes for all: the error is that of the trace
        assert (error < 4 * found.standard_error).all() and (found.standard_error > 0).all()


def test_log_prob_is_differentiable_in_weights_and_fields():
    rate = torch.tensor(0.3, dtype=F64, requires_grad=True)
    x = draws(2, 1, 3).requires_grad_()
    options = {"method": "rk4", "n_steps": 20, "differentiable": True}
    found = log_prob(lambda u, t: rate * u, x, White(), probes=2, **options).value
    found.sum().backward()
    # x0 = exp(-rate) x, log p = -|x0|^2 / 2 - 3 rate: derivatives by hand.
    shrunk = math.exp(-0.6) * x.detach()
    torch.testing.assert_close(x.grad, -shrunk, rtol=1e-6, atol=0)
    exact = float((shrunk * x.detach()).sum()) - 3 * 2
    assert float(rate.grad) == pytest.approx(exact, rel=1e-6)


def test_one_probe_tells_no_error():
    found = log_prob(lambda u, t: -u, draws(2, 1, 3), White(), probes=1, method="rk4", n_steps=4)
    assert torch.isinf(found.standard_error).all() and found.nfe == 16


# Straightness, guidance, ladders


def test_straightness_of_a_turn():
    # x' = (cos 2 pi t, sin 2 pi t) comes back to where it was: the mean square of the velocity is 1/2.
    def circle(x, t):
        return torch.stack([torch.cos(2 * math.pi * t), torch.sin(2 * math.pi * t)]).expand_as(x)

    assert float(straightness(circle, torch.zeros(1, 2, dtype=F64), 50)) == pytest.approx(0.5)


def test_guidance_extrapolates_and_dropout_drops():
    seen = []

    def velocity(c, there):
        seen.append(len(c))
        return there[:, None] * (c + 3) + 1

    c = draws(4, 2)
    torch.testing.assert_close(guided(velocity, c, 1.0), c + 4)
    torch.testing.assert_close(guided(velocity, c, 2.5), 1 + 2.5 * (c + 3))
    assert seen == [4, 8]
    kept, there = drop(torch.ones(5000, 2), 0.3, torch.Generator().manual_seed(0))
    assert torch.equal(kept[:, 1], there) and float(there.mean()) == pytest.approx(0.7, abs=0.03)


def test_a_ladder_of_grids_is_exact_for_a_linear_operator():
    # Each mode decays by itself towards data without fine modes: x' = (x1 - x) / (1 - t), x1 = wave.
    wave = torch.cos(2 * math.pi * torch.arange(32, dtype=F64) / 32).expand(3, 1, 32)
    noise = GaussianProcess(length=0.1).sample((32,), 3, torch.Generator().manual_seed(0), dtype=F64)

    def velocity(x, t):
        stride = 32 // x.shape[-1]
        return (wave[..., ::stride] - x) / (1 - t)

    fine = integrate(velocity, noise, n_steps=16, span=(0.0, 0.75))
    ladder = coarse_to_fine(velocity, noise, [(16,), (32,)], [0.5], Straight(), n_steps=16)
    torch.testing.assert_close(ladder.samples, wave, atol=1e-12, rtol=0)
    assert ladder.nfe == 12  # 8 steps on half of the points
    # On the way, too: stop where the noise has not gone.
    partly = coarse_to_fine(
        lambda x, t: 0.5 * velocity(x, 0 * t), noise, [(16,), (32,)], [0.5], Straight(), n_steps=2
    )
    low = torch.fft.rfft(partly.samples)[..., :8]
    whole = integrate(lambda x, t: 0.5 * velocity(x, 0 * t), noise, n_steps=2).samples
    torch.testing.assert_close(low, torch.fft.rfft(whole)[..., :8])
    assert fine.samples.isfinite().all()


# Errors


def test_errors_of_the_core():
    x = torch.zeros(2, 1, 4)
    still = torch.zeros_like
    with pytest.raises(
        ValueError, match="no solver is called 'eulr'; with fixed steps there are euler, midpoint"
    ):
        integrate(lambda x, t: x, x, method="eulr")
    with pytest.raises(ValueError, match="n_steps=0 must be at least 1"):
        integrate(lambda x, t: x, x, n_steps=0)
    with pytest.raises(ValueError, match="n_steps=0 must be at least 1"):
        FixedSteps(lambda x, t: x, n_steps=0)
    with pytest.raises(
        ValueError, match="no loop of fixed steps is called 'rk4'; there are euler, midpoint, heun2"
    ):
        FixedSteps(lambda x, t: x, "rk4")
    with pytest.raises(ValueError, match="step_size=-1 must be positive"):
        integrate(lambda x, t: x, x, step_size=-1)
    with pytest.raises(ValueError, match="not both"):
        integrate(lambda x, t: x, x, step_size=0.1, n_steps=3)
    for sampler in (lambda v: integrate(v, x, n_steps=4), lambda v: FixedSteps(v, n_steps=4)(x)):
        with pytest.raises(FloatingPointError, match="not finite at step 2, time 0.5"):
            sampler(lambda x, t: x + (math.nan if t >= 0.5 else 0.0))
    with pytest.raises(ValueError, match=r"one grid, got shapes \(2, 1, 4\) and \(2, 1, 5\)"):
        Straight().point(x, torch.zeros(2, 1, 5), torch.zeros(2))
    with pytest.raises(ValueError, match="sigma=1 must be in"):
        Straight(sigma=1)
    with pytest.raises(ValueError, match="start from the wrong law: use ConditionalOT"):
        PermutationOT()(x, x, x)
    with pytest.raises(ValueError, match="without one, use PermutationOT"):
        ConditionalOT()(x, x)
    with pytest.raises(ValueError, match="2 items of noise cannot be paired with 3"):
        PermutationOT()(x, torch.zeros(3, 1, 4))
    with pytest.raises(ValueError, match="probes=0 must be at least 1"):
        log_prob(lambda x, t: x, x, White(), probes=0)
    with pytest.raises(ValueError, match="dropout=1.0 must be in"):
        drop(x, 1.0)
    with pytest.raises(ValueError, match="should become finer, up to that of the noise"):
        coarse_to_fine(lambda x, t: still(x), x, [(4,), (2,)], [0.5], Straight())
    with pytest.raises(ValueError, match="1 ascending times within"):
        coarse_to_fine(lambda x, t: still(x), x, [(2,), (4,)], [1.5], Straight())
