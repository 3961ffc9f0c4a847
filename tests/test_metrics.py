"""Every metric against numbers known in closed form, and against neuraloperator's where they agree."""

import math

import numpy as np
import pytest
import torch

from opflow import metrics
from pde_data import Grid

F64 = torch.float64


def grid(*sizes, lengths=None):
    """Coordinates of a periodic box, end points left out."""
    lengths = lengths or [1.0] * len(sizes)
    axes = [torch.arange(n, dtype=F64) / n * side for n, side in zip(sizes, lengths)]
    return torch.meshgrid(*axes, indexing="ij")


def field(values):
    return values[None, None]


def noise(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


# Errors


@pytest.mark.parametrize("space", [(16,), (15, 8), (4, 6, 5)], ids=str)
def test_relative_l2_is_neuralops_lploss(space):
    from neuralop import LpLoss

    p, y = noise(3, 2, *space), noise(3, 2, *space, seed=1)
    theirs = LpLoss(d=len(space), p=2, reduction="mean", eps=0.0)(p, y)
    assert metrics.relative_l2(p, y).mean().item() == pytest.approx(theirs.item(), rel=1e-13)


@pytest.mark.parametrize("space", [(16,), (15, 8), (4, 6, 5)], ids=str)
def test_relative_h1_is_neuralops_h1loss_on_periodic_axes(space):
    from neuralop import H1Loss

    p, y = noise(3, 2, *space), noise(3, 2, *space, seed=1)
    theirs = H1Loss(d=len(space), reduction="mean", eps=0.0)(p, y)
    assert metrics.relative_h1(p, y).mean().item() == pytest.approx(theirs.item(), rel=1e-13)


def test_relative_l2_averages_over_channels_and_keeps_samples():
    y = torch.ones(2, 3, 5, dtype=F64)
    factors = torch.tensor([[1.0, 1.5, 2.5], [0.0, 0.0, 3.0]], dtype=F64)
    expected = [(0.0 + 0.5 + 1.5) / 3, (1 + 1 + 2) / 3]
    assert metrics.relative_l2(y * factors[:, :, None], y).tolist() == pytest.approx(expected, rel=1e-14)


def test_a_target_of_zero_counts_the_absolute_error():
    zero = torch.zeros(1, 1, 4)
    assert metrics.relative_l2(zero, zero).item() == 0
    assert metrics.relative_l2(zero + 3, zero).item() == 6


@pytest.mark.parametrize("periodic", [True, False])
def test_relative_h1_converges_at_second_order_to_the_integral(periodic):
    # y = exp(sin 2 pi x) on [0, 1], error e = 0.1 cos 2 pi x: the integrals by an independent quadrature.
    fine = np.arange(200_000) / 200_000
    s, c = np.sin(2 * np.pi * fine), np.cos(2 * np.pi * fine)
    y2 = np.mean(np.exp(s) ** 2 + (2 * np.pi * c * np.exp(s)) ** 2)
    e2 = np.mean((0.1 * c) ** 2 + (0.2 * np.pi * s) ** 2)
    exact = math.sqrt(e2 / y2)
    errors = []
    for n in (64, 128, 256):
        (x,) = grid(n)
        y, e = torch.exp(torch.sin(2 * torch.pi * x)), 0.1 * torch.cos(2 * torch.pi * x)
        errors.append(abs(metrics.relative_h1(field(y + e), field(y), periodic=periodic).item() - exact))
    orders = np.log2(np.array(errors[:-1]) / np.array(errors[1:]))
    assert np.all(orders > 1.7), (errors, orders)


def test_relative_h1_feels_the_spacing_of_each_axis():
    # e varies along the first axis only, y along the second: each norm has one known derivative.
    n, m, hx, hy = 9, 12, 0.3, 0.05
    x, y = grid(n, m)
    e, u = torch.sin(2 * torch.pi * x), torch.sin(2 * torch.pi * y)
    dx, dy = math.sin(2 * math.pi / n) / hx, math.sin(2 * math.pi / m) / hy
    exact = math.sqrt((1 + dx**2) / (1 + dy**2))
    assert metrics.relative_h1(field(u + e), field(u), spacing=[hx, hy]).item() == pytest.approx(exact)


def test_nrmse_and_vrmse_of_a_shifted_wave():
    # y = 3 + sin, p = y + 0.5: mse 1/4, mean square 9.5, variance 1/2.
    (x,) = grid(11)
    y = field(3 + torch.sin(2 * torch.pi * x))
    assert metrics.nrmse(y + 0.5, y, eps=0).item() == pytest.approx(0.5 / math.sqrt(9.5), rel=1e-12)
    assert metrics.vrmse(y + 0.5, y, eps=0).item() == pytest.approx(0.5 / math.sqrt(0.5), rel=1e-12)


def test_vrmse_of_the_mean_is_one():
    y = noise(2, 3, 7, 4)
    mean = y.mean((2, 3), keepdim=True).expand_as(y)
    assert metrics.vrmse(mean, y, eps=0).tolist() == pytest.approx([1, 1], rel=1e-12)


# Spectra

BOXES = [
    ((16,), [1.0]),
    ((15,), [2.0]),
    ((12, 16), [1.0, 1.0]),
    ((9, 14), [2.0, 0.5]),
    ((4, 5, 6), [1.0, 3.0, 2.0]),
]


@pytest.mark.parametrize("sizes, lengths", BOXES, ids=str)
def test_shells_sum_to_the_mean_square(sizes, lengths):
    u = noise(2, 3, *sizes)
    _, shells = metrics.spectrum(u, lengths)
    torch.testing.assert_close(shells.sum(2), u.square().flatten(2).mean(2), rtol=1e-13, atol=0)


def test_shells_sum_to_the_mean_square_of_complex_fields():
    u = torch.complex(noise(1, 1, 6, 7), noise(1, 1, 6, 7, seed=1))
    assert metrics.spectrum(u)[1].sum().item() == pytest.approx(u.abs().square().mean().item(), rel=1e-13)


@pytest.mark.parametrize("sizes", [(32, 32), (31, 24)], ids=str)
def test_a_wave_lies_in_its_shell(sizes):
    lengths = [2.0, 0.5]
    x, y = grid(*sizes, lengths=lengths)
    kx, ky = 2 * math.pi * 3 / 2.0, 2 * math.pi * 1 / 0.5
    k, shells = metrics.spectrum(field(2 * torch.cos(kx * x + ky * y)), lengths)
    # dk = pi, |k| / dk = 5 exactly for the 3-4-5 triangle
    assert int(shells.argmax()) == 5
    assert k[5].item() == pytest.approx(math.hypot(kx, ky))
    assert shells[0, 0, 5].item() == pytest.approx(2.0, rel=1e-12)
    assert shells.sum().item() == pytest.approx(2.0, rel=1e-12)


def test_a_smooth_field_has_one_spectrum_on_every_grid():
    def shells(*sizes):
        x, y = grid(*sizes)
        u = torch.exp(0.3 * torch.sin(2 * torch.pi * x) * torch.cos(4 * torch.pi * y))
        return metrics.spectrum(field(u))[1][0, 0, :10]

    torch.testing.assert_close(shells(40, 45), shells(64, 33), rtol=1e-9, atol=1e-14)


def test_energy_from_vorticity_and_from_velocity_agree():
    lengths = [2.0, 3.0]
    x, y = grid(24, 27, lengths=lengths)
    a, b = 2 * math.pi * 2 / 2.0, 2 * math.pi * 1 / 3.0
    # stream function sin(a x) cos(b y) + cos(b y): u = psi_y, v = -psi_x, vorticity -laplace psi
    u = -b * (torch.sin(a * x) + 1) * torch.sin(b * y)
    v = -a * torch.cos(a * x) * torch.cos(b * y)
    w = (a * a + b * b) * torch.sin(a * x) * torch.cos(b * y) + b * b * torch.cos(b * y)
    k, of_velocity = metrics.energy_spectrum(torch.stack([u, v])[None], lengths, of="velocity")
    _, of_vorticity = metrics.energy_spectrum(field(w), lengths)
    torch.testing.assert_close(of_velocity, of_vorticity, rtol=1e-11, atol=1e-13)
    assert of_velocity.sum().item() == pytest.approx((u.square() + v.square()).mean().item() / 2, rel=1e-12)


def test_enstrophy_sums_to_half_the_mean_square():
    w = noise(2, 1, 9, 8)
    _, z = metrics.enstrophy_spectrum(w, 3.0)
    torch.testing.assert_close(z.sum(1), w.square().flatten(1).mean(1) / 2, rtol=1e-13, atol=0)


# Rollouts


def test_rollout_error_applies_the_metric_step_by_step():
    p, y = noise(2, 4, 3, 5, 6), noise(2, 4, 3, 5, 6, seed=1)
    errors = metrics.rollout_error(p, y, metrics.vrmse)
    expected = torch.stack([metrics.vrmse(p[:, t], y[:, t]) for t in range(4)], dim=1)
    torch.testing.assert_close(errors, expected, rtol=0, atol=0)


def phase_drift(times, rate):
    """A wave that runs ahead of the truth by `rate * t` radians: correlation cos(rate t)."""
    (x,) = grid(32)
    steps = [torch.stack([torch.sin(2 * torch.pi * x + r * t) for t in times])[:, None] for r in (rate, 0.0)]
    return steps[0][None], steps[1][None]


def test_correlation_of_a_phase_shift_is_its_cosine():
    times = np.linspace(0.1, 2, 7)
    prediction, truth = phase_drift(times, rate=1.3)
    torch.testing.assert_close(
        metrics.correlation(prediction, truth)[0], torch.as_tensor(np.cos(1.3 * times)), rtol=0, atol=1e-13
    )
    torch.testing.assert_close(  # neither an offset nor a scale changes it
        metrics.correlation(7 + 3 * prediction, truth),
        metrics.correlation(prediction, truth),
        rtol=1e-9,
        atol=0,
    )


def test_correlation_time_converges_at_second_order_to_the_crossing():
    exact, errors = math.acos(0.8) / 1.3, []
    for steps in (10, 40, 160):
        times = np.linspace(0, 2, steps + 1)[1:]
        errors.append(abs(metrics.correlation_time(*phase_drift(times, 1.3), times, 0.8).item() - exact))
    assert errors[0] < 0.01
    assert errors[2] < errors[0] / 50


def test_correlation_time_takes_the_first_fall_and_none_is_infinite():
    y = torch.tensor([1.0, -1.0], dtype=F64).expand(3, 3, 1, 2)
    signs = torch.tensor([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]], dtype=F64)
    times = metrics.correlation_time(y * signs[:, :, None, None], y, [1.0, 3.0, 4.0], threshold=0.0)
    assert times.tolist() == pytest.approx([2.0, math.inf, 0.5], rel=1e-12)


