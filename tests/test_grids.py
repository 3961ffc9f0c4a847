import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pde_data.grids import Grid, resample


def trigonometric(grid, highest):
    """A fixed trigonometric polynomial with modes up to `highest` on every axis."""
    value = np.zeros(grid.sizes)
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*grid.coordinates, indexing="ij")
    for _ in range(12):
        k = rng.integers(-highest, highest + 1, grid.ndim)
        phase = sum(2 * np.pi * n * (x - o) / L for n, x, o, L in zip(k, axes, grid.origin, grid.lengths))
        value += rng.normal() * np.cos(phase + rng.uniform(0, 6))
    return value


@pytest.mark.parametrize("location", ["node", "cell"])
@pytest.mark.parametrize("periodic", [True, False])
def test_weights_sum_to_the_volume(location, periodic):
    grid = Grid((7, 5), lengths=(2.0, 3.0), periodic=periodic, location=location)
    assert grid.quadrature().shape == grid.sizes
    assert grid.quadrature().sum() == pytest.approx(6.0, rel=1e-14)


def test_coordinates_of_the_four_kinds_of_axis():
    kind = lambda **settings: Grid((4,), **settings).coordinates[0]  # noqa: E731
    np.testing.assert_allclose(kind(), [0, 0.25, 0.5, 0.75])
    np.testing.assert_allclose(kind(periodic=False), [0, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(kind(location="cell", origin=-1.0, lengths=2.0), [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(kind(location="cell", periodic=False), [0.125, 0.375, 0.625, 0.875])


def test_quadrature_is_exact_where_it_should_be():
    periodic = Grid((8, 9), lengths=(2.0, 1.0), location="cell")
    f = 1 + trigonometric(periodic, 3) * 0
    f = f + np.cos(2 * np.pi * 3 * periodic.coordinates[1])
    assert (periodic.quadrature() * f).sum() == pytest.approx(2.0, abs=1e-14)
    closed = Grid((6,), lengths=3.0, periodic=False)
    assert closed.weights[0] @ (2 * closed.coordinates[0] + 1) == pytest.approx(12.0)


def test_wavenumbers_differentiate():
    grid = Grid((15,), lengths=3.0)
    (x,), (k,) = grid.coordinates, [grid.wavenumbers(0)]
    derivative = np.fft.ifft(1j * k * np.fft.fft(np.sin(2 * np.pi * 4 * x / 3))).real
    np.testing.assert_allclose(derivative, 8 * np.pi / 3 * np.cos(2 * np.pi * 4 * x / 3), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "grid",
    [
        Grid((32, 17), lengths=(1.0, 2.0)),
        Grid((32, 17), lengths=(2.0, 3.0), location="cell", origin=(-1.0, 0.0)),
        Grid((32, 17), periodic=(True, False)),
        Grid((33,), periodic=False),
    ],
    ids=["periodic", "cells", "mixed", "closed"],
)
def test_grids_are_inferred_from_their_coordinates(grid, dtype):
    coordinates = [x.astype(dtype) for x in grid.coordinates]
    if grid.location == "cell":
        # Centres are told from nodes by the first one, half a cell from zero.
        coordinates[0] = coordinates[0] + 1
        grid = Grid(grid.sizes, grid.lengths, location="cell")
    assert Grid.from_coordinates(*coordinates, periodic=grid.periodic) == grid


def test_grids_are_hashable_and_scalars_mean_every_axis():
    assert len({Grid((4, 4), 1.0), Grid((4, 4), (1.0, 1.0), (True, True))}) == 1
    assert Grid((4, 4), 2.0).with_sizes((8, 6)) == Grid((8, 6), 2.0)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(4, 20),
    st.integers(4, 20),
    st.integers(4, 20),
    st.integers(4, 20),
    st.sampled_from(["node", "cell"]),
)
def test_fourier_resampling_is_exact_for_resolved_fields(h, w, m, n, location):
    source = Grid((h, w), lengths=(1.0, 2.0))
    target = Grid((m, n), lengths=(1.0, 2.0), location=location)
    highest = (min(h, w, m, n) - 1) // 2
    out = resample(trigonometric(source, highest), source, target)
    np.testing.assert_allclose(out, trigonometric(target, highest), atol=1e-11)


@settings(deadline=None, max_examples=60)
@given(st.integers(3, 16), st.integers(3, 16), st.integers(0, 9), st.integers(0, 9))
def test_up_and_down_is_the_identity_for_any_values(h, w, more_h, more_w):
    coarse, fine = Grid((h, w)), Grid((h + more_h, w + more_w))
    values = np.random.default_rng(1).normal(size=(2, h, w))
    there = resample(values, coarse, fine)
    assert there.dtype == np.float64
    np.testing.assert_allclose(resample(there, fine, coarse), values, atol=1e-12)


@pytest.mark.parametrize("n", [8, 9])
def test_doubling_passes_through_the_given_values(n):
    """With the Nyquist mode as a cosine, the interpolant is real and keeps the samples it was given."""
    values = np.random.default_rng(2).normal(size=(n, n))
    np.testing.assert_allclose(
        resample(values, Grid((n, n)), Grid((2 * n, 2 * n)))[::2, ::2], values, atol=1e-13
    )


def test_halving_averages_instead_of_striding():
    grid = Grid((16,))
    values = np.cos(2 * np.pi * 6 * grid.coordinates[0])
    np.testing.assert_allclose(resample(values, grid, Grid((8,))), 0, atol=1e-14)
    assert np.abs(values[::2]).max() > 0.9


@pytest.mark.parametrize(("method", "degree"), [("linear", 1), ("cubic", 3)])
@pytest.mark.parametrize("location", ["node", "cell"])
def test_interpolation_is_exact_for_polynomials(method, degree, location):
    source = Grid((11, 9), lengths=(1.0, 2.0), periodic=False, location=location)
    target = Grid((14, 30), lengths=(1.0, 2.0), periodic=False)
    p = lambda grid: np.add.outer(grid.coordinates[0] ** degree, -2 * grid.coordinates[1] ** degree)  # noqa: E731
    np.testing.assert_allclose(resample(p(source), source, target, method=method), p(target), atol=1e-12)


@pytest.mark.parametrize(("method", "order"), [("linear", 2), ("cubic", 4)])
def test_interpolation_converges(method, order):
    target = Grid((301,), periodic=False)
    f = lambda grid: np.exp(np.sin(5 * grid.coordinates[0]))  # noqa: E731
    errors = []
    for n in (40, 80):
        source = Grid((n + 1,), periodic=False)
        errors.append(np.abs(resample(f(source), source, target, method=method) - f(target)).max())
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.3)


def test_axes_are_treated_by_their_kind_and_others_left_alone():
    source, target = Grid((16, 9), periodic=(True, False)), Grid((24, 17), periodic=(True, False))
    f = lambda g: np.multiply.outer(np.sin(2 * np.pi * g.coordinates[0]), 1 + g.coordinates[1])  # noqa: E731
    batch = np.stack([f(source), 2 * f(source)])[:, None]
    out = resample(batch, source, target)
    np.testing.assert_allclose(out[1, 0], 2 * f(target), atol=1e-12)


def test_tensors_are_differentiable_and_complex_values_linear():
    source, target = Grid((6, 8)), Grid((9, 5))
    x = torch.randn(2, 6, 8, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda v: resample(v, source, target), x)
    z = torch.randn(6, 8, dtype=torch.complex128)
    out = resample(z, source, target)
    torch.testing.assert_close(out.imag, resample(z.imag.clone(), source, target))
    assert resample(x.detach().float(), source, target).dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Grid((4, 4), lengths=(1.0,)), "one entry per axis"),
        (lambda: Grid((1,), periodic=False), "too small"),
        (lambda: Grid((4,), lengths=-1.0), "positive and finite"),
        (lambda: Grid((4,), location="face"), "'node' or 'cell'"),
        (lambda: Grid((4,), periodic=False).wavenumbers(0), "not periodic"),
        (lambda: Grid.from_coordinates(np.array([0.0, 1.0, 3.0])), "not increasing and uniform"),
        (lambda: Grid.from_coordinates(np.zeros((2, 2))), "1-D array of at least 2"),
        (lambda: Grid.from_coordinates(np.arange(4.0)[::-1]), "not increasing"),
        (lambda: Grid.from_coordinates(), "at least one axis"),
        (lambda: resample(np.zeros((4, 4)), Grid((4, 5)), Grid((4, 4))), r"\(4, 4\) do not end in"),
        (lambda: resample(np.zeros(4), Grid((4,)), Grid((4,), lengths=2.0)), "one domain"),
        (lambda: resample(np.zeros(4), Grid((4,)), Grid((8,)), method="spline"), "one of 'linear', 'cubic'"),
    ],
)
def test_bad_input_is_explained(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_integers_are_refused():
    with pytest.raises(TypeError, match="floating point or complex values, got int64"):
        resample(np.zeros(4, dtype=np.int64), Grid((4,)), Grid((8,)))
