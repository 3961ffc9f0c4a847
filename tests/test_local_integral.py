"""Local integral kernels on grids and point sets: limits, orders, adjoints, and equal methods."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial import Voronoi

from opflow.nn import local_integral
from opflow.nn.filter_bases import Morlet, PiecewiseLinear, Zernike, filter_basis
from opflow.nn.local_integral import GridSupport, IntegralConv, IntegralConvTranspose, costs
from opflow.nn.point_integral import PointIntegralConv, PointSupport

BASES = [PiecewiseLinear(2, 4), PiecewiseLinear(3, 1), PiecewiseLinear(4, 5), Morlet(2, 3), Zernike(4)]
LENGTHS, RADIUS = (1.0, 1.5), 0.21


def smooth(x, y):
    """A field of period (1, 1.5)."""
    a, b = 2 * math.pi * x, 2 * math.pi * y / 1.5
    return torch.exp(torch.sin(a) + 0.5 * torch.cos(b + 1)) + torch.sin(a + 2 * b)


def field(grid, periodic):
    axes = [
        torch.arange(n, dtype=torch.float64) * (length / (n if wraps else n - 1))
        for n, length, wraps in zip(grid, LENGTHS, periodic)
    ]
    return smooth(*torch.meshgrid(*axes, indexing="ij"))[None, None]


def all_functions(basis):
    """One output channel per function of the basis."""
    return torch.eye(len(basis), dtype=torch.float64)[:, None]


def conv(basis, weight, kind=IntegralConv, **options):
    first, second = (1, 0) if kind is IntegralConv else (0, 1)
    groups = options.get("groups", 1)
    sizes = [weight.shape[first] * (groups if first else 1), weight.shape[second] * (groups if second else 1)]
    layer = kind(*sizes, basis, **{"radius": RADIUS, "domain_length": LENGTHS, **options}).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
    return layer


@pytest.fixture
def method(monkeypatch):
    def choose(by_fft):
        monkeypatch.setattr(GridSupport, "prefers_fft", lambda *_: by_fft)

    return choose


# Bases.


@pytest.mark.parametrize("basis", BASES, ids=str)
def test_functions_of_a_basis_are_independent_and_scaled(basis):
    t = (torch.arange(400, dtype=torch.float64) + 0.5) / 200 - 1
    values = basis(*torch.meshgrid(t, t, indexing="ij")).flatten(1)
    assert len(values) == len(basis)
    torch.testing.assert_close(
        values.abs().sum(1) / 200**2, torch.ones(len(basis)).double(), rtol=4e-3, atol=0
    )
    assert torch.linalg.matrix_rank(values) == len(basis)
    outside = basis(*(torch.tensor([1.01, 0.8, -0.9], dtype=torch.float64),) * 2)
    assert (outside == 0).all()


def test_hats_add_up_to_one_inside():
    basis = PiecewiseLinear(3, 4)
    r = torch.linspace(0, 2 / 3, 9, dtype=torch.float64)[:, None]
    phi = torch.linspace(0, 6.2, 31, dtype=torch.float64)
    values = basis.shapes(r * phi.cos(), r * phi.sin())
    torch.testing.assert_close(values.sum(0), torch.ones(9, 31).double())


def test_zernike_polynomials_are_orthogonal():
    t = (torch.arange(600, dtype=torch.float64) + 0.5) / 300 - 1
    values = Zernike(4)(*torch.meshgrid(t, t, indexing="ij")).flatten(1)
    gram = values @ values.T
    scale = gram.diagonal().sqrt()
    assert (gram / scale / scale[:, None] - torch.eye(10)).abs().max() < 0.01


def test_unknown_bases_and_shapes_are_named():
    with pytest.raises(ValueError, match="disco_basis='wavelet' is not one of 'piecewise_linear', 'morlet'"):
        filter_basis("wavelet", (2, 2))
    with pytest.raises(
        ValueError, match=r"disco_kernel_shape=\(2, 4\) of a zernike basis needs positive \(degree,\)"
    ):
        filter_basis("zernike", (2, 4))
    with pytest.raises(ValueError, match=r"disco_kernel_shape=3 .* needs positive \(rings, angles\)"):
        filter_basis("piecewise_linear", 3)


# The limit.


@pytest.mark.parametrize("periodic", [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("basis", BASES, ids=str)
def test_refining_the_grid_converges(basis, periodic):
    """At second order, or 1.5 for functions that jump at the edge; within 2 % between 64 and 128."""
    layer = conv(basis, all_functions(basis), periodic=periodic)
    values = []
    for n in (32, 64, 128, 256):
        grid = [n if wraps else n + 1 for wraps in periodic]
        step = n // 32
        values.append(layer(field(grid, periodic))[0, :, ::step, ::step])
    change = [(a - b).flatten(1).norm(dim=1) for a, b in zip(values, values[1:])]
    scale = torch.linalg.norm(field((32, 32), (True, True)))
    assert (change[1] <= 0.02 * scale).all()
    total = [c.norm().item() for c in change]
    factor = 2.4 if isinstance(basis, Zernike) else 3.2
    assert total[0] > factor * total[1] > factor**2 * total[2], total
    assert change[1].norm() <= 0.02 * values[2].norm()


def test_the_limit_is_the_integral():
    """One hat over a plane wave: the Hankel transform of 1 - r / R, by quadrature."""
    layer = conv(PiecewiseLinear(1, 1), torch.ones(1, 1, 1), periodic=True)
    x, k = torch.arange(256, dtype=torch.float64) / 256, 2 * math.pi * 3
    y = layer(torch.cos(k * x)[:, None].expand(256, 64)[None, None])[0, 0, :, 5]
    r = (np.arange(20000) + 0.5) / 20000
    from scipy.special import j0

    transform = np.sum((1 - r) * r * j0(k * RADIUS * r)) / np.sum((1 - r) * r)
    torch.testing.assert_close(y, transform * torch.cos(k * x), rtol=0, atol=3e-4)


@pytest.mark.parametrize("n", [4, 5])
def test_the_integral_survives_grids_coarser_than_its_radius(n):
    """Cell averages keep the mass of a kernel that lies between the points, and each weight at work."""
    basis = PiecewiseLinear(2, 4)
    layer = conv(basis, all_functions(basis), radius=0.1, domain_length=1.0)
    y = layer(torch.ones(1, 1, n, n, dtype=torch.float64))
    torch.testing.assert_close(y, torch.ones_like(y), rtol=0.25, atol=0)


def voronoi_weights(points, box):
    """Areas of the cells of points in a periodic box."""
    shifts = np.stack(np.meshgrid([0, -1, 1], [0, -1, 1], indexing="ij"), -1).reshape(-1, 2)
    copies = np.concatenate([points + shift * box for shift in shifts])
    near = ((copies > -0.25) & (copies < np.asarray(box) + 0.25)).all(1)
    copies = copies[near]  # the points themselves come first
    cells = Voronoi(copies)
    areas = []
    for index in cells.point_region[: len(points)]:
        x, y = cells.vertices[cells.regions[index]].T
        angle = np.argsort(np.arctan2(y - y.mean(), x - x.mean()))
        x, y = x[angle], y[angle]
        areas.append(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)
    return np.array(areas)


@pytest.mark.parametrize("basis, first", [(PiecewiseLinear(2, 4), 400), (Zernike(3), 3600)], ids=str)
def test_random_points_with_voronoi_weights_tend_to_the_same_limit(basis, first):
    """To within 2 %; functions that jump at the edge need more points for it."""
    weight = all_functions(basis)
    queries = torch.tensor(
        [[i / 16, j * 1.5 / 16] for i in range(16) for j in range(16)], dtype=torch.float64
    )
    limit = conv(basis, weight)(field((256, 256), (True, True)))[0, :, ::16, ::16].flatten(1).T
    layer = PointIntegralConv(1, len(basis), basis).double()
    with torch.no_grad():
        layer.weight.copy_(weight)
    errors = []
    for count in (first, 9 * first):
        points = np.random.default_rng(0).random((count, 2)) * LENGTHS
        areas = voronoi_weights(points, LENGTHS)
        assert abs(areas.sum() - 1.5) < 1e-9
        support = PointSupport(basis, RADIUS, points, areas, queries, box=LENGTHS)
        y = layer(smooth(*torch.from_numpy(points).T)[None, :, None], support)[0]
        errors.append(((y - limit).norm() / limit.norm()).item())
    assert errors[1] <= 0.02 and errors[1] < errors[0] / 3, errors  # spacing falls threefold


# Methods.

GRIDS = [
    ((16, 24), (True, True)),
    ((17, 24), (False, True)),
    ((21, 13), (False, False)),
    ((9, 31), (True, True)),
]


@pytest.mark.parametrize("groups, channels", [(1, (3, 2)), (3, (3, 3)), (2, (4, 2))])
@pytest.mark.parametrize("grid, periodic", GRIDS)
def test_direct_and_fft_convolutions_agree(grid, periodic, groups, channels, method):
    for kind in (IntegralConv, IntegralConvTranspose):
        layer = kind(
            *channels, Zernike(3), radius=RADIUS, domain_length=LENGTHS, periodic=periodic, groups=groups
        )
        x = torch.randn(2, channels[0], *grid, dtype=torch.float64)
        method(by_fft=False)
        direct = layer.double()(x)
        method(by_fft=True)
        torch.testing.assert_close(layer(x), direct, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "stride, grid, periodic", [(2, (16, 24), (True, True)), (3, (16, 24), (False, True))]
)
def test_strided_forms_agree_and_are_samples(stride, grid, periodic, method):
    options = dict(radius=RADIUS, domain_length=LENGTHS, periodic=periodic)
    full, strided = (IntegralConv(2, 3, BASES[0], stride=s, **options).double() for s in (1, stride))
    strided.load_state_dict(full.state_dict())
    x = torch.randn(1, 2, *grid, dtype=torch.float64)
    expected = full(x)[..., ::stride, ::stride]
    for by_fft in (False, True):
        method(by_fft)
        torch.testing.assert_close(strided(x), expected, rtol=0, atol=1e-12)


def quadrature(grid, periodic):
    axes = []
    for n, length, wraps in zip(grid, LENGTHS, periodic):
        w = torch.full((n,), length / (n if wraps else n - 1), dtype=torch.float64)
        if not wraps:
            w[0] /= 2
            w[-1] /= 2
        axes.append(w)
    return axes[0][:, None] * axes[1]


@pytest.mark.parametrize("by_fft", [False, True])
@pytest.mark.parametrize("groups, channels", [(1, (3, 2)), (2, (4, 2)), (3, (3, 3))])
@pytest.mark.parametrize(
    "stride, grid, periodic",
    [
        (1, (9, 8), (True, False)),
        (2, (16, 12), (True, True)),
        (2, (17, 12), (False, True)),
        (3, (16, 22), (False, False)),
        (4, (8, 8), (True, True)),
    ],
)
def test_the_transposed_form_is_the_adjoint(stride, grid, periodic, groups, channels, by_fft, method):
    method(by_fft)
    options = dict(radius=RADIUS, domain_length=LENGTHS, periodic=periodic, stride=stride, groups=groups)
    forward = IntegralConv(*channels, BASES[0], **options).double()
    back = IntegralConvTranspose(*channels[::-1], BASES[0], **options).double()
    back.load_state_dict(forward.state_dict())
    u = torch.randn(1, channels[0], *grid, dtype=torch.float64)
    image = forward(u)
    v = torch.randn_like(image)
    q, coarse = quadrature(grid, periodic), quadrature(image.shape[2:], periodic)
    left, right = (coarse * image * v).sum(), (q * u * back(v)).sum()
    assert back(v).shape == u.shape
    torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("basis", BASES, ids=str)
def test_the_sparse_product_is_the_direct_convolution(basis, monkeypatch):
    """On a grid given as points; the points have no cells, so the grid must not average over them either."""
    monkeypatch.setattr(local_integral, "_SAMPLES", 1)
    local_integral._cached_samples.cache_clear()
    grid = (12, 19)
    layer = IntegralConv(2, 4, basis, radius=RADIUS, domain_length=LENGTHS, groups=2).double()
    x = torch.randn(2, 2, *grid, dtype=torch.float64)
    axes = [torch.arange(n, dtype=torch.float64) * (length / n) for n, length in zip(grid, LENGTHS)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 1)
    areas = torch.full((len(points),), math.prod(LENGTHS) / len(points), dtype=torch.float64)
    sparse = PointIntegralConv(2, 4, basis, groups=2).double()
    sparse.load_state_dict(layer.state_dict())
    y = sparse(x.flatten(2).mT, PointSupport(basis, RADIUS, points, areas, box=LENGTHS))
    torch.testing.assert_close(y.mT.unflatten(2, grid), layer(x), rtol=0, atol=1e-11)
    local_integral._cached_samples.cache_clear()


def test_the_cheaper_method_is_chosen():
    """Where one of them is several times faster on a CPU: measured, channels mixed and apart."""
    for weights, groups in (((16, 16, 5), 1), ((32, 1, 5), 32)):
        sizes = dict(batch=8, grid=(64, 64), padded=(64, 64), weights=weights, stride=1, groups=groups)
        direct, by_fft = costs(kernel=(3, 3), **sizes)
        assert direct < by_fft
        direct, by_fft = costs(kernel=(17, 17), **sizes)
        assert direct > 5 * by_fft


def test_large_kernels_take_the_fft():
    layer = IntegralConv(4, 4, PiecewiseLinear(3, 4), radius=0.2)
    x = torch.randn(1, 4, 128, 128)
    assert layer.support.prefers_fft(1, (128, 128), layer.weight, 1, 1)
    assert not layer.support.prefers_fft(1, (8, 8), layer.weight, 1, 1)
    assert layer(x).shape == x.shape


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("by_fft", [False, True])
def test_commutes_with_translations_on_periodic_axes(dtype, tolerance, by_fft, method):
    method(by_fft)
    layer = IntegralConv(2, 3, Morlet(2, 2), radius=0.4, domain_length=LENGTHS, periodic=(True, False)).to(
        dtype
    )
    x = torch.randn(2, 2, 14, 9, dtype=dtype)
    a, b = layer(x.roll(5, -2)), layer(x).roll(5, -2)
    assert (a - b).norm() <= tolerance * b.norm()


# Derivatives and weights.


@pytest.mark.parametrize("by_fft", [False, True])
@pytest.mark.parametrize("kind", [IntegralConv, IntegralConvTranspose])
@pytest.mark.parametrize("periodic", [True, False])
def test_gradients(kind, periodic, by_fft, method):
    method(by_fft)
    layer = kind(2, 2, BASES[0], radius=0.3, periodic=periodic, stride=2).double()
    n = 4 if periodic else 5
    x = torch.randn(1, 2, n, n, dtype=torch.float64, requires_grad=True)

    def apply(x, weight):
        return torch.func.functional_call(layer, {"weight": weight}, x)

    assert torch.autograd.gradcheck(apply, (x, layer.weight))


@pytest.mark.parametrize("grid", [(8, 8), (16, 31), (64, 64)])
@pytest.mark.parametrize("basis", BASES, ids=str)
def test_every_weight_receives_a_gradient(basis, grid):
    layer = IntegralConv(2, 3, basis, radius=RADIUS, domain_length=LENGTHS)
    layer(torch.randn(2, 2, *grid)).square().sum().backward()
    sizes = layer.weight.grad.abs()
    assert (sizes > 1e-6 * sizes.max()).all()


def test_gradients_of_the_sparse_product():
    points = torch.rand(12, 2, dtype=torch.float64)
    weights = torch.rand(12, dtype=torch.float64) + 0.1
    support = PointSupport(BASES[0], 0.4, points, weights, points[:5], torch.ones(5), box=(1.0, 1.0))
    for transposed in (False, True):
        layer = PointIntegralConv(2, 2, BASES[0], transposed=transposed).double()
        x = torch.randn(1, 5 if transposed else 12, 2, dtype=torch.float64, requires_grad=True)

        def apply(x, weight, layer=layer):
            return torch.func.functional_call(layer, {"weight": weight}, (x, support))

        assert torch.autograd.gradcheck(apply, (x, layer.weight))
        assert torch.autograd.gradgradcheck(apply, (x, layer.weight))


@pytest.mark.parametrize("groups, channels", [(1, (3, 2)), (2, (4, 2)), (3, (3, 3))])
def test_the_transposed_point_layer_is_the_adjoint(groups, channels):
    rng = np.random.default_rng(1)
    points, queries = rng.random((80, 2)), rng.random((30, 2))
    q, coarse = (torch.from_numpy(rng.random(n) + 0.1) for n in (80, 30))
    support = PointSupport(BASES[0], 0.3, points, q, queries, coarse)
    forward = PointIntegralConv(*channels, BASES[0], groups=groups).double()
    back = PointIntegralConv(*channels[::-1], BASES[0], groups=groups, transposed=True).double()
    back.load_state_dict(forward.state_dict())
    u, v = torch.randn(2, 80, channels[0]).double(), torch.randn(2, 30, channels[1]).double()
    left = (coarse[:, None] * forward(u, support) * v).sum()
    right = (q[:, None] * u * back(v, support)).sum()
    torch.testing.assert_close(left, right, rtol=1e-12, atol=0)


@pytest.mark.parametrize("basis", BASES, ids=str)
def test_the_matrices_on_points_hold_the_basis_at_every_offset(basis):
    """Entry by entry against all pairs, and the one matrix is the transpose of the other."""
    points, queries = np.random.default_rng(0).random((2, 40, 2))
    queries = queries[:30]
    support = PointSupport(basis, 0.4, points, np.ones(40), queries)
    x, y = torch.from_numpy((points - queries[:, None]) / 0.4).unbind(-1)
    expected = basis(x, y).transpose(0, 1).flatten(0, 1) / 0.4**2
    torch.testing.assert_close(support.matrix.to_dense(), expected, rtol=0, atol=1e-12)
    assert torch.equal(support.adjoint.to_dense(), support.matrix.to_dense().T)


# Errors.


def test_what_does_not_fit_is_named():
    basis = BASES[0]
    with pytest.raises(
        ValueError, match="radius_cutoff=0.6 is more than half of the periodic axis of length 1"
    ):
        IntegralConv(1, 1, basis, radius=0.6)
    with pytest.raises(ValueError, match="stride=0 must be at least 1"):
        IntegralConv(1, 1, basis, radius=0.2, stride=0)
    layer = IntegralConv(1, 1, basis, radius=0.2, stride=3)
    with pytest.raises(
        ValueError, match=r"stride=3 does not divide the intervals \[8, 9\] of the grid \(8, 9\)"
    ):
        layer(torch.zeros(1, 1, 8, 9))
    with pytest.raises(ValueError, match=r"take \(batch, channel, n, m\), got shape \(1, 1, 8\)"):
        layer(torch.zeros(1, 1, 8))


def test_coordinates_that_round_to_the_end_of_a_periodic_box():
    """-1e-17 is the box size modulo the box, and the same place as 0."""
    points, areas = np.random.default_rng(0).random((40, 2)), torch.full((40,), 0.025)
    points[0] = [0.0, 0.4]
    off = points.copy()
    off[0, 0] = -1e-17
    a, b = (PointSupport(BASES[0], 0.2, at, areas, box=(1.0, 1.0)).matrix for at in (points, off))
    torch.testing.assert_close(a.to_dense(), b.to_dense(), rtol=0, atol=0)


def test_what_does_not_fit_points_is_named():
    basis, points, areas = BASES[0], torch.rand(20, 2), torch.full((20,), 0.05)
    with pytest.raises(
        ValueError, match=r"points must be finite coordinates \(n, 2\), got an array of shape \(20, 3"
    ):
        PointSupport(basis, 0.2, torch.rand(20, 3), areas)
    with pytest.raises(ValueError, match=r"weights needs one number per point, 20, got shape \(3,\)"):
        PointSupport(basis, 0.2, points, areas[:3])
    with pytest.raises(ValueError, match="radius=0.7 is more than half of the periodic box"):
        PointSupport(basis, 0.7, points, areas, box=(1.0, 1.0))
    support = PointSupport(basis, 0.2, points, areas, points[:4])
    layer = PointIntegralConv(1, 1, basis)
    with pytest.raises(
        ValueError, match=r"expected \(batch, 20, channels\), got a tensor of shape \(1, 19, 1\)"
    ):
        layer(torch.zeros(1, 19, 1), support)
    with pytest.raises(ValueError, match=r"use support.to\('cpu', torch.float32\)"):
        layer(torch.zeros(1, 20, 1), support)
    with pytest.raises(ValueError, match="the support has 5 functions and the layer 9"):
        PointIntegralConv(1, 1, PiecewiseLinear(3, 4))(torch.zeros(1, 20, 1), support)
    with pytest.raises(ValueError, match="give PointSupport query_weights"):
        PointIntegralConv(1, 1, basis, transposed=True)(torch.zeros(1, 4, 1).double(), support)