def test_correlation_time_of_a_rollout_that_blew_up_is_before_the_blow_up():
    y = noise(1, 3, 1, 8)
    p = y.clone()
    p[:, 1:] = torch.nan
    assert 1.0 < metrics.correlation_time(p, y, [1.0, 2.0, 3.0]).item() < 2.0


# Symmetry and grids


def test_isotropic_models_commute_and_others_do_not():
    x = noise(2, 1, 8, 8)

    def laplacian(u):
        return sum(u.roll(s, a) for s in (1, -1) for a in (-1, -2)) - 4 * u

    def swirl(u):  # a rotation-invariant, but handed, stencil
        return sum(u.rot90(k, (-1, -2)) for k in range(4)) + _handed(u)

    assert metrics.equivariance_error(laplacian, x, "p4m").max() < 1e-14
    assert metrics.equivariance_error(_handed, x, "p4").max() < 1e-14
    assert metrics.equivariance_error(_handed, x, "p4m").min() > 0.1
    assert metrics.equivariance_error(lambda u: u - u.roll(1, -1), x, "p4").min() > 0.1


def _handed(u):
    """Neighbour stencil with the same weights under quarter turns, changed by reflections."""
    return (
        u.roll((1, 2), (-2, -1))
        + u.roll((2, -1), (-2, -1))
        + u.roll((-1, -2), (-2, -1))
        + u.roll((-2, 1), (-2, -1))
    )


