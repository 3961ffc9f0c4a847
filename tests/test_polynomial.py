"""Alias-free layers: products in a band, one operator on every grid."""

import json

import pytest
import torch

from opflow import FNO, build, export, interop, load
from opflow.kernels import dft
from opflow.metrics import grid_shift_error
from opflow.nn import PolynomialBlock, fourier_resample
from opflow.nn.polynomial import band_slots, hermitian, mean_square

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


def polynomial(n_modes=(7, 6), seed=0, **options):
    torch.manual_seed(seed)
    arguments = {"in_channels": 2, "out_channels": 3, "hidden_channels": 8, "n_layers": 3} | options
    return FNO(n_modes, **arguments, non_linearity="polynomial", project=True)


def noise(*shape, dtype=torch.float64, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def translated(u, shift):
    """Move a band-limited field by any vector, by its Fourier series."""
    axes = tuple(range(2, u.ndim))
    phase = torch.zeros(u.shape[2:], dtype=torch.float64)
    for axis, by in enumerate(shift):
        k = torch.fft.fftfreq(u.shape[2 + axis], 1 / u.shape[2 + axis], dtype=torch.float64)
        phase = phase + (k * by).view(-1, *(1,) * (len(shift) - 1 - axis))
    return torch.fft.ifftn(torch.fft.fftn(u, dim=axes) * torch.exp(-2j * torch.pi * phase), dim=axes).real


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("n_modes", [(9,), (7, 6), (5, 3, 4)])
@pytest.mark.parametrize("positional_embedding", ["grid", None])
def test_one_operator_on_every_grid(n_modes, positional_embedding, dtype):
    model = polynomial(n_modes, positional_embedding=positional_embedding).to(dtype)
    model.normalizer.set([1, 2], [0.5, 2], [3, 4, 5], [1, 2, 3])
    fine = (32, 27, 20)[: len(n_modes)]
    x = noise(2, 2, *fine, dtype=dtype)  # with modes beyond the band, which no grid may show
    y = model(x)
    for n in (9, 10, 13, 16):
        grid = tuple(min(n + axis, size) for axis, size in enumerate(fine))
        assert grid_shift_error(model, x, grid).max() <= TOLERANCE[dtype]
        torch.testing.assert_close(
            model(x, out_grid=grid), fourier_resample(y, grid), rtol=0, atol=20 * TOLERANCE[dtype]
        )


def test_the_band_is_all_that_comes_out():
    model = polynomial((7, 6))  # modes up to 3 and 2
    spectrum = torch.fft.fft2(model.double()(noise(1, 2, 16, 17)), norm="forward")
    beyond = spectrum.clone()
    beyond[..., [-3, -2, -1, 0, 1, 2, 3], :] = 0
    assert beyond.abs().max() < 1e-14
    assert spectrum[..., 3:14].abs().max() > 1e-3 or spectrum[..., 2, :3].abs().max() > 1e-3


@pytest.mark.parametrize("n_modes", [(9,), (7, 6)])
def test_commutes_with_every_translation_not_only_those_of_the_grid(n_modes):
    model = polynomial(n_modes, positional_embedding=None).double()
    x = noise(2, 2, *(12, 15)[: len(n_modes)])
    shift = (0.0123, 0.31)[: len(n_modes)]
    torch.testing.assert_close(model(translated(x, shift)), translated(model(x), shift), rtol=0, atol=1e-12)


def test_the_positional_embedding_breaks_that():
    model = polynomial().double()
    x = noise(1, 2, 12, 15)
    assert (model(x.roll(1, 2)) - model(x).roll(1, 2)).abs().max() > 1e-3


@pytest.mark.parametrize("degree", [2, 3, 4])
@pytest.mark.parametrize("n_modes", [(7,), (5, 7), (3, 3, 5)])
def test_the_block_is_its_formula(degree, n_modes):
    """Against products on a fine grid, followed by an ideal low-pass filter."""
    torch.manual_seed(0)
    block = PolynomialBlock(3, n_modes, degree, hidden_channels=2).double()
    fine = tuple(degree * n + 3 for n in n_modes)

    def project(u):
        return fourier_resample(fourier_resample(u, n_modes), u.shape[2:])

    def linear(u, layer):
        y = torch.einsum("oi,bi...->bo...", layer.weight, u)
        return y if layer.bias is None else y + layer.bias.view(-1, *(1,) * (u.ndim - 2))

    u = noise(2, 3, *fine)
    z = project(block.conv(u) + linear(project(u), block.skip))
    product = torch.ones(())
    for factor in linear(z, block.factors).chunk(degree, 1):
        product = product * factor
    rho = (1 + z.square().mean(tuple(range(1, z.ndim)), keepdim=True)).sqrt()
    expected = z + linear(project(product) / rho ** (degree - 1), block.last)
    torch.testing.assert_close(block(u), expected, rtol=0, atol=1e-12)


def test_fewer_points_than_the_bound_would_alias():
    """The bound (d+1)K+1 is sharp: with a point less, the mode 2K of a product comes back as -K."""
    k, d = 3, 2
    for n, exact in (((d + 1) * k + 1, True), ((d + 1) * k, False)):
        x = 2 * torch.pi * torch.arange(n, dtype=torch.float64) / n
        square = torch.cos(k * x).square().view(1, n, 1)  # 1/2 + cos(2 K x) / 2
        coefficients = dft.analyse(square, band_slots((k,), (n,)))[0, 0, :, 0]
        assert (coefficients[k].abs() < 1e-14) == exact


@pytest.mark.parametrize("grid", [(9,), (8, 7), (7, 5, 6)])
def test_parseval_and_hermitian_symmetry(grid):
    highest = (2,) * len(grid)
    slots = band_slots(highest, grid)
    y = noise(2, 2, 5 ** (len(grid) - 1) * 3, 4)
    real = dft.analyse(dft.synthesise(y, slots, grid), slots)
    torch.testing.assert_close(hermitian(y, slots), real, rtol=0, atol=1e-13)
    u = dft.synthesise(y, slots, grid)
    torch.testing.assert_close(mean_square(real, slots), u.square().flatten(1).mean(1), rtol=1e-12, atol=0)


def test_small_fields_see_a_polynomial_and_large_ones_grow_linearly():
    block = PolynomialBlock(4, (5, 5)).double()
    with torch.no_grad():
        block.conv.bias.zero_()
        block.factors.bias.zero_()
    u = noise(1, 4, 8, 8)
    block.requires_grad_(False)
    linear = block(1e-6 * u) / 1e-6
    small = [((block(t * u) / t) - linear).norm() / t for t in (1e-3, 1e-4)]
    assert small[0] == pytest.approx(small[1].item(), rel=0.02)
    large = [block(t * u) / t for t in (1e4, 1e6)]
    torch.testing.assert_close(large[0], large[1], rtol=1e-6, atol=1e-6)


def test_deep_networks_neither_blow_up_nor_vanish():
    for n_layers in (2, 8, 16):
        y = polynomial((9, 9), hidden_channels=24, n_layers=n_layers)(noise(2, 2, 16, 16).float())
        assert 0.02 < y.std() < 1000


def test_derivatives():
    model = polynomial((3, 4), hidden_channels=3, n_layers=2).double()
    x = noise(1, 2, 5, 6).requires_grad_()
    assert torch.autograd.gradcheck(model, (x,), nondet_tol=1e-10)
    assert torch.autograd.gradgradcheck(model, (x,), nondet_tol=1e-10)


def test_every_parameter_trains():
    for options in ({}, {"factorization": "tucker", "rank": 0.5}, {"channel_mlp_expansion": 1.0}):
        model = polynomial(**options)
        model(noise(2, 2, 9, 8).float()).square().sum().backward()
        assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]


