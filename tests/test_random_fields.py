import numpy as np
import pytest
from scipy import fft, stats

from pde_data.grids import Grid, resample
from pde_data.random_fields import GaussianRandomField, NeumannRandomField


@pytest.mark.parametrize("sizes", [(24, 24), (15, 22), (21,), (8, 10, 9)])
def test_one_seed_is_one_function_on_every_grid(sizes):
    field = GaussianRandomField()
    small = Grid(sizes)
    large = Grid(tuple(2 * n + 7 for n in sizes))
    a, b = (np.fft.fftn(field.sample(7, [3], g)[0], norm="forward") for g in (small, large))
    for k in np.ndindex(*((n + 1) // 2 for n in sizes)):
        assert abs(a[k] - b[k]) <= 1e-15
    odd = Grid(tuple(n // 2 * 2 - 1 for n in sizes))
    np.testing.assert_allclose(
        resample(field.sample(7, [3], large), large, odd), field.sample(7, [3], odd), atol=1e-13
    )


def test_cells_and_a_displaced_origin_sample_the_same_function():
    field, nodes = GaussianRandomField(), Grid((15, 15))
    values = field.sample(0, [0], nodes)
    cells = Grid((15, 15), location="cell")
    np.testing.assert_allclose(field.sample(0, [0], cells), resample(values, nodes, cells), atol=1e-13)
    np.testing.assert_array_equal(field.sample(0, [0], Grid((15, 15), origin=-1.0)), values)


def test_samples_depend_on_seed_and_index_alone():
    field, grid = GaussianRandomField(), Grid((16, 16))
    every = field.sample(11, range(20), grid)
    np.testing.assert_array_equal(field.sample(11, [13, 2], grid), every[[13, 2]])
    assert np.abs(field.sample(12, [2], grid) - every[2]).max() > 0.1
    assert abs(np.corrcoef(every.reshape(20, -1))[np.triu_indices(20, 1)]).max() < 0.8


@pytest.mark.parametrize(("sizes", "lengths"), [((16, 16), 1.0), ((12, 15), (1.0, 2.0)), ((31,), 2 * np.pi)])
def test_spectrum_and_distribution_match_the_law(sizes, lengths):
    """For 1000 draws, 2 |c_k|^2 / E|c_k|^2 is chi-squared with 2 degrees of freedom, independently."""
    field, grid = GaussianRandomField(tau=5.0, alpha=2.0), Grid(sizes, lengths=lengths)
    draws = 1000
    c = np.fft.fftn(field.sample(0, range(draws), grid), axes=range(1, grid.ndim + 1), norm="forward")
    modes = [k for k in np.ndindex(sizes) if all(2 * i != n for i, n in zip(k, sizes)) and any(k)]
    half = [k for k in modes if k < tuple(-i % n for i, n in zip(k, sizes))]
    expected = field.variance(grid)
    index = tuple(np.array(half).T)
    normalised = 2 * np.abs(c[:, *index]) ** 2 / expected[index]
    total = normalised.sum()
    freedom = 2 * draws * len(half)
    assert 1e-3 < stats.chi2.cdf(total, freedom) < 1 - 1e-3
    assert stats.kstest(normalised.ravel(), "chi2", args=(2,)).pvalue > 1e-3
    # Each mode separately, with a level for the number of modes.
    p = stats.chi2.cdf(normalised.sum(0), 2 * draws)
    assert np.all(np.minimum(p, 1 - p) > 1e-3 / len(half))


def test_law_is_that_of_the_fno_paper():
    """sigma sqrt(2) (4 pi^2 k^2 + tau^2)^(-alpha/2) with sigma = tau^((2 alpha - d)/2)."""
    variance = GaussianRandomField().variance(Grid((16, 16)))
    expected = 2 * 7.0**3 * (4 * np.pi**2 * (2**2 + 5**2) + 49) ** -2.5
    assert variance[2, 5] == pytest.approx(expected, rel=1e-13)
    assert variance[0, 0] == 0


def test_fields_are_stationary_with_mean_zero():
    grid = Grid((10, 9))
    samples = GaussianRandomField().sample(3, range(1000), grid)
    assert np.abs(samples.mean((1, 2))).max() < 1e-14
    variance = samples.var(0)
    resolved = GaussianRandomField().variance(grid)
    resolved[5] = 0  # the Nyquist row of the even axis is left out
    np.testing.assert_allclose(variance, resolved.sum(), rtol=0.25)
    assert variance.mean() == pytest.approx(resolved.sum(), rel=0.05)


@pytest.mark.parametrize("location", ["cell", "node"])
@pytest.mark.parametrize("sizes", [(9,), (7, 10), (4, 5, 3)])
def test_the_bounded_field_is_its_sum_of_cosines_on_every_grid(sizes, location):
    """One function: its modes are read from cells, and summed at the points of any grid."""
    field, lengths = NeumannRandomField(tau=2.0, alpha=1.5), (1.0, 2.0, 0.5)[: len(sizes)]
    cells = Grid(sizes, lengths, periodic=False, location="cell")
    modes = fft.dctn(field.sample(3, [8], cells)[0], norm="ortho")
    larger = tuple(2 * n + 1 for n in sizes)
    finer = fft.dctn(field.sample(3, [8], cells.with_sizes(larger))[0], norm="ortho")
    ratio = np.sqrt(np.prod(larger) / np.prod(sizes))
    np.testing.assert_allclose(finer[tuple(map(slice, sizes))], ratio * modes, atol=1e-13)

    grid = Grid(sizes, lengths, periodic=False, location=location)
    total = modes / np.sqrt(np.prod(sizes))
    for axis, (x, n, length) in enumerate(zip(grid.coordinates, sizes, lengths)):
        k = np.arange(n)
        waves = np.where(k > 0, np.sqrt(2), 1) * np.cos(np.pi * np.outer(x / length, k))
        total = np.moveaxis(np.tensordot(waves, total, axes=(1, axis)), 0, axis)
    np.testing.assert_allclose(field.sample(3, [8], grid)[0], total, atol=1e-13)


def test_the_bounded_field_has_the_law_of_the_fno_paper():
    """Normalised cosines have independent coefficients of deviation sigma (pi^2 k^2 + tau^2)^(-alpha/2)."""
    draws, n, lengths = 1000, (6, 5), (1.0, 2.0)
    grid = Grid(n, lengths, periodic=False, location="cell")
    values = NeumannRandomField(tau=3.0, alpha=2.0).sample(0, range(draws), grid)
    modes = fft.dctn(values, axes=(1, 2), norm="ortho") * np.sqrt(2.0 / np.prod(n))
    assert np.abs(modes[:, 0, 0]).max() < 1e-14
    k = np.indices(n)
    deviation = 3.0 * ((np.pi * k[0]) ** 2 + (np.pi * k[1] / 2) ** 2 + 9) ** -1.0
    normal = (modes / deviation).reshape(draws, -1)[:, 1:]
    assert stats.kstest(normal.ravel(), "norm").pvalue > 1e-3
    p = stats.chi2.cdf((normal**2).sum(0), draws)
    assert np.all(np.minimum(p, 1 - p) > 1e-3 / normal.shape[1])
    assert abs(np.corrcoef(normal.T)[np.triu_indices(normal.shape[1], 1)]).max() < 0.15


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NeumannRandomField(tau=-1.0), "must not be negative"),
        (lambda: NeumannRandomField(sigma=0.0), "must be positive"),
        (lambda: NeumannRandomField().sample(0, [0], Grid((4, 4))), "bounded box"),
        (lambda: GaussianRandomField(tau=-1.0), "must not be negative"),
        (lambda: GaussianRandomField(sigma=0.0), "must be positive"),
        (lambda: GaussianRandomField().sample(0, [0], Grid((4, 4), periodic=False)), "periodic box"),
        (lambda: GaussianRandomField().sample(0, [-1], Grid((4, 4))), "count from 0, got -1"),
    ],
)
def test_bad_input_is_explained(make, words):
    with pytest.raises(ValueError, match=words):
        make()
