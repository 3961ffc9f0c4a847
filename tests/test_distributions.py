"""Distances between laws, calibration and segmentation against independent formulas."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg, stats

from opflow import metrics

F64 = torch.float64


def draws(*shape, seed=0):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("n, m", [(40, 40), (40, 28), (13, 50)])
def test_on_a_line_the_sliced_distance_is_the_wasserstein_distance(n, m):
    a, b = draws(n, 1), 0.5 + 2 * draws(m, 1, seed=1)
    ours = metrics.sliced_wasserstein(a, b, projections=3, p=1)
    assert ours == pytest.approx(stats.wasserstein_distance(a[:, 0], b[:, 0]), rel=1e-12)


def test_sliced_distance_of_a_shift_in_the_plane():
    # The mean over directions of (theta . s)^2 is |s|^2 / dim.
    a, shift = draws(50, 8), draws(8, seed=2)
    found = metrics.sliced_wasserstein(a, a + shift, projections=20_000, generator=seeded())
    assert found == pytest.approx(float(shift.norm()) / math.sqrt(8), rel=0.02)


def test_mmd_is_the_sum_over_all_pairs():
    a, b = draws(9, 2, 3), 0.3 + draws(7, 2, 3, seed=1)
    x, y = a.flatten(1).numpy(), b.flatten(1).numpy()

    def mean(p, q, h2, same):
        k = np.array([[math.exp(-((u - v) ** 2).sum() / (2 * h2)) for v in q] for u in p])
        return k[~np.eye(len(p), dtype=bool)].mean() if same else k.mean()

    def plain(h2):
        return math.sqrt(max(mean(x, x, h2, True) + mean(y, y, h2, True) - 2 * mean(x, y, h2, False), 0))

    both = np.concatenate([x, y])
    apart = sorted(math.dist(u, v) for i, u in enumerate(both) for v in both[:i])
    median = apart[(len(apart) - 1) // 2]
    assert metrics.mmd(a, b) == pytest.approx(plain(median**2), rel=1e-9)
    assert metrics.mmd(a, b, "published") == pytest.approx(plain(6 / 2), rel=1e-9)
    assert metrics.mmd(a, b, 1.3) == pytest.approx(plain(1.69), rel=1e-9)


def test_mmd_of_normal_laws_has_a_closed_form():
    # One dimension, laws N(0, 1) and N(s, 1), kernel of width h.
    n, s, h = 4000, 1.0, 1.0
    front = h / math.sqrt(h**2 + 2)
    exact = math.sqrt(2 * front * (1 - math.exp(-(s**2) / (2 * (h**2 + 2)))))
    assert metrics.mmd(draws(n, 1), s + draws(n, 1, seed=1), h) == pytest.approx(exact, rel=0.05)


def test_the_published_bandwidth_sees_less_than_the_median():
    a, b = 0.1 * draws(200, 50), 0.1 * draws(200, 50, seed=1) + 0.03
    assert metrics.mmd(a, b) > 3 * metrics.mmd(a, b, "published")


def test_two_halves_are_the_floor_of_a_distance():
    sample, generator = draws(200, 4), seeded()
    floor = metrics.two_halves(metrics.sliced_wasserstein, sample, 20, generator)
    assert (floor.diff() >= 0).all() and len(floor) == 20
    same = metrics.sliced_wasserstein(sample[:100], draws(100, 4, seed=9))
    other = metrics.sliced_wasserstein(sample[:100], draws(100, 4, seed=9) + 1)
    assert same < 2 * floor[-1] and other > 2 * floor[-1]


def test_frechet_distance_is_that_of_the_moments():
    a, b = draws(60, 5), 1 + draws(80, 5, seed=1) @ draws(5, 5, seed=2)
    x, y = a.numpy(), b.numpy()
    cross = linalg.sqrtm(np.cov(x.T) @ np.cov(y.T)).real
    exact = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(np.cov(x.T) + np.cov(y.T) - 2 * cross)
    assert metrics.frechet_distance(a, b) == pytest.approx(exact, rel=1e-7)


@pytest.mark.parametrize("fair", [True, False])
def test_crps_is_its_double_sum(fair):
    x, y = draws(3, 6, 2), draws(3, 2, seed=1)
    pairs = (x[:, :, None] - x[:, None]).abs().sum((1, 2)) / (2 * 6 * (5 if fair else 6))
    expected = ((x - y[:, None]).abs().mean(1) - pairs).mean(1)
    torch.testing.assert_close(metrics.crps(x, y, fair), expected)


def test_fair_crps_of_a_normal_ensemble_is_that_of_the_law():
    truth = torch.zeros(40_000, 1, dtype=F64)
    found = metrics.crps(draws(40_000, 5, 1), truth).mean()
    exact = 2 / math.sqrt(2 * math.pi) - 1 / math.sqrt(math.pi)
    assert float(found) == pytest.approx(exact, abs=0.005)


def test_energy_score_of_single_values_is_the_crps():
    x, y = draws(4, 7, 1), draws(4, 1, seed=1)
    for fair in (True, False):
        torch.testing.assert_close(metrics.energy_score(x, y, fair), metrics.crps(x, y, fair))


def test_ranks_of_a_calibrated_ensemble_are_uniform_and_of_a_narrow_one_at_the_ends():
    members, truth = draws(20_000, 4, 1), draws(20_000, 1, seed=1)
    counts = metrics.rank_histogram(members, truth)
    assert counts.sum() == 20_000 and stats.chisquare(counts.numpy()).pvalue > 1e-3
    narrow = metrics.rank_histogram(0.3 * members, truth)
    assert narrow[0] > 2 * narrow[2] and narrow[-1] > 2 * narrow[2]
    ties = metrics.rank_histogram(torch.zeros(9000, 2, 1), torch.zeros(9000, 1), seeded())
    assert stats.chisquare(ties.numpy()).pvalue > 1e-3


@pytest.mark.parametrize("width", [0.5, 1.0, 2.0])
def test_spread_over_skill_and_over_truth(width):
    # Error of the mean: 1 + width^2 / m.
    members, truth = draws(20_000, 5, 2), draws(20_000, 2, seed=1)
    expected = width * math.sqrt(6 / 5) / math.sqrt(1 + width**2 / 5)
    assert metrics.spread_skill(width * members, truth) == pytest.approx(expected, rel=0.02)
    ratio = metrics.diversity_ratio(width * members, draws(20_000, 5, 2, seed=3))
    assert float(ratio.median()) == pytest.approx(width, rel=0.03)


def test_mean_iou_and_accuracy_count_by_hand():
    prediction, target = torch.tensor([[0, 1, 2, 2]]), torch.tensor([[0, 1, 1, 2]])
    assert metrics.mean_iou(prediction, target, 4) == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert metrics.pixel_accuracy(prediction, target) == 0.75


def test_autocovariance_is_the_mean_of_shifted_products():
    u = draws(3, 2, 5, 6)
    centred = u - u.mean((0, 2, 3), keepdim=True)
    found = metrics.autocovariance(u)
    for shift in ((0, 0), (1, 0), (2, 5)):
        products = centred * centred.roll([-s for s in shift], (2, 3))
        torch.testing.assert_close(found[(slice(None), *shift)], products.mean((0, 2, 3)))


def test_histogram_distance_is_the_wasserstein_distance_of_values():
    a, b = draws(20, 1, 50), 0.5 + 1.5 * draws(20, 1, 50, seed=1)
    exact = stats.wasserstein_distance(a.flatten(), b.flatten()) / float(b.std())
    assert float(metrics.histogram_distance(a, b, 2000)) == pytest.approx(exact, rel=0.01)


def test_spectrum_distance_compares_grids_in_their_common_band():
    fine = draws(4, 1, 32, 32)
    coarse = torch.fft.ifft2(torch.fft.fft2(fine)[..., :8, :8]).real  # other values, for another spectrum
    assert float(metrics.spectrum_distance(fine, fine)) == 0
    doubled = metrics.spectrum_distance(2 * coarse, coarse, shells=4)
    assert float(doubled) == pytest.approx(math.log(4))
    assert float(metrics.spectrum_distance(coarse, fine)) > 0


def test_errors_of_the_distances():
    a = torch.zeros(4, 2)
    with pytest.raises(ValueError, match="resample one of them to the grid of the other"):
        metrics.sliced_wasserstein(a, torch.zeros(4, 3))
    with pytest.raises(ValueError, match="needs two items of each sample, got 4 and 1"):
        metrics.mmd(a, a[:1])
    with pytest.raises(ValueError, match="'mean' is not 'median', 'published', or a number"):
        metrics.mmd(a, a, "mean")
    with pytest.raises(ValueError, match="the bandwidth must be positive"):
        metrics.mmd(a, a)
    with pytest.raises(ValueError, match="at least four items, got 3"):
        metrics.two_halves(metrics.mmd, a[:3])
    with pytest.raises(ValueError, match=r"an ensemble is \(batch, member, ...\)"):
        metrics.crps(a, a)
    with pytest.raises(ValueError, match="2 members or more, got 1"):
        metrics.spread_skill(torch.zeros(3, 1, 2), torch.zeros(3, 2))
    with pytest.raises(ValueError, match="integers from 0 to 1"):
        metrics.mean_iou(torch.tensor([0, 2]), torch.tensor([0, 1]), 2)
    with pytest.raises(ValueError, match="shells=9 should be 1 to 4"):
        metrics.spectrum_distance(torch.zeros(1, 1, 8), torch.zeros(1, 1, 16), shells=9)
    with pytest.raises(ValueError, match="the same channels"):
        metrics.histogram_distance(torch.zeros(1, 1, 8), torch.zeros(1, 2, 8))
