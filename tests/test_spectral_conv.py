"""The spectral convolution is one operator on functions, whatever grid they are sampled on."""

import itertools
import warnings

import numpy as np
import pytest
import torch

from opflow.nn import SpectralConv, fourier_resample, spectral


@pytest.fixture(params=["product", "fft"])
def path(request, monkeypatch):
    """Run a test by matrix products and by FFT."""
    monkeypatch.setattr(spectral, "_MAX_MODES_FOR_PRODUCT", 10**6 if request.param == "product" else 0)
    return request.param


def identity(channels, n_modes, **options):
    conv = SpectralConv(channels, channels, n_modes, bias=False, **options)
    weight = torch.zeros_like(conv.dense_weight())
    for c in range(channels):
        weight[c, c] = 1
    conv.load_dense_weight(weight)
    return conv


def band_limited(grids, band, seed=0, complex_data=False):
    """Return one random field with modes |k| <= band per axis, sampled on each of `grids`."""
    rng = np.random.default_rng(seed)
    n_dim = len(grids[0])
    terms = [
        (k, rng.standard_normal() + 1j * rng.standard_normal())
        for k in itertools.product(range(-band, band + 1), repeat=n_dim)
    ]
    fields = []
    for grid in grids:
        points = np.meshgrid(*(np.arange(n) / n for n in grid), indexing="ij")
        field = sum(c * np.exp(2j * np.pi * sum(k_i * x for k_i, x in zip(k, points))) for k, c in terms)
        fields.append(torch.from_numpy(field if complex_data else field.real)[None, None])
    return fields


