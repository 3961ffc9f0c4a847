"""Noise sources: their covariance, their density, and the same function on every grid and at any points."""

import math

import numpy as np
import pytest
import torch
from scipy.special import gamma, kv

from opflow.rectified import GaussianProcess, White
from pde_data import Grid

F64 = torch.float64


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def sample(noise, where, n=2, seed=0, **options):
    return noise.sample(where, n, seeded(seed), dtype=F64, **options)


def matern(r, length, nu):
    if math.isinf(nu):
        return np.exp(-(r**2) / (2 * length**2))
    s = math.sqrt(2 * nu) * np.maximum(r, 1e-12) / length
    return 2 ** (1 - nu) / gamma(nu) * s**nu * kv(nu, s)


@pytest.mark.parametrize("nu", [1.5, 2.5, math.inf])
@pytest.mark.parametrize("dim", [1, 2])
def test_the_covariance_is_materns(nu, dim):
    noise = GaussianProcess(length=0.15, nu=nu, std=1.7, box=2.0, highest=64)
    lag = torch.zeros(20, dim, dtype=F64)
    lag[:, 0] = torch.linspace(0, 0.6, 20)
    lag[:, -1] += torch.linspace(0, 0.3, 20)
    exact = 1.7**2 * matern(lag.norm(dim=1).numpy(), 0.15, nu)
    # What is left: images at distance 2 - 0.7, and waves beyond the 64th.
    np.testing.assert_allclose(noise.covariance(lag).numpy(), exact, atol=5e-3 if nu == 1.5 else 3e-4)


def test_rough_fields_have_the_spectrum_of_the_exponential_covariance():
    # nu = 1/2 in one dimension: the transform of exp(-|r| / l) is 2 l / (1 + k^2 l^2).
    noise = GaussianProcess(length=0.1, nu=0.5)
    k = torch.arange(50)[:, None]
    exact = 2 * 0.1 / (1 + (2 * math.pi * k[:, 0].double() * 0.1) ** 2)
    torch.testing.assert_close(noise.spectrum(k), exact)


@pytest.mark.parametrize("sizes", [(8,), (6, 5), (4, 4)], ids=str)
def test_samples_on_a_grid_have_the_covariance_of_their_density(sizes):
    noise = GaussianProcess(length=0.3, nu=1.0, nugget=0.1)
    fields = sample(noise, sizes, 40_000).flatten(1)
    empirical = fields.T @ fields / len(fields)
    # The covariance from the density: minus the inverse of the matrix of its second derivatives.
    hessian = torch.autograd.functional.hessian(
        lambda u: noise.log_prob(u.reshape(1, 1, *sizes)).sum(), torch.zeros(fields.shape[1], dtype=F64)
    )
    covariance = torch.linalg.inv(-hessian)
    assert (empirical - covariance).abs().max() < 0.03 * covariance.max()
    law = torch.distributions.MultivariateNormal(torch.zeros(len(covariance), dtype=F64), covariance)
    torch.testing.assert_close(noise.log_prob(fields[:3].reshape(3, 1, *sizes)), law.log_prob(fields[:3]))


@pytest.mark.parametrize("sizes", [(8, 8), (7, 12)], ids=str)
def test_the_grid_covariance_is_the_function_of_the_lag(sizes):
    # On a grid that resolves its band, variance and all covariances are those of `covariance`.
    noise = GaussianProcess(length=0.4, nu=math.inf, highest=3)
    fields = sample(noise, sizes, 20_000)[:, 0]
    found = (fields * fields[:, :1, :1]).mean(0)
    lag = torch.stack(torch.meshgrid(*[torch.arange(n, dtype=F64) / n for n in sizes], indexing="ij"), -1)
    torch.testing.assert_close(found, noise.covariance(lag), atol=0.03, rtol=0)