def test_kinds_of_fields_decide_how_they_turn():
    def curl(u):  # of a velocity, a pseudoscalar
        return (u[:, 1:].roll(-1, 2) - u[:, 1:].roll(1, 2)) - (u[:, :1].roll(-1, 3) - u[:, :1].roll(1, 3))

    u = noise(2, 2, 8, 8)
    error = metrics.equivariance_error(curl, u, "p4m", in_kinds="vector", out_kinds="pseudoscalar")
    assert error.max() < 1e-14
    assert metrics.equivariance_error(curl, u, "p4m", in_kinds="vector").min() > 1
    assert metrics.equivariance_error(curl, u, "p4").min() > 0.1
    oblong = noise(1, 2, 6, 9)
    assert metrics.equivariance_error(curl, oblong, "p4", in_kinds="vector").max() < 1e-14


def test_equivariance_with_another_action_on_the_output():
    # The derivative changes its sign under a reflection of its axis.
    x = noise(1, 1, 9)

    def derivative(u):
        return u.roll(-1, -1) - u.roll(1, -1)

    def reflect(u):
        return u.flip(-1)

    assert metrics.equivariance_error(derivative, x, reflect).item() == pytest.approx(2.0)
    assert metrics.equivariance_error(derivative, x, reflect, lambda u: -u.flip(-1)).item() < 1e-14