def reference(conv, x, out_grid):
    """Evaluate the definition mode by mode in complex numpy: y(k) = sum_i W_io(k) x_i(k), real part."""
    x = x.numpy()
    grid, n_dim = x.shape[2:], x.ndim - 2
    weight, bias = conv.dense_weight().detach().numpy(), conv.bias.detach().numpy()
    y = np.zeros((len(x), conv.out_channels, *out_grid), complex)
    ranges = [range(-(m // 2), m - m // 2) for m in conv.n_modes]
    if not conv.complex_data:
        ranges[-1] = range(conv.n_modes[-1] // 2 + 1)
    points = np.meshgrid(*map(np.arange, grid), indexing="ij")
    out_points = np.meshgrid(*map(np.arange, out_grid), indexing="ij")
    for index in np.ndindex(*map(len, ranges)):
        k = [r[i] for r, i in zip(ranges, index)]
        limits = [min(n, m) for n, m in zip(grid, out_grid)]
        same = [n == m for n, m in zip(grid, out_grid)]
        last = n_dim - 1
        # A Nyquist mode counts on equal grids only, once: as -n/2, or n/2 in the half spectrum.
        if any(
            2 * abs(q) > n or (2 * abs(q) == n and (not s or (q > 0 and (conv.complex_data or axis < last))))
            for axis, (q, n, s) in enumerate(zip(k, limits, same))
        ):
            continue
        wave = np.exp(-2j * np.pi * sum(q * p / n for q, p, n in zip(k, points, grid)))
        coefficient = (x * wave).mean(axis=tuple(range(2, x.ndim)))
        w = weight[(slice(None), slice(None), *index)]
        out_wave = np.exp(2j * np.pi * sum(q * p / n for q, p, n in zip(k, out_points, out_grid)))
        if not conv.complex_data and 0 < k[-1] and not (2 * k[-1] == out_grid[-1] and same[-1]):
            out_wave = 2 * out_wave  # the conjugate mode, whose imaginary part cancels
        y += (coefficient @ w)[(...,) + (None,) * n_dim] * out_wave
    y = y if conv.complex_data else y.real
    return torch.from_numpy(y + bias[:, *(None,) * n_dim])


CASES = [  # n_modes, grid, out_grid
    ((6,), (9,), (9,)),
    ((6,), (6,), (6,)),
    ((7,), (5,), (12,)),
    ((4, 6), (8, 11), (8, 11)),
    ((8, 8), (8, 8), (8, 8)),
    ((8, 8), (6, 4), (6, 4)),
    ((8, 8), (6, 5), (12, 9)),
    ((5, 7), (13, 12), (6, 7)),
    ((4, 2, 6), (5, 4, 6), (5, 4, 6)),
    ((4, 4, 4), (6, 5, 7), (8, 3, 6)),
]


@pytest.mark.parametrize("complex_data", [False, True])
@pytest.mark.parametrize("n_modes, grid, out_grid", CASES)
def test_agrees_with_the_definition(n_modes, grid, out_grid, complex_data, path):
    torch.manual_seed(0)
    conv = SpectralConv(2, 3, n_modes, complex_data=complex_data).double()
    x = torch.randn(1, 2, *grid, dtype=torch.complex128 if complex_data else torch.float64)
    y = conv(x, out_grid)
    assert y.shape == (1, 3, *out_grid) and y.is_complex() == complex_data
    torch.testing.assert_close(y, reference(conv, x, out_grid), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("grid", [(33,), (33, 33), (33, 20), (9, 8, 7)])
def test_identity_weights_are_the_identity_on_odd_grids(grid, path):
    (x,) = band_limited([grid], band=3)
    torch.testing.assert_close(identity(1, (8,) * len(grid)).double()(x), x, rtol=0, atol=1e-12)


def test_neuraloperator_is_wrong_on_odd_grids_and_when_resampling():
    """Hold the peer to the same tests, so that the claim is checked and noticed when it goes away."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from neuralop.layers.spectral_convolution import SpectralConv as Theirs
    theirs = Theirs(1, 1, (8, 8), bias=False)
    theirs.weight.tensor.data.fill_(1)
    even, odd, double = (t.float() for t in band_limited([(32, 32), (33, 33), (64, 64)], band=3))
    assert (theirs(even) - even).norm() / even.norm() < 1e-5
    assert (theirs(odd) - odd).norm() / odd.norm() > 0.5
    assert (theirs(even, output_shape=(64, 64)) - double).norm() / double.norm() > 0.5


@pytest.mark.parametrize("complex_data", [False, True])
@pytest.mark.parametrize("grid, out_grid", [((12, 15), (24, 15)), ((24, 15), (12, 9)), ((9, 9), (16, 31))])
def test_resampling_outputs_are_exact(grid, out_grid, complex_data, path):
    x, y = band_limited([grid, out_grid], band=3, complex_data=complex_data)
    conv = identity(1, (8, 8), complex_data=complex_data).double()
    torch.testing.assert_close(conv(x, out_grid), y, rtol=0, atol=1e-12)
    if not complex_data:
        torch.testing.assert_close(fourier_resample(x, out_grid), y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [-3, -1, 0, 1, 3])
def test_complex_data_keeps_low_modes_of_both_signs(k, path):
    wave = torch.exp(2j * torch.pi * k * torch.arange(32, dtype=torch.float64) / 32).expand(1, 1, 32, 32)
    conv = identity(1, (8, 8), complex_data=True).double()
    torch.testing.assert_close(conv(wave), wave, rtol=0, atol=1e-12)


def test_the_same_weights_are_the_same_operator_on_every_grid(path):
    torch.manual_seed(0)
    conv = SpectralConv(1, 2, (12, 12)).double()
    grids = [(24, 24), (32, 33), (33, 32), (48, 25)]
    fields = band_limited(grids, band=8)
    out = [conv(x, (48, 48)) for x in fields]  # on one grid, to be compared
    for y in out[1:]:
        torch.testing.assert_close(y, out[0], rtol=0, atol=1e-12)
    for x, grid in zip(fields, grids):  # and on its own grid: the same function again
        torch.testing.assert_close(conv(x)[..., 0, 0], out[0][..., 0, 0], rtol=0, atol=1e-12)
        torch.testing.assert_close(conv(x), fourier_resample(out[0], grid), rtol=0, atol=1e-11)


@pytest.mark.parametrize("grid", [(8, 8), (6, 8), (8, 6), (5, 7), (4, 4), (2, 2), (1, 3), (16, 9)])
def test_products_and_ffts_agree_on_zero_and_nyquist_columns(grid, monkeypatch):
    torch.manual_seed(0)
    conv = SpectralConv(2, 2, (8, 8)).double()
    x = torch.randn(2, 2, *grid, dtype=torch.float64)
    by_path = []
    for limit in (0, 10**6):
        monkeypatch.setattr(spectral, "_MAX_MODES_FOR_PRODUCT", limit)
        by_path.append(conv(x))
    torch.testing.assert_close(*by_path, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "n_modes, grid", [((6,), (9,)), ((8, 8), (8, 8)), ((6, 4), (7, 10)), ((4, 4, 4), (4, 5, 6))]
)
def test_conjugate_transposed_weights_are_the_adjoint(n_modes, grid, path):
    torch.manual_seed(0)
    conv = SpectralConv(2, 3, n_modes, bias=False).double()
    adjoint = SpectralConv(3, 2, n_modes, bias=False).double()
    adjoint.load_dense_weight(conv.dense_weight().transpose(0, 1).conj())
    x, y = torch.randn(1, 2, *grid).double(), torch.randn(1, 3, *grid).double()
    torch.testing.assert_close((conv(x) * y).sum(), (x * adjoint(y)).sum(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("grid", [(16,), (9, 14), (6, 7, 8)])
def test_commutes_with_translations(grid, path):
    torch.manual_seed(0)
    conv = SpectralConv(2, 2, (4,) * len(grid)).double()
    x = torch.randn(1, 2, *grid).double()
    shifts, axes = tuple(range(1, len(grid) + 1)), tuple(range(2, len(grid) + 2))
    moved = conv(x.roll(shifts, axes))
    torch.testing.assert_close(moved, conv(x).roll(shifts, axes), rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"separable": True}, {"complex_data": True}])
def test_first_and_second_derivatives(options, path):
    torch.manual_seed(0)
    conv = SpectralConv(2, 2, (4, 3), **options).double()
    dtype = torch.complex128 if conv.complex_data else torch.float64
    x = torch.randn(1, 2, 4, 5, dtype=dtype, requires_grad=True)

    def apply(x, weight, bias):
        return torch.func.functional_call(conv, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(apply, (x, conv.weight, conv.bias))
    assert torch.autograd.gradgradcheck(apply, (x, conv.weight, conv.bias))


@pytest.mark.parametrize("separable", [False, True])
@pytest.mark.parametrize("n_modes", [(5,), (4, 6), (3, 4, 2)])
def test_dense_weights_round_trip(n_modes, separable):
    conv = SpectralConv(3, 3 if separable else 2, n_modes, separable=separable)
    weight = torch.randn_like(conv.dense_weight())
    assert weight.shape[-len(n_modes) :] == (*n_modes[:-1], n_modes[-1] // 2 + 1)
    conv.load_dense_weight(weight)
    torch.testing.assert_close(conv.dense_weight(), weight, rtol=0, atol=0)


def test_separable_is_a_diagonal_matrix_per_mode(path):
    torch.manual_seed(0)
    separable, full = SpectralConv(3, 3, (4, 4), separable=True), SpectralConv(3, 3, (4, 4))
    full.load_dense_weight(
        torch.diag_embed(separable.dense_weight().movedim(0, -1)).movedim((-2, -1), (0, 1))
    )
    full.bias = separable.bias
    x = torch.randn(2, 3, 9, 8)
    torch.testing.assert_close(separable(x), full(x))


@pytest.mark.parametrize("factorization", ["tucker", "cp", "tt"])
def test_factorised_weights_act_as_the_dense_weight_they_stand_for(factorization):
    torch.manual_seed(0)
    factorised = SpectralConv(3, 2, (4, 6), factorization=factorization, rank=0.5)
    dense = SpectralConv(3, 2, (4, 6))
    dense.load_dense_weight(factorised.dense_weight().detach())
    dense.bias = factorised.bias
    x = torch.randn(2, 3, 9, 8)
    torch.testing.assert_close(factorised(x), dense(x))
    y = factorised(x)
    factorised.to(torch.float64).to(torch.float32)  # complex factors keep their imaginary parts
    assert torch.equal(factorised(x), y)


def test_modes_beyond_those_in_use_do_not_matter():
    torch.manual_seed(0)
    few, held = SpectralConv(1, 1, (4, 4)), SpectralConv(1, 1, (4, 4), max_n_modes=(8, 8))
    weight = torch.randn_like(held.dense_weight())
    held.load_dense_weight(weight)
    few.load_dense_weight(weight[..., 2:6, :3])
    few.bias = held.bias
    x = torch.randn(2, 1, 12, 11)
    torch.testing.assert_close(held(x), few(x))


def test_errors_name_the_remedy():
    with pytest.raises(ValueError, match="in_channels=2 must equal out_channels=3"):
        SpectralConv(2, 3, (4,), separable=True)
    with pytest.raises(ValueError, match=r"at least 1 per axis, got \(4, 0\)"):
        SpectralConv(2, 3, (4, 0))