def test_saved_exported_and_compiled(tmp_path):
    model = polynomial().eval()
    model.save_pretrained(tmp_path)
    x = noise(2, 2, 9, 8).float()
    assert torch.equal(load(tmp_path)(x), model(x))
    again = build("FNO", **json.loads(json.dumps(model.config)))
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), model(x))
    torch._dynamo.reset()
    assert torch._dynamo.explain(model)(x).graph_break_count == 0
    torch._dynamo.reset()
    export.to_pt2(model, tmp_path / "m.pt2", torch.randn(3, 2, 12, 14))
    exported = export.load_pt2(tmp_path / "m.pt2")
    for shape in ((1, 2, 9, 17), (4, 2, 20, 10)):
        x = torch.randn(shape)
        torch.testing.assert_close(exported(x), model(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"project": False}, "project=False with non_linearity='polynomial' would alias"),
        ({"non_linearity": "gelu"}, "project=True with non_linearity='gelu' would alias: only products"),
        (
            {"norm": "instance_norm"},
            "norm='instance_norm' has no meaning for polynomial layers: leave it at None",
        ),
        ({"complex_data": True}, "complex_data=True has no meaning for polynomial layers"),
        ({"domain_padding": 0.1}, "domain_padding=0.1 has no meaning"),
        ({"use_channel_mlp": False}, "use_channel_mlp=False has no meaning"),
        ({"n_modes": (2, 4)}, r"n_modes=\(2, 4\) leaves an axis constants only"),
        ({"n_modes": (9, 4), "max_n_modes": (9, 8)}, r"max_n_modes=\(9, 8\) has no meaning"),
    ],
)
def test_combinations_without_meaning_are_refused(options, words):
    arguments = {"n_modes": (4, 4), "non_linearity": "polynomial", "project": True} | options
    with pytest.raises(ValueError, match=words):
        FNO(in_channels=1, out_channels=1, hidden_channels=4, **arguments)


def test_what_the_layers_cannot_do_is_said():
    with pytest.raises(ValueError, match="degree=1 makes no product"):
        PolynomialBlock(4, (5, 5), degree=1)
    model = polynomial((9, 9))
    with pytest.raises(
        ValueError, match=r"\(8, 12\) points does not resolve .* up to \(4, 4\).* \(9, 9\) points"
    ):
        model(torch.zeros(1, 2, 8, 12))
    with pytest.raises(ValueError, match=r"grid of \(8, 8\) points does not resolve"):
        model(torch.zeros(1, 2, 12, 12), out_grid=(8, 8))
    with pytest.raises(ValueError, match="polynomial layers cannot be converted"):
        interop.to_neuralop(model)