def test_grid_shift_error_of_a_model_that_counts_points():
    # f(u) = n u on n points: 32 points against 16 gives (16 - 32) / 32.
    (x,) = grid(32)
    u = field(torch.sin(2 * torch.pi * x))
    assert metrics.grid_shift_error(lambda v: v.shape[-1] * v, u, (16,)).item() == pytest.approx(
        0.5, rel=1e-12
    )
    assert metrics.grid_shift_error(torch.square, u, (15,)).item() < 1e-13


def test_grid_shift_error_on_odd_and_oblong_grids():
    x, y = grid(21, 32)
    u = field(torch.cos(2 * torch.pi * (x + 2 * y)) + 0.3 * torch.sin(4 * torch.pi * x))
    assert metrics.grid_shift_error(lambda v: v**2, u, (13, 17)).item() < 1e-12


def test_grid_shift_error_on_a_bounded_grid():
    # Straight lines pass through linear interpolation unchanged; both ends are nodes.
    bounded = Grid((17,), lengths=3.0, periodic=False)
    u = field(torch.as_tensor(bounded.coordinates[0]))
    assert metrics.grid_shift_error(lambda v: 2 * v + 1, u, (5,), bounded).item() < 1e-14
    assert metrics.grid_shift_error(lambda v: v.shape[-1] * v, u, (5,), bounded).item() == pytest.approx(
        12 / 17
    )


# Messages

y3, y4 = torch.zeros(2, 1, 8), torch.zeros(2, 1, 8, 8)
BAD = {
    "shapes": (lambda: metrics.relative_l2(y3, y4), "one shape.*resample"),
    "rank": (lambda: metrics.vrmse(y3[0], y3[0]), r"expected \(batch, channel, \*space\)"),
    "rollout rank": (lambda: metrics.rollout_error(y3, y3), r"\(batch, step, channel, \*space\)"),
    "spacing": (lambda: metrics.relative_h1(y4, y4, spacing=[0.1]), r"spacing needs .* \(2\), got 1"),
    "lengths": (lambda: metrics.spectrum(y4, [1.0, 0.0]), r"lengths must be positive, got \[1.0, 0.0\]"),
    "energy of": (
        lambda: metrics.energy_spectrum(y4, of="pressure"),
        "'vorticity' or 'velocity', got 'pressure'",
    ),
    "times": (
        lambda: metrics.correlation_time(y4[:, :, None], y4[:, :, None], [1.0, 2.0]),
        "one entry per step",
    ),
    "order": (
        lambda: metrics.correlation_time(y4[:, :, None], y4[:, :, None], [0.0]),
        "positive and increase",
    ),
    "threshold": (lambda: metrics.correlation_time(y4[:, :, None], y4[:, :, None], [1.0], 1.0), "below 1"),
    "group": (
        lambda: metrics.equivariance_error(torch.square, y4, "p6"),
        "unknown group 'p6': there are p4, p4m",
    ),
    "axes": (lambda: metrics.equivariance_error(torch.square, y3, "p4"), "acts on two space axes"),
    "kinds": (
        lambda: metrics.equivariance_error(torch.square, y4, torch.neg, in_kinds="vector"),
        "go with the name of a group",
    ),
    "kinds of channels": (
        lambda: metrics.equivariance_error(torch.square, y4, "p4", in_kinds=["vector"]),
        r"in_kinds=\('vector',\) make 2 channels, a vector counting 2, but there are 1",
    ),
    "output": (
        lambda: metrics.equivariance_error(torch.square, y4, "p4", torch.neg),
        "pass a function instead",
    ),
    "coarse": (
        lambda: metrics.grid_shift_error(torch.square, y4, (9, 4)),
        "does not lie below the grid of x",
    ),
}


@pytest.mark.parametrize("call, message", BAD.values(), ids=BAD)
def test_messages(call, message):
    with pytest.raises(ValueError, match=message):
        call()