@pytest.mark.parametrize("coarse, fine", [((16, 16), (32, 32)), ((15, 8), (24, 40)), ((9,), (64,))], ids=str)
def test_the_same_function_on_two_grids(coarse, fine):
    noise = GaussianProcess(length=0.1, nu=0.5)
    a, b = (
        torch.fft.fftn(sample(noise, n, 3, channels=2), dim=tuple(range(2, 2 + len(n))), norm="forward")
        for n in (coarse, fine)
    )
    shared = [torch.arange(-((n - 1) // 2), (n - 1) // 2 + 1) for n in coarse]
    modes = torch.meshgrid(*shared, indexing="ij")
    scale = a.abs().max()
    difference = a[(..., *modes)] - b[(..., *modes)]
    assert difference.abs().max() <= 1e-6 * scale and a[(..., *modes)].abs().max() > 0.1 * scale


def test_the_same_function_at_points_and_on_every_kind_of_grid():
    noise = GaussianProcess(length=0.2, highest=7)
    regular = sample(noise, (15, 15))
    cells = Grid((15, 15), periodic=False, location="cell")
    closed = Grid((11, 6), periodic=False)
    for grid in (Grid((15, 15)), cells, closed):
        points = np.stack(np.meshgrid(*grid.coordinates, indexing="ij"), -1).reshape(-1, 2)
        at = sample(noise, torch.as_tensor(points))
        torch.testing.assert_close(sample(noise, grid).flatten(2).mT, at, atol=1e-10, rtol=0)
    torch.testing.assert_close(sample(noise, Grid((15, 15))), regular)


def test_points_of_each_sample_are_points_of_its_function():
    noise = GaussianProcess(length=0.2, highest=9)
    points = torch.rand(2, 30, 2, dtype=F64, generator=seeded(1))
    own = sample(noise, points, channels=3)
    for i in range(2):
        torch.testing.assert_close(own[i], sample(noise, points[i], channels=3)[i])


def test_part_of_a_larger_box():
    noise = GaussianProcess(length=0.3, box=2.0, highest=20)
    points = torch.tensor([[0.0, 0.0], [0.999, 0.0]], dtype=F64)
    fields = sample(noise, points, 20_000)[..., 0]
    ends = float((fields[:, 0] * fields[:, 1]).mean())
    assert ends == pytest.approx(float(matern(np.array(0.999), 0.3, 1.5)), abs=0.03)  # far, not neighbours


@pytest.mark.parametrize("count", [12, 200])
def test_density_at_points_is_that_of_the_covariance_matrix(count):
    noise = GaussianProcess(length=0.3, highest=3, nugget=0.2)
    points = torch.rand(count, 2, dtype=F64, generator=seeded(1))
    u = sample(noise, points, 3, channels=2)
    lag = points[:, None] - points
    matrix = noise.covariance(lag) + 0.04 * torch.eye(count, dtype=F64)
    law = torch.distributions.MultivariateNormal(torch.zeros(count, dtype=F64), matrix)
    torch.testing.assert_close(noise.log_prob(u, points), law.log_prob(u.mT).sum(1))
    each = points.expand(3, -1, -1)
    torch.testing.assert_close(noise.log_prob(u, each), noise.log_prob(u, points))


def test_white_noise_and_seeds():
    u = White().sample((64, 64), 4, seeded(), channels=2, dtype=F64)
    assert torch.equal(u, White().sample((64, 64), 4, seeded(), channels=2, dtype=F64))
    exact = torch.distributions.Normal(0.0, 1.0).log_prob(u).flatten(1).sum(1)
    torch.testing.assert_close(White().log_prob(u), exact)
    at_points = White().sample(torch.rand(9, 2), 4, seeded())
    assert at_points.shape == (4, 9, 1) and float(u.std()) == pytest.approx(1, abs=0.02)


def test_drawing_at_points_is_far_faster_than_by_cholesky():
    import time

    noise = GaussianProcess(length=0.1, nu=1.5, highest=16)
    points = torch.rand(1024, 2, dtype=F64, generator=seeded())

    def by_cholesky():
        r = torch.cdist(points, points) * math.sqrt(3) / 0.1
        kernel = (1 + r) * (-r).exp() + 1e-6 * torch.eye(len(points))
        return torch.linalg.cholesky(kernel) @ torch.randn(len(points), 4, dtype=F64)

    def seconds(draw):
        best = math.inf
        for _ in range(3):
            start = time.process_time()
            draw()
            best = min(best, time.process_time() - start)
        return best

    # At 4,096 points, where the cube has grown by 64, benchmarks/rectified.py demands a factor of 20.
    assert seconds(lambda: noise.sample(points, 4)) < seconds(by_cholesky)


def test_errors_of_noise():
    noise = GaussianProcess(highest=2)
    with pytest.raises(ValueError, match="length=0 must be positive"):
        GaussianProcess(length=0)
    with pytest.raises(ValueError, match="nugget=-1 must not be negative"):
        GaussianProcess(nugget=-1)
    with pytest.raises(ValueError, match="at 50 points the law of 25 waves has no density"):
        noise.log_prob(torch.zeros(1, 50, 1), torch.rand(50, 2))
    with pytest.raises(ValueError, match=r"with n=2 here, got shape \(3, 5, 2\)"):
        noise.sample(torch.rand(3, 5, 2), 2)
